"""Pictures of typical wins and failures, from the files that `table.py` made.

    python benchmarks/quality/pictures.py --data DATA --work runs/quality --output docs/images

Writes `wins.jpg` and `failures.jpg`: per row the photograph, the coarse mask, the refined mask and the truth, outlined.
Only photographs that may be shown are used: of coco-cc those under CC BY 2.0, named in `quality-attribution.md`, and nuclei
(CC0).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from table import ground_truth

from maskmend.models.training.coarse import KINDS
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.metrics import iou

CC_BY = 4
SIDE = 260


@dataclass
class Shown:
    """One refined instance: masks of the whole frame and what there is to say about it."""

    photograph: Path
    record: dict[str, Any]
    masks: tuple[Rle, Rle, Rle]
    before: float
    after: float
    kind: str


def candidates(name: str, data: Path, work: Path) -> list[Shown]:
    """Every changed instance of a set that may be shown."""
    truth, images = ground_truth(name, data, work, 4)
    coco = json.loads(truth.read_text())
    allowed = {i["id"]: i for i in coco["images"] if name != "coco-cc" or i["license"] == CC_BY}
    true = {annotation["id"]: annotation for annotation in coco["annotations"]}
    found = []
    for kind in KINDS:
        files = [json.loads((work / f"{name}-{kind}-{part}.json").read_text()) for part in ("coarse", "refined")]
        for before, after in zip(*files, strict=True):
            image = allowed.get(before["image_id"])
            if image is None or before["segmentation"] == after["segmentation"]:
                continue
            segmentation = true[before["annotation_id"]]["segmentation"]
            goal = as_rle(segmentation, height=image["height"], width=image["width"])
            masks = Rle.from_coco(before["segmentation"]), Rle.from_coco(after["segmentation"]), goal
            box = _around(masks, 2)
            b, a, t = (mask.crop(*box) for mask in masks)
            found.append(Shown(images / image["file_name"], image, masks, iou(b, t), iou(a, t), kind))
    return found


def _around(masks: tuple[Rle, ...], margin: int) -> tuple[int, int, int, int]:
    boxes = np.array([mask.bbox for mask in masks])
    (x0, y0), (x1, y1) = boxes[:, :2].min(0) - margin, (boxes[:, :2] + boxes[:, 2:]).max(0) + margin
    return int(x0), int(y0), int(x1), int(y1)


def choose(found: list[Shown], count: int, *, best: bool) -> list[Shown]:
    """The largest gains or losses, one per photograph."""
    ranked = sorted(found, key=lambda s: s.before - s.after if best else s.after - s.before)
    chosen: list[Shown] = []
    for shown in ranked:
        worth = shown.after > shown.before if best else shown.after < shown.before
        if worth and all(shown.photograph != other.photograph for other in chosen):
            chosen.append(shown)
    return chosen[:count]


def row(shown: Shown) -> NDArray[np.uint8]:
    """Four panels side by side, on the part where coarse and refined mask differ most."""
    x0, y0, x1, y1 = _around(shown.masks, 12)
    coarse, refined = (mask.crop(x0, y0, x1, y1) for mask in shown.masks[:2])
    side = min(max(coarse.shape), 150)
    differs = cv2.blur((coarse ^ refined).astype(np.float32), (side, side))
    cy, cx = (int(places.mean()) for places in np.nonzero(differs > 0.99 * differs.max()))
    picture = cv2.imread(str(shown.photograph), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    left = int(np.clip(x0 + cx - side // 2, 0, picture.shape[1] - side))
    top = int(np.clip(y0 + cy - side // 2, 0, picture.shape[0] - side))
    plain = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    panels = [plain]
    titles = [shown.kind, f"coarse {shown.before:.3f}", f"refined {shown.after:.3f}", "truth"]
    for mask, colour in zip(shown.masks, ((60, 60, 255), (0, 220, 255), (80, 230, 80)), strict=True):
        crop = cv2.resize(mask.crop(left, top, left + side, top + side), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(crop, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        panels.append(cv2.drawContours(plain.copy(), contours, -1, colour, 2))
    for panel, title in zip(panels, titles, strict=True):
        cv2.rectangle(panel, (0, SIDE - 20), (9 * len(title) + 8, SIDE), (0, 0, 0), -1)
        cv2.putText(panel, title, (4, SIDE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack([cv2.copyMakeBorder(p, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for p in panels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    found = {name: candidates(name, arguments.data, arguments.work) for name in ("coco-cc", "nuclei")}
    used: dict[str, dict[str, Any]] = {}
    for title, best in (("wins", True), ("failures", False)):
        chosen = choose(found["coco-cc"], 6, best=best) + choose(found["nuclei"], 2, best=best)
        used |= {shown.photograph.name: shown.record for shown in chosen if "flickr_url" in shown.record}
        half = (len(chosen) + 1) // 2
        pictures = [row(shown) for shown in chosen]
        pictures += [np.full_like(pictures[0], 255)] * (2 * half - len(chosen))
        sheet = np.hstack([np.vstack(pictures[:half]), np.vstack(pictures[half:])])
        cv2.imwrite(str(arguments.output / f"{title}.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    lines = [f"- {name}: COCO 2017, {record['flickr_url']}" for name, record in sorted(used.items())]
    text = "Photographs in `wins.jpg` and `failures.jpg`, under CC BY 2.0, cropped, enlarged and drawn on:\n\n"
    (arguments.output / "quality-attribution.md").write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

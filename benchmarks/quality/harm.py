"""Masks that need no help: exact ones, and coarse ones that are already good. Runs after `table.py`, in its work folder.

    python benchmarks/quality/harm.py --data DATA --work runs/quality [-- --weights bpr-base]

Exact: the ground truth itself goes through `maskmend refine`. Already good: of the files that `table.py` made, the
instances whose coarse mask has an IoU of at least 0.96.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from table import SETS, ground_truth, maskmend

from maskmend.models.training.coarse import KINDS
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.metrics import boundary_f, iou

GOOD = 0.96
HARM = 0.005


def exact_masks(truth: Path, work: Path, name: str) -> Path:
    """The ground truth as a result list."""
    coco = json.loads(truth.read_text())
    sizes = {image["id"]: image for image in coco["images"]}
    records = []
    for annotation in coco["annotations"]:
        image = sizes[annotation["image_id"]]
        rle = as_rle(annotation["segmentation"], height=image["height"], width=image["width"])
        if rle.area:
            kept = {key: annotation[key] for key in ("image_id", "category_id")}
            kept |= {"annotation_id": annotation["id"], "file_name": image["file_name"], "score": 1.0}
            records.append({**kept, "segmentation": rle.to_coco()})
    file = work / f"{name}-exact-coarse.json"
    file.write_text(json.dumps(records))
    return file


def scores(truth: Path, coarse: Path, refined: Path) -> np.ndarray:
    """Per record: IoU before, IoU after, F@1 before, F@1 after."""
    coco = json.loads(truth.read_text())
    sizes = {image["id"]: image for image in coco["images"]}
    true: dict[int, Any] = {annotation["id"]: annotation for annotation in coco["annotations"]}
    rows = []
    for before, after in zip(json.loads(coarse.read_text()), json.loads(refined.read_text()), strict=True):
        annotation = true[before["annotation_id"]]
        size = sizes[annotation["image_id"]]
        masks = [as_rle(annotation["segmentation"], height=size["height"], width=size["width"])]
        masks += [Rle.from_coco(record["segmentation"]) for record in (before, after)]
        boxes = np.array([mask.bbox for mask in masks])
        (x0, y0), (x1, y1) = boxes[:, :2].min(0) - 2, (boxes[:, :2] + boxes[:, 2:]).max(0) + 2
        t, b, a = (mask.crop(int(x0), int(y0), int(x1), int(y1)) for mask in masks)
        rows.append((iou(b, t), iou(a, t), boundary_f(b, t, 1), boundary_f(a, t, 1)))
    return np.array(rows).reshape(-1, 4)


def line(label: str, rows: np.ndarray) -> str:
    if not len(rows):
        return f"| {label} | 0 | | | |"
    before, after, first, then = rows.mean(0)
    harmed = 100 * np.mean(rows[:, 1] - rows[:, 0] < -HARM)
    return f"| {label} | {len(rows)} | {before:.4f} → {after:.4f} | {first:.4f} → {then:.4f} | {harmed:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--every", type=int, default=4, help="of davis, every n-th image")
    parser.add_argument("refine", nargs="*", help="options for maskmend refine, after --")
    arguments = parser.parse_args()
    print("| masks | instances | mean IoU | F@1 | harmed % |")
    print("| --- | --- | --- | --- | --- |")
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.every)
        coarse = exact_masks(truth, arguments.work, name)
        refined = arguments.work / f"{name}-exact-refined.json"
        refined.unlink(missing_ok=True)
        options = ["--annotations", str(truth), *arguments.refine]
        maskmend("refine", coarse, "--images", images, "--output", refined, *options)
        print(line(f"{name}, exact", scores(truth, coarse, refined)), flush=True)
        found = []
        for kind in KINDS:
            files = [arguments.work / f"{name}-{kind}-{part}.json" for part in ("coarse", "refined")]
            if all(file.is_file() for file in files):
                found.append(scores(truth, *files))
        if found:
            rows = np.concatenate(found)
            print(line(f"{name}, coarse IoU >= {GOOD}", rows[rows[:, 0] >= GOOD]), flush=True)


if __name__ == "__main__":
    main()

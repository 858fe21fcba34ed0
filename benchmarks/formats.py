"""What a conversion does to masks: into each format and back, IoU with the masks that went in.

    python benchmarks/formats.py --gt samples/instances.json --images samples/images

With ultralytics installed, YOLO's polygons are drawn by its own rasteriser too.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskmend.clients.coco import read_coco
from maskmend.clients.convert import run_conversion
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Picture, Policies
from maskmend.clients.formats.paint import separated
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.image_size import image_size

Masks = dict[str, list[Rle]]
ROWS = [
    *((name, 0.0) for name in ("panoptic", "voc", "index-png", "png")),
    *(("yolo", tolerance) for tolerance in (0.0, 0.5, 1.0, 2.0)),
    *(("coco", tolerance) for tolerance in (0.0, 0.5, 1.0, 2.0)),
]


def read(path: Path, images: Path) -> Masks:
    """Masks of each photograph, in order."""
    opened = open_masks(path, images)
    found: Masks = {}
    for _, numbers in opened.by_image():
        numbers = [n for n in numbers if opened.instances[n].refinable]
        if numbers:
            photo = opened.photograph(numbers[0])
            size = image_size(photo)
            found[photo.stem] = [opened.mask(n, *size) for n in numbers]
    return found


def apart(masks: Masks) -> Masks:
    """The same, the smallest taking shared pixels; masks of which nothing is left are left out, as `convert` does."""
    result = {}
    for stem, listed in masks.items():
        picture = Picture(stem, listed[0].height, listed[0].width, [(None, m) for m in listed])  # type: ignore[misc]
        result[stem] = [m for _, m in separated(picture, Policies(overlaps="smallest")).instances if m.area]
    return result


def ious(before: Masks, after: Masks) -> Iterator[float]:
    """Of each mask with what came of it."""
    for stem, listed in before.items():
        for a, b in zip(listed, after[stem], strict=True):
            x, y = a.to_dense(), b.to_dense()
            yield float((x & y).sum() / (x | y).sum())


def drawn_by_ultralytics(folder: Path, masks: Masks) -> Masks | None:
    """YOLO's polygons as its trainer draws them; None where ultralytics is not installed."""
    try:
        from ultralytics.data.utils import polygon2mask
    except ImportError:
        return None
    found: Masks = {}
    for stem, listed in masks.items():
        height, width = listed[0].height, listed[0].width
        lines = (folder / "labels" / f"{stem}.txt").read_text().splitlines()
        polygons = [np.array(line.split()[1:], np.float32).reshape(-1, 2) * (width, height) for line in lines]
        drawn = [polygon2mask((height, width), [polygon.reshape(-1)]) > 0 for polygon in polygons]
        found[stem] = [Rle.from_dense(mask) for mask in drawn]
    return found


def as_converted_by_ultralytics(gt: Path) -> list[float]:
    """IoU of COCO's polygons, drawn by COCO's rule, with the same as ultralytics converts and draws them."""
    from ultralytics.data.converter import merge_multi_segment
    from ultralytics.data.utils import polygon2mask

    coco = read_coco(gt)
    found = []
    for record in coco.records:
        polygons, image = record["segmentation"], coco.images[record["image_id"]]
        if isinstance(polygons, list) and not record.get("iscrowd"):
            whole = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons])
            if len(polygons) > 1:
                whole = np.concatenate(merge_multi_segment(polygons), axis=0)
            x = polygons_to_rle(polygons, image["height"], image["width"]).to_dense()
            y = polygon2mask((image["height"], image["width"]), [whole.reshape(-1).astype(np.float32)]) > 0
            if x.any():
                found.append(float((x & y).sum() / (x | y).sum()))
    return found


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True, help="COCO instances file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its photographs")
    given = parser.parse_args()
    logging.disable()
    source = {stem: [m for m in listed if m.area] for stem, listed in read(given.gt, given.images).items()}
    separate = apart(source)
    print("| format | tolerance px | instances | the same | mean IoU | 5th percentile | lowest | kB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        for number, (target, tolerance) in enumerate(ROWS):
            out = Path(name) / (f"{number}.json" if target in ("panoptic", "coco") else str(number))
            policies = Policies(overlaps="smallest", tolerance=tolerance)
            run_conversion(given.gt, given.images, out, target, policies=policies)
            wanted = separate if target in ("panoptic", "voc", "index-png") else source
            files = [p for p in Path(name).glob(f"{number}*") for p in [p, *p.rglob("*")] if p.is_file()]
            size = sum(p.stat().st_size for p in files if not p.name.endswith(".jsonl"))
            _print(target, tolerance, list(ious(wanted, read(out, given.images))), size)
            if target == "yolo" and (drawn := drawn_by_ultralytics(out, wanted)) is not None:
                _print("yolo, drawn by ultralytics", tolerance, list(ious(wanted, drawn)), size)

        if importlib.util.find_spec("ultralytics") is not None:
            _print("COCO's polygons, joined and drawn by ultralytics", 0, as_converted_by_ultralytics(given.gt), 0)


def _print(target: str, tolerance: float, found: list[float], size: int) -> None:
    same = sum(value == 1 for value in found)
    low = np.percentile(found, 5)
    print(
        f"| {target} | {tolerance:g} | {len(found)} | {same} | {np.mean(found):.4f} | {low:.4f} | {min(found):.4f} "
        f"| {size / 1000:.0f} |"
    )


if __name__ == "__main__":
    main()

"""Result files against ground truth, side by side: AP, boundary AP, and edge measures on the same matched instances."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.clients.coco import CocoFile, Record, read_coco
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import JobError, MaskError, RuntimeUnavailableError
from maskmend.patcher.metrics import instance_metrics

MATCH_IOU = 0.5
TOLERANCE = 0.005
"""Change of an instance's IoU from which it counts as improved or harmed."""


@dataclass
class FileScores:
    """One column of the table. AP as COCO defines it; the rest are means over the matched instances, 0 to 1.

    `improved` and `harmed` are percentages against the first file; for the first file itself both are 0.
    """

    path: str
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    boundary_ap: float
    mean_iou: float
    f1px: float
    f3px: float
    mba: float
    improved: float = 0.0
    harmed: float = 0.0


@dataclass
class Evaluation:
    """Scores of every file, and the number of instance pairs behind the edge measures."""

    pairs: int
    files: list[FileScores]

    def as_dict(self) -> dict[str, Any]:
        """The form that `--json` writes."""
        return asdict(self)


@dataclass(frozen=True)
class _Masks:
    """The masks of one result file and what COCO needs of them."""

    path: Path
    records: list[Record]
    rles: list[Rle]


def evaluate(truth: Path, results: list[Path]) -> Evaluation:
    """Score result files against ground truth.

    Instances are matched on the FIRST file: its results by falling score, each with the best free ground truth of its
    image and category, at IoU > 0.5, crowds left out. Every other file is measured on the same ground truths: by the
    record of the same place when it names the same image and category (as `maskmend refine` keeps it), otherwise by its
    best-overlapping record.

    Args:
        truth: COCO instances file.
        results: COCO result lists or instances files.

    Raises:
        JobError: a file cannot be used.
        MaskError: a mask is malformed; the message names file and record.
        RuntimeUnavailableError: the evaluate extra is not installed.
    """
    gt = _read_truth(truth)
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in gt.document["images"]}
    truths = _masks(truth, gt.records, sizes)
    files = [_masks(path, _scored(read_coco(path, field=str(path)), path), sizes) for path in results]
    pairs = _match(truths, files[0])
    edges = [_edge_scores(truths, file, _follow(truths, files[0], file, pairs)) for file in files]
    scores = []
    for file, rows in zip(files, edges, strict=True):
        means = {key: float(np.mean([row[key] for row in rows])) if rows else 0.0 for key in _EDGE_KEYS}
        gain = [row["iou"] - first["iou"] for row, first in zip(rows, edges[0], strict=True)]
        scores.append(
            FileScores(
                path=str(file.path),
                **_average_precision(gt.document, truths, file),
                mean_iou=means["iou"],
                f1px=means["f1px"],
                f3px=means["f3px"],
                mba=means["mba"],
                improved=100.0 * float(np.mean([g > TOLERANCE for g in gain])) if gain else 0.0,
                harmed=100.0 * float(np.mean([g < -TOLERANCE for g in gain])) if gain else 0.0,
            )
        )
    return Evaluation(len(pairs), scores)


_EDGE_KEYS = ("iou", "f1px", "f3px", "mba")


def _read_truth(path: Path) -> CocoFile:
    coco = read_coco(path, field="gt")
    if coco.is_results:
        raise JobError(f"--gt {path} is a result list; ground truth is a COCO instances file with `images`", field="gt")
    for image in coco.images.values():
        if not isinstance(image.get("height"), int) or not isinstance(image.get("width"), int):
            raise JobError(f"--gt {path}: every image needs an integer height and width", field="gt")
    return coco


def _scored(coco: CocoFile, path: Path) -> list[Record]:
    """Records of a result list; those of an instances file count as results of score 1, crowds left out."""
    if coco.is_results:
        for number, record in enumerate(coco.records):
            if not isinstance(record.get("score", 1.0), (int, float)):
                raise JobError(f"{path}: record {number} has a score that is not a number", field="score")
        return coco.records
    return [record for record in coco.records if not record.get("iscrowd")]


def _masks(path: Path, records: list[Record], sizes: dict[Any, tuple[int, int]]) -> _Masks:
    rles = []
    for number, record in enumerate(records):
        size = sizes.get(record.get("image_id"))
        if size is None:
            raise JobError(f"{path}: record {number} has an image_id that is not in the ground truth", field="image_id")
        try:
            rles.append(as_rle(record.get("segmentation"), height=size[0], width=size[1], field="segmentation"))
        except MaskError as error:
            raise MaskError(f"{path}: record {number}: {error}", field=error.field) from error
    return _Masks(path, records, rles)


def _key(record: Record) -> tuple[Any, Any]:
    return record.get("image_id"), record.get("category_id")


def _match(truths: _Masks, first: _Masks) -> list[tuple[int, int]]:
    """Pairs (ground truth, result) by number."""
    free: dict[tuple[Any, Any], list[int]] = {}
    for number, record in enumerate(truths.records):
        if not record.get("iscrowd"):
            free.setdefault(_key(record), []).append(number)
    order = sorted(range(len(first.records)), key=lambda n: -float(first.records[n].get("score", 1.0)))
    pairs = []
    for number in order:
        candidates = free.get(_key(first.records[number]), [])
        scored = [(rle_iou(truths.rles[t], first.rles[number]), -t) for t in candidates]
        if scored and max(scored)[0] > MATCH_IOU:
            best = -max(scored)[1]
            candidates.remove(best)
            pairs.append((best, number))
    return sorted(pairs)


def _follow(truths: _Masks, first: _Masks, other: _Masks, pairs: list[tuple[int, int]]) -> list[tuple[int, int | None]]:
    """The same ground truths with the records of another file; None where it has none that overlaps."""
    if other is first:
        return list(pairs)
    by_key: dict[tuple[Any, Any], list[int]] = {}
    for number, record in enumerate(other.records):
        by_key.setdefault(_key(record), []).append(number)
    same_order = len(other.records) == len(first.records) and all(
        _key(a) == _key(b) for a, b in zip(first.records, other.records, strict=True)
    )
    if same_order:
        return list(pairs)
    followed: list[tuple[int, int | None]] = []
    for truth, _ in pairs:
        candidates = by_key.get(_key(truths.records[truth]), [])
        best = max(candidates, key=lambda n: (rle_iou(truths.rles[truth], other.rles[n]), -n), default=None)
        followed.append((truth, best))
    return followed


def _edge_scores(truths: _Masks, file: _Masks, pairs: list[tuple[int, int | None]]) -> list[dict[str, float]]:
    rows = []
    for truth, number in pairs:
        true = truths.rles[truth]
        mask = file.rles[number] if number is not None else None
        # The widest band of mBA and the tolerance of F reach this far beyond the masks.
        margin = 4 + (true.height + true.width) // 300
        boxes = [rle.bbox for rle in (true, mask) if rle is not None and rle.area]
        x0, y0 = min(b[0] for b in boxes) - margin, min(b[1] for b in boxes) - margin
        x1, y1 = max(b[0] + b[2] for b in boxes) + margin, max(b[1] + b[3] for b in boxes) + margin
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, true.width), min(y1, true.height)
        dense = true.crop(x0, y0, x1, y1)
        other = mask.crop(x0, y0, x1, y1) if mask is not None else np.zeros_like(dense)
        rows.append(instance_metrics(other, dense, frame=(true.height, true.width)))
    return rows


def rle_iou(a: Rle, b: Rle) -> float:
    """IoU of two masks of one size, counted on their runs; 0 when both are empty."""
    joint = a.area + b.area
    if not joint:
        return 0.0
    edges = np.sort(np.concatenate([np.cumsum(a.counts, dtype=np.int64), np.cumsum(b.counts, dtype=np.int64)]))
    edges = edges[: len(edges) // 2 * 2]
    different = int((edges[1::2] - edges[::2]).sum())
    return (joint - different) / (joint + different)


def _average_precision(document: Record, truths: _Masks, file: _Masks) -> dict[str, float]:
    """AP of masks and of boundaries. Every mask handed over has been through our own codec."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise RuntimeUnavailableError(
            "evaluate needs faster-coco-eval; pip install 'maskmend[evaluate]'", field="evaluate"
        ) from error
    annotations = [
        {
            "id": n + 1,
            "image_id": record["image_id"],
            "category_id": record.get("category_id", 1),
            "iscrowd": int(bool(record.get("iscrowd"))),
            "segmentation": rle.to_coco(),
            "area": record.get("area", rle.area),
            "bbox": [float(v) for v in rle.bbox],
        }
        for n, (record, rle) in enumerate(zip(truths.records, truths.rles, strict=True))
    ]
    found = [
        {
            "image_id": record["image_id"],
            "category_id": record.get("category_id", 1),
            "score": float(record.get("score", 1.0)),
            "segmentation": rle.to_coco(),
        }
        for record, rle in zip(file.records, file.rles, strict=True)
    ]
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    if not found:
        return dict.fromkeys((*names, "boundary_ap"), 0.0)
    images = [{key: image[key] for key in ("id", "height", "width")} for image in document["images"]]
    categories = sorted({a["category_id"] for a in annotations} | {f["category_id"] for f in found})
    gt = COCO(
        {"images": images, "annotations": annotations, "categories": [{"id": c, "name": str(c)} for c in categories]}
    )
    stats = {}
    for kind in ("segm", "boundary"):
        run = COCOeval_faster(
            gt, gt.loadRes([dict(f) for f in found]), kind, boundary_cpu_count=1, rle_iou_max_workers=1
        )
        run.run()
        stats[kind] = [float(value) for value in run.stats[:6]]
    return {**dict(zip(names, stats["segm"], strict=True)), "boundary_ap": stats["boundary"][0]}

"""Supervision's `Detections`, with dense or compact masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from maskmend.clients.adapters import arrays
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError


def knows(value: Any) -> bool:
    """Whether an object holds masks, one per instance, as its attribute `mask`; classes alike are welcome."""
    return hasattr(value, "mask") and not callable(value.mask) and not isinstance(value, np.ndarray)


def masks(detections: Any) -> Sequence[Any]:
    """The masks of detections; none where there are no detections.

    Raises:
        MaskError: there are boxes only.
    """
    if detections.mask is None:
        boxes = getattr(detections, "xyxy", None)
        if boxes is not None and not len(boxes):
            return []
        raise MaskError("these detections carry boxes only; masks are needed", field="masks")
    if _is_compact(detections.mask):
        # One at a time: all of them as a stack is what compact masks are there to avoid.
        return [Rle.from_dense(mask) for mask in detections.mask]
    return arrays.masks(detections.mask)


def like(detections: Any, rles: Sequence[Rle]) -> Any:
    """Detections with other masks and the boxes around them; ids, scores, classes, `data` and `metadata` are kept."""
    made = copy.copy(detections)
    for name in ("data", "metadata"):
        if isinstance(getattr(made, name, None), dict):
            setattr(made, name, dict(getattr(made, name)))
    if detections.mask is None:
        arrays.numbered(rles, 0)
        return made
    made.mask = _compact(detections.mask, rles) if _is_compact(detections.mask) else arrays.like(detections.mask, rles)
    if getattr(detections, "xyxy", None) is not None:
        made.xyxy = arrays.corners(rles, detections.xyxy)
    return made


def _is_compact(mask: Any) -> bool:
    return hasattr(type(mask), "from_coco_rle")


def _compact(before: Any, rles: Sequence[Rle]) -> Any:
    count, height, width = before.shape
    arrays.checked(rles, count, height, width)
    boxes = [(x, y, max(x, x + w - 1), max(y, y + h - 1)) for x, y, w, h in (rle.bbox for rle in rles)]
    # The last pixel is part of the boxes that compact masks are cut out by.
    return type(before).from_coco_rle(
        [rle.to_coco() for rle in rles], np.array(boxes, np.float64).reshape(-1, 4), (height, width)
    )

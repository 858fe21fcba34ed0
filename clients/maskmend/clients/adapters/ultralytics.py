"""Ultralytics' `Results`.

Unless `retina_masks` is set, its masks have the size of the network's input: the photograph scaled to fit, with padding
left and right or above and below. Here the padding is cut off and the rest brought to the photograph's size, bilinear and
cut at one half, as Ultralytics itself does; `masks.xy` would lose holes and small parts.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.clients.adapters import arrays
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size


def knows(value: Any) -> bool:
    """Whether an object is the result of one image."""
    return hasattr(value, "masks") and hasattr(value, "orig_shape") and hasattr(value, "boxes")


def masks(results: Any) -> Sequence[Any]:
    """The masks in the size of the photograph.

    Raises:
        MaskError: there are boxes only.
    """
    if results.masks is None:
        if results.boxes is not None and len(results.boxes):
            raise MaskError("these results carry boxes only; use a model with -seg in its name", field="masks")
        return []
    height, width = _size(results.masks)
    found = arrays.masks(results.masks.data)
    return [_native(mask, height, width) for mask in found]


def like(results: Any, rles: Sequence[Rle]) -> Any:
    """Results with other masks, in the size of the photograph, and the boxes around them; all else is kept."""
    made = copy.copy(results)
    if results.masks is None:
        arrays.numbered(rles, 0)
        return made
    height, width = _size(results.masks)
    arrays.checked(rles, len(results.masks.data), height, width)
    data = arrays.array_like(arrays.stacked(rles, height, width), results.masks.data)
    made.masks = type(results.masks)(data, results.masks.orig_shape)
    if results.boxes is not None:
        made.boxes = type(results.boxes)(arrays.corners(rles, results.boxes.data), results.boxes.orig_shape)
    return made


def _size(found: Any) -> tuple[int, int]:
    height, width = (int(side) for side in found.orig_shape[:2])
    check_size(height, width, "orig_shape")
    return height, width


def _native(mask: NDArray[Any], height: int, width: int) -> Any:
    rows, columns = mask.shape
    if (rows, columns) == (height, width):
        return mask
    gain = min(rows / height, columns / width)
    inner = max(round(height * gain), 1), max(round(width * gain), 1)
    # Where the padding is odd, its smaller half lies above and at the left.
    top, left = (max(round((outer - side) / 2 - 0.1), 0) for outer, side in zip((rows, columns), inner, strict=True))
    picture = mask[top : top + inner[0], left : left + inner[1]].astype(np.float32)
    return Rle.from_dense(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)

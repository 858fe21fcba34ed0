"""The dict that torchvision's detection models give for an image, and dicts alike.

`masks` is float [N, 1, H, W], probabilities that are cut at 0.5; or any other stack, or list, of masks. Transformers' mask
generation and SAM 3 have the same keys.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from maskmend.clients.adapters import arrays, records
from maskmend.patcher import Rle


def knows(value: Any) -> bool:
    """Whether a value is such a dict."""
    return isinstance(value, Mapping) and (arrays.is_array(value.get("masks")) or isinstance(value.get("masks"), list))


def masks(value: Any) -> Sequence[Any]:
    """The masks, each [H, W].

    Raises:
        MaskError: another shape, or floats outside 0 to 1.
    """
    found = value["masks"]
    return arrays.masks(found) if arrays.is_array(found) else records.masks(found)


def like(value: Any, rles: Sequence[Rle]) -> Any:
    """The dict with other masks (1.0 inside, 0.0 outside) and the boxes around them; every other key is kept."""
    made = copy.copy(value)
    found = value["masks"]
    made["masks"] = arrays.like(found, rles) if arrays.is_array(found) else records.like(found, rles)
    boxes = value.get("boxes")
    if arrays.is_array(boxes) and tuple(boxes.shape) == (len(rles), 4):
        made["boxes"] = arrays.corners(rles, boxes)
    return made

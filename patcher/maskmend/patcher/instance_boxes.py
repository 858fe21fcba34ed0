"""Boxes round whole instances, or along the boundary of those that are too large for one."""

from __future__ import annotations

from typing import Final

import numpy as np

from maskmend.patcher.boxes import Boxes, boundary_boxes
from maskmend.patcher.errors import OptionError
from maskmend.patcher.rle import as_rle, is_whole

TILE: Final = 224
"""Side in px from which an instance no longer fits one box."""
_MARGIN = 0.15
_LEAST_MARGIN = 12
_LEAST_SIDE = 48
_MOST_SIDE = 2048


def instance_boxes(mask: object, *, tile: int = TILE, nms: float = 0.25, tiled: bool = True) -> Boxes:
    """One square box round an instance with a margin of 15 %, 12 px at least; or several along its boundary.

    A box is scaled to the size that the network takes, so a large one shows less of what is there. An instance whose box
    would be larger than `tile` gets `boundary_boxes` of that side instead, unless `tiled` is off.

    Args:
        mask: any mask that `as_rle` reads.
        tile: largest side of a box in px, even, 48 to 1024.
        nms: overlap of tiles; see `boundary_boxes`.
        tiled: cover large instances by tiles; otherwise by one box of up to 2,048 px, whatever that costs in detail.

    Returns:
        int32 [N, 4] (x0, y0, x1, y1) in px, squares of one size, shifted into the frame as those of `boundary_boxes`; N is 0
        for an empty mask.

    Raises:
        MaskError: the mask cannot be read.
        OptionError: an option is outside its range.
    """
    if not is_whole(tile) or not _LEAST_SIDE <= tile <= 1024 or tile % 2:
        raise OptionError(f"tile must be an even number from {_LEAST_SIDE} to 1024", field="tile")
    rle = as_rle(mask)
    x, y, width, height = rle.bbox
    if not width:
        return np.zeros((0, 4), np.int32)
    longest = max(width, height)
    side = max(_LEAST_SIDE, longest + 2 * max(_LEAST_MARGIN, round(_MARGIN * longest)))
    if tiled and side > tile:
        return boundary_boxes(rle, patch=int(tile), nms=nms)
    if side > _MOST_SIDE:
        return boundary_boxes(rle, patch=1024, nms=nms)
    left, top = x + (width - side) // 2, y + (height - side) // 2
    x0, y0 = max(0, min(left, rle.width - side)), max(0, min(top, rle.height - side))
    return np.array([[x0, y0, x0 + side, y0 + side]], np.int32)

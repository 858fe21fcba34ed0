"""Few boxes that cover the boundary of a mask, or the part of it that moved."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _cover
from maskmend.patcher.boundary import boundary_pixels
from maskmend.patcher.boxes import MAX_PATCH, Boxes
from maskmend.patcher.errors import MaskError, OptionError
from maskmend.patcher.rle import Rle, as_rle, is_whole


def covering_boxes(
    mask: object, *, patch: int = 64, margin: int = 2, before: object | None = None, moved: float = 1.0
) -> Boxes:
    """Boxes round boundary pixels such that every boundary pixel lies in one, `margin` px or more from its sides.

    Suppression (`boundary_boxes`) keeps boxes apart and hopes that they cover the boundary; here they are chosen for what
    they cover. From left to right, the first boundary pixel not yet covered gets the box that covers it and, with it, the
    most of what is left; about 48 boxes are weighed for each one kept. As in suppression, every box is that of a boundary
    pixel, [x - patch/2, x + patch/2) x [y - patch/2, y + patch/2), shifted into the frame; a side of it that lies on the
    frame's border needs no margin.

    Args:
        mask: any mask that `as_rle` reads: `Rle`, bool or uint8 [H, W], COCO RLE.
        patch: side of a box in px, even, 2 to 1024.
        margin: in px, 0 to less than half of `patch`.
        before: the mask as it was, of the same size. When given, only those boundary pixels are covered in whose own box the
            edge moved since.
        moved: by how much it must have, in px: so many pixels changed in the box as an edge of the box's length changes.

    Returns:
        int32 [N, 4] (x0, y0, x1, y1) in px, x1 and y1 exclusive; N is 0 where there is nothing to cover.

    Raises:
        MaskError: a mask cannot be read, or they differ in size.
        OptionError: an option is outside its range.
    """
    if not is_whole(patch) or not 2 <= patch <= MAX_PATCH or patch % 2:
        raise OptionError(f"patch must be an even number from 2 to {MAX_PATCH}", field="patch")
    if not is_whole(margin) or not 0 <= margin < patch // 2:
        raise OptionError(f"margin must be an integer from 0 to {patch // 2 - 1}", field="margin")
    if isinstance(moved, bool) or not isinstance(moved, (int, float, np.floating)) or not 0 < moved <= MAX_PATCH:
        raise OptionError(f"moved must be a number of px above 0, at most {MAX_PATCH}", field="moved")
    rle = as_rle(mask)
    pixels, _ = boundary_pixels(rle)
    if not len(pixels):
        return np.zeros((0, 4), np.int32)
    x0, y0 = (int(low) for low in pixels.min(axis=0))
    columns, rows = (int(side) + 1 for side in np.ptp(pixels, axis=0))
    wanted = _cover.drawn(pixels, x0, y0, columns, rows)
    if before is not None:
        near = _near(rle, (x0, y0, len(wanted), rows), int(patch))
        total = _moved_pixels(as_rle(before, field="before"), rle, near)
        least = float(moved) * patch
        _cover.drop_still(wanted, x0, y0, rle.width, rle.height, int(patch), total, near[0], near[1], least)
    return _cover.cover(wanted, x0, y0, rows, rle.width, rle.height, int(patch), int(margin))


def _near(mask: Rle, region: tuple[int, int, int, int], patch: int) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) that holds the boxes of all pixels of a region (x, y, width, height)."""
    x, y, width, height = region
    x1, y1 = min(x + width + patch, max(mask.width, patch)), min(y + height + patch, max(mask.height, patch))
    return max(x - patch, 0), max(y - patch, 0), x1, y1


def _moved_pixels(before: Rle, after: Rle, box: tuple[int, int, int, int]) -> NDArray[np.int32]:
    """Of each place in a box (x0, y0, x1, y1): how many changed pixels lie above and to the left, int32 [h + 1, w + 1]."""
    if (before.height, before.width) != (after.height, after.width):
        raise MaskError(
            f"before is {before.width}x{before.height} px but mask is {after.width}x{after.height} px; "
            "give two masks of one image",
            field="before",
        )
    return np.asarray(cv2.integral(before.crop(*box) ^ after.crop(*box)), np.int32)

"""How far an edge moved."""

from __future__ import annotations

import cv2
import numpy as np

from maskmend.patcher.rle import Rle


def max_displacement(coarse: Rle, refined: Rle) -> float:
    """Farthest that a changed pixel lies from the coarse mask, in px.

    For an added pixel the Euclidean distance of its centre to that of the nearest pixel of the coarse mask; for a removed
    one to the nearest pixel outside it. 0 when nothing changed.

    Args:
        coarse: the mask as it came.
        refined: of the same size.

    Returns:
        Distance in px; the diagonal of the frame where the coarse mask has no edge to measure from.
    """
    if coarse == refined:
        return 0.0
    diagonal = float(np.hypot(coarse.height, coarse.width))
    if coarse.area in (0, coarse.height * coarse.width):
        return diagonal
    x0, y0, x1, y1 = _around(coarse, refined)
    before, after = coarse.crop(x0, y0, x1, y1), refined.crop(x0, y0, x1, y1)
    # The crop's margin of one pixel is outside of both masks, but what lies beyond the frame is outside of nothing.
    known = np.zeros(before.shape, np.uint8)
    left, top = max(-x0, 0), max(-y0, 0)
    known[top : coarse.height - y0, left : coarse.width - x0] = 1
    farthest = 0.0
    added, removed = after > before, after < before
    if added.any():
        farthest = float(cv2.distanceTransform(1 - before, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[added].max())
    if removed.any():
        inside = 1 - (known & (1 - before))
        away = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        farthest = max(farthest, float(away[removed].max()))
    return min(farthest, diagonal)


def _around(a: Rle, b: Rle) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of both masks with a margin of one pixel."""
    boxes = [mask.bbox for mask in (a, b) if mask.area]
    x0, y0 = min(x for x, _, _, _ in boxes), min(y for _, y, _, _ in boxes)
    x1, y1 = max(x + w for x, _, w, _ in boxes), max(y + h for _, y, _, h in boxes)
    return x0 - 1, y0 - 1, x1 + 1, y1 + 1

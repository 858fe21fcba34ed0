"""How far an edge moved, and where."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _changed, _near, _pieces
from maskmend.patcher.columns import Columns
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
    # Pixels beyond these lie no nearer, and what lies beyond the frame is outside of nothing.
    region = _around(coarse, refined)
    before, after = Columns.of(coarse, region), Columns.of(refined, region)
    runs, _ = _pieces.joined(before.bits ^ after.bits, before.height, True)
    farthest = _near.deepest(before.bits, before.height, runs, np.ones(len(runs), np.int32), 1)
    return min(float(farthest[0]), diagonal)


def changed_within(a: Rle, b: Rle, boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    """In how many pixels of each box two masks of one size differ.

    Args:
        a: one mask.
        b: the other.
        boxes: int32 [N, 4] (x0, y0, x1, y1) in px, which may leave the frame; nothing differs there.

    Returns:
        int64 [N].
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    (x0, y0), (x1, y1) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    region = max(x0, 0), max(y0, 0), max(min(x1, a.width), 0), max(min(y1, a.height), 0)
    if region[0] >= region[2] or region[1] >= region[3]:
        return np.zeros(len(boxes), np.int64)
    before, after = Columns.of(a, region), Columns.of(b, region)
    # Kernels are compiled for arrays without gaps.
    squares = np.ascontiguousarray(boxes, np.int32)
    return np.asarray(_changed.count_within(before.bits, after.bits, before.height, squares, region[0], region[1]))


def _around(a: Rle, b: Rle) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of both masks with a margin of one pixel within the frame."""
    boxes = [mask.bbox for mask in (a, b) if mask.area]
    x0, y0 = min(x for x, _, _, _ in boxes), min(y for _, y, _, _ in boxes)
    x1, y1 = max(x + w for x, _, w, _ in boxes), max(y + h for _, y, _, h in boxes)
    return max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, a.width), min(y1 + 1, a.height)

"""How far an edge moved."""

from __future__ import annotations

import numpy as np

from maskmend.patcher import _near, _pieces
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


def _around(a: Rle, b: Rle) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of both masks with a margin of one pixel within the frame."""
    boxes = [mask.bbox for mask in (a, b) if mask.area]
    x0, y0 = min(x for x, _, _, _ in boxes), min(y for _, y, _, _ in boxes)
    x1, y1 = max(x + w for x, _, w, _ in boxes), max(y + h for _, y, _, h in boxes)
    return max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, a.width), min(y1 + 1, a.height)

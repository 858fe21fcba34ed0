"""Outlines of a mask with fewer corners, never farther from the exact ones than a tolerance.

A corner of the result is a corner of the exact outline or the middle of one of its sides. A chord from one of them to
another may stand for all that lies between if no corner there is farther from it than the tolerance. The outline between
is then that near to the chord, and, since it leads from one end of the chord to the other, no point of the chord is
farther from the outline: the Hausdorff distance keeps to the tolerance, whichever way it is measured.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._jit import compiled
from maskmend.patcher.errors import OptionError
from maskmend.patcher.outlines import outlines, traced
from maskmend.patcher.rle import Rle

MOST_TOLERANCE = 100.0
"""Largest tolerance, in px."""
AREA_KEPT = 0.05
"""A loop whose area would change by more than this share is simplified less: parts as thin as the tolerance stay."""
_LEAST = 0.2

Loop = NDArray[np.float64]
"""Corners (x, y) of a closed loop in px, float64 [K, 2]; the last is joined to the first."""


def simplified(mask: Rle, tolerance: float) -> list[list[float]]:
    """COCO polygons of a mask with fewer corners, one per 4-connected part: flat lists x0, y0, x1, y1, ... in px.

    Args:
        mask: whose outline is wanted.
        tolerance: farthest, in px, that an outline may lie from the exact one (Hausdorff distance); 0 for `outlines`.

    Returns:
        Polygons for the even-odd rule. Each hole is joined to the outline round it by a cut, there and back again, whose
        two sides cancel out. None for an empty mask.

    Raises:
        OptionError: the tolerance is no number from 0 to 100.
        MaskError: the mask has holes and corners beyond reason.
    """
    if check_tolerance(tolerance) == 0:
        return outlines(mask)
    return [flat(joined(part)) for part in rings(mask, tolerance)]


def check_tolerance(tolerance: float) -> float:
    """The tolerance, if it is one.

    Raises:
        OptionError: it is no number from 0 to 100.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance <= MOST_TOLERANCE:
        raise OptionError(f"tolerance must be a number from 0 to {MOST_TOLERANCE:g} px", field="tolerance")
    return float(tolerance)


def rings(mask: Rle, tolerance: float) -> list[list[Loop]]:
    """Loops of a mask: for each 4-connected part the outline, then those of its holes.

    Args:
        mask: whose outline is wanted.
        tolerance: farthest, in px, that a loop may lie from the exact one; 0 for the exact ones.

    Returns:
        Of each part its loops, float64 [N, 2] (x, y) of corners in px.

    Raises:
        OptionError: the tolerance is no number from 0 to 100.
        MaskError: the mask has holes and corners beyond reason.
    """
    tolerance = check_tolerance(tolerance)
    x0, y0, width, _ = mask.bbox
    if not width:
        return []
    corners, ends, owner = traced(mask)
    loops = [np.asarray(loop, np.float64) for loop in np.split(corners, ends[:-1])]
    parts: dict[int, list[int]] = {n: [n] for n, loop in enumerate(loops) if _area(loop) > 0}
    outline = list(range(len(loops)))
    # From above to below: what lies over a hole is then known to be an outline, or the hole of one.
    for hole in sorted(set(outline) - set(parts), key=lambda n: _topmost(loops[n])):
        y, x = (int(v) for v in _topmost(loops[hole]))
        top = y - 1
        while owner[top, x] < 0:
            top -= 1
        outline[hole] = outline[owner[top, x]]
        parts[outline[hole]].append(hole)
    moved = np.array([x0 - 1, y0 - 1], np.float64)
    return [[_simpler(loops[n], tolerance) + moved for n in members] for members in parts.values()]


def joined(loops: list[Loop]) -> Loop:
    """One loop of several, each led to by a cut from the nearest corner of those before it, there and back again.

    Under the even-odd rule the cut encloses nothing.

    Args:
        loops: one or more.

    Returns:
        float64 [K, 2].
    """
    whole = loops[0]
    for loop in loops[1:]:
        at, first = _nearest(whole, loop)
        cut = [whole[: at + 1], loop[first:], loop[: first + 1], whole[at:]]
        whole = np.concatenate(cut)
    return whole


def flat(loop: Loop) -> list[float]:
    """A loop [N, 2] as COCO writes it: x0, y0, x1, y1, ..."""
    return [float(value) for value in loop.ravel()]


def _topmost(loop: Loop) -> tuple[float, float]:
    y, x = min((float(y), float(x)) for x, y in loop)
    return y, x


def _area(loop: Loop) -> float:
    """Area in px, below 0 for a loop that goes round a hole."""
    x, y = loop[:, 0], loop[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _simpler(loop: Loop, tolerance: float) -> Loop:
    exact = _area(loop)
    # Begun where the outline surely turns: at the corner farthest from the middle.
    begin = int(np.argmax(((loop - loop.mean(0)) ** 2).sum(1)))
    turned = np.roll(loop, -begin, 0)
    points = np.empty((2 * len(turned) + 1, 2))
    points[:-1:2] = turned
    points[1::2] = (turned + np.roll(turned, -1, 0)) / 2
    points[-1] = turned[0]
    while tolerance >= _LEAST:
        found = points[_chords(points, tolerance * (1 - 1e-9))]
        if len(found) >= 3 and abs(_area(found) - exact) <= AREA_KEPT * abs(exact):
            return found
        tolerance /= 2
    return loop


def _nearest(whole: Loop, loop: Loop) -> tuple[int, int]:
    """Corners of two loops that are nearest to each other."""
    best, at, first = math.inf, 0, 0
    for n, corner in enumerate(loop):
        squares = ((whole - corner) ** 2).sum(1)
        m = int(np.argmin(squares))
        if squares[m] < best:
            best, at, first = float(squares[m]), m, n
    return at, first


@compiled
def _chords(points: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Numbers of the points to keep, the last left out: from each the farthest that a search by doubling finds."""
    kept = np.empty(len(points), np.int64)
    used, at, last = 0, 0, len(points) - 1
    while at < last:
        kept[used] = at
        used += 1
        good, step = at + 1, 2
        bad = last + 1
        while at + step <= last:
            if not _near(points, at, at + step, tolerance):
                bad = at + step
                break
            good = at + step
            step *= 2
        while bad - good > 1:
            middle = (good + bad) // 2
            if _near(points, at, middle, tolerance):
                good = middle
            else:
                bad = middle
        at = good
    return kept[:used].copy()


@compiled
def _near(points: NDArray[np.float64], first: int, last: int, tolerance: float) -> bool:
    """Whether all points between two of them lie within the tolerance of the chord that joins the two."""
    ax, ay = points[first, 0], points[first, 1]
    dx, dy = points[last, 0] - ax, points[last, 1] - ay
    square = dx * dx + dy * dy
    for n in range(first + 1, last):
        px, py = points[n, 0] - ax, points[n, 1] - ay
        along = 0.0
        if square > 0:
            along = min(max((px * dx + py * dy) / square, 0.0), 1.0)
        ex, ey = px - along * dx, py - along * dy
        if ex * ex + ey * ey > tolerance * tolerance:
            return False
    return True

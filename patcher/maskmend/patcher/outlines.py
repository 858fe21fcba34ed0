"""Outlines of a mask as COCO polygons that rasterise to exactly the same mask.

They run along the sides of pixels. COCO's polygons know no holes, so each hole is joined to the outline above it by a
vertical cut: there and back again, its two sides cancel out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._jit import compiled
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import Rle

MAX_WORK = 10**7
"""Largest product of corners and outlines, holes included: with more, joining holes would take
many seconds."""
Corners = list[tuple[int, int]]


def outlines(mask: Rle) -> list[list[float]]:
    """COCO polygons of a mask, one per 4-connected part: flat lists x0, y0, x1, y1, ... in px; none for an empty mask.

    `polygons_to_rle` makes exactly the same mask of them, as do COCO's own tools.

    Raises:
        MaskError: the mask has holes and corners beyond reason.
    """
    x0, y0, width, _ = mask.bbox
    if not width:
        return []
    corners, ends, owner = traced(mask)
    loops: list[Corners] = []
    begin = 0
    for end in ends:
        loops.append([(int(x), int(y)) for x, y in corners[begin:end]])
        begin = int(end)
    outer = [n for n, loop in enumerate(loops) if _is_outer(loop)]
    parent = list(range(len(loops)))
    # From above to below: the outline that a hole's cut ends at is then already part of its polygon.
    for hole in sorted(set(range(len(loops))) - set(outer), key=lambda n: min((y, x) for x, y in loops[n])):
        y, x = min((y, x) for x, y in loops[hole])
        top = y - 1
        while owner[top, x] < 0:
            top -= 1
        into = parent[owner[top, x]]
        parent[hole] = into
        for n in range(len(loops)):
            if parent[n] == hole:
                parent[n] = into
        _join(loops[into], loops[hole], (x, top), (x, y))
    return [[float(v) for x, y in loops[n] for v in (x + x0 - 1, y + y0 - 1)] for n in outer]


def traced(mask: Rle) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """`trace` of the box of a mask that is not empty, with a frame of one px round it.

    Raises:
        MaskError: the mask has holes and corners beyond reason.
    """
    x0, y0, width, height = mask.bbox
    framed = np.zeros((height + 2, width + 2), np.uint8)
    framed[1:-1, 1:-1] = mask.crop(x0, y0, x0 + width, y0 + height)
    corners, ends, owner = trace(framed)
    if len(corners) * len(ends) > MAX_WORK:
        raise MaskError(
            f"the mask has {len(ends)} outlines and holes; too ragged for polygons, use RLE", field="encoding"
        )
    return corners, ends, owner


def _is_outer(loop: Corners) -> bool:
    """Whether a loop goes round its inside clockwise, as seen with y downwards."""
    points = np.array(loop, np.int64)
    x, y = points[:, 0], points[:, 1]
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) > 0


def _join(outline: Corners, hole: Corners, at: tuple[int, int], start: tuple[int, int]) -> None:
    """Put a hole into an outline: from the outline at `at` down to the hole's corner `start`, round it, and back."""
    place = _place(outline, at)
    first = hole.index(start)
    outline[place:place] = [at, *hole[first:], *hole[:first], start, at]


def _place(outline: Corners, at: tuple[int, int]) -> int:
    """Index before which a point on a horizontal side of an outline belongs."""
    x, y = at
    for n, (ax, ay) in enumerate(outline):
        bx, by = outline[(n + 1) % len(outline)]
        if ay == by == y and min(ax, bx) <= x <= max(ax, bx):
            return n + 1
    raise AssertionError("a cut ends at no side of the outline")


@compiled
def trace(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Walk round every 4-connected part of a mask, and round its holes, the foreground at the right hand.

    Args:
        mask: uint8 [H, W], 0 or 1, its outermost rows and columns 0.

    Returns:
        Corners (x, y) of all loops, int32 [C, 2]; where each loop ends in them, int64 [L]; and int32 [H + 1, W] the loop
        that runs along the upper side of each pixel, -1 where none does.
    """
    height, width = mask.shape
    owner = np.full((height + 1, width), -1, np.int32)
    corners = np.empty((1024, 2), np.int32)
    ends = np.empty(64, np.int64)
    used, loops = 0, 0
    for row in range(1, height):
        for column in range(1, width):
            if not mask[row, column] or mask[row - 1, column] or owner[row, column] >= 0:
                continue
            x, y, dx, dy = column, row, 1, 0
            while True:
                if used == len(corners):
                    more = np.empty((2 * used, 2), np.int32)
                    more[:used] = corners
                    corners = more
                corners[used, 0], corners[used, 1] = x, y
                used += 1
                # Along one straight side, up to the corner where it turns.
                while True:
                    if dy == 0:
                        owner[y, x if dx > 0 else x - 1] = loops
                    x, y = x + dx, y + dy
                    # Of the two pixels ahead, the one at the right hand and the one at the left.
                    if dx > 0:
                        right, left = mask[y, x], mask[y - 1, x]
                    elif dx < 0:
                        right, left = mask[y - 1, x - 1], mask[y, x - 1]
                    elif dy > 0:
                        right, left = mask[y, x - 1], mask[y, x]
                    else:
                        right, left = mask[y - 1, x], mask[y - 1, x - 1]
                    if not right or left:
                        break
                if not right:
                    dx, dy = -dy, dx
                else:
                    dx, dy = dy, -dx
                if x == column and y == row and dx == 1:
                    break
            if loops == len(ends):
                longer = np.empty(2 * loops, np.int64)
                longer[:loops] = ends
                ends = longer
            ends[loops] = used
            loops += 1
    return corners[:used].copy(), ends[:loops].copy(), owner

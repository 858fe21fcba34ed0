"""Kernels of the covering: from left to right, each box takes in as much of what is still uncovered as it can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, ZERO, Bits
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole

CHOICES = 48
"""Boxes weighed against each other for each one that is kept, about."""


@compiled
def drawn(pixels: NDArray[np.int32], x0: int, y0: int, columns: int, rows: int) -> Bits:
    """Pixels (x, y) of a frame, int32 [N, 2], as bits of a region that holds them all."""
    bits = np.zeros((columns, (rows + 63) // 64), np.uint64)
    for n in range(len(pixels)):
        row = pixels[n, 1] - y0
        bits[pixels[n, 0] - x0, row >> 6] |= ONE << np.uint64(row & 63)
    return bits


@compiled
def rows_of(first: int, end: int, k: int) -> np.uint64:
    """Bits of the rows first..end-1 in word k."""
    low = max(first - 64 * k, 0)
    high = min(end - 64 * k, 64)
    if low >= high:
        return ZERO
    bits = ALL << np.uint64(low)
    if high < 64:
        bits &= (ONE << np.uint64(high)) - ONE
    return bits


@compiled
def start(centre: int, patch: int, side: int) -> int:
    """Where the box round a pixel begins, shifted into the frame."""
    return min(max(centre - patch // 2, 0), max(side - patch, 0))


@compiled
def core(first: int, patch: int, margin: int, side: int) -> tuple[int, int]:
    """What a box covers along one axis: all but a margin, which a side on the frame's own border does not need."""
    begin = first + margin if first > 0 else -1
    end = first + patch - margin if first + patch < side else side + patch
    return begin, end


@compiled
def count(bits: Bits, left: int, right: int, top: int, bottom: int) -> int:
    """Set bits in the columns left..right-1, rows top..bottom-1; a part of the region."""
    found = 0
    for c in range(left, right):
        for k in range(top >> 6, ((bottom - 1) >> 6) + 1):
            found += set_bits(bits[c, k] & rows_of(top, bottom, k))
    return found


@compiled
def within(
    x: int, y: int, patch: int, margin: int, width: int, height: int, x0: int, y0: int, columns: int, rows: int
) -> tuple[int, int, int, int]:
    """What the box at (x, y) covers of a region: left, right, top, bottom, in the region's own columns and rows."""
    left, right = core(x, patch, margin, width)
    top, bottom = core(y, patch, margin, height)
    return max(left - x0, 0), min(right - x0, columns), max(top - y0, 0), min(bottom - y0, rows)


@compiled
def best_at(
    wanted: Bits,
    left: Bits,
    column: int,
    row: int,
    x0: int,
    y0: int,
    rows: int,
    width: int,
    height: int,
    patch: int,
    margin: int,
) -> tuple[int, int]:
    """Corner of the box round a wanted pixel that covers the given one and the most of what is left; the first of equals."""
    columns = wanted.shape[0]
    half = patch // 2 - margin
    # All that is left lies in this column or to the right of it, so boxes further to the left cover no more.
    right = min(columns, column + half)
    top, bottom = max(0, row - half + 1), min(rows, row + half)
    stride = 1 + count(wanted, column, right, top, bottom) // CHOICES
    turn, most, best_x, best_y = 0, -1, 0, 0
    for c in range(column, right):
        for k in range(top >> 6, ((bottom - 1) >> 6) + 1):
            word = wanted[c, k] & rows_of(top, bottom, k)
            while word:
                r = 64 * k + trailing_zeros(word)
                word &= word - ONE
                turn += 1
                # The first one is always tried, and covers the pixel.
                if (turn - 1) % stride:
                    continue
                x, y = start(x0 + c, patch, width), start(y0 + r, patch, height)
                a, b, e, f = within(x, y, patch, margin, width, height, x0, y0, columns, rows)
                gain = count(left, a, b, e, f)
                if a <= column < b and e <= row < f and gain > most:
                    most, best_x, best_y = gain, x, y
    return best_x, best_y


@compiled
def cover(
    wanted: Bits, x0: int, y0: int, rows: int, width: int, height: int, patch: int, margin: int
) -> NDArray[np.int32]:
    """Boxes int32 [N, 4] such that each wanted pixel lies in the core of one.

    Args:
        wanted: bits of a region.
        x0: first column of the region in the frame.
        y0: first row of the region in the frame.
        rows: of the region.
        width: of the frame.
        height: of the frame.
        patch: side of a box.
        margin: less than half of that.
    """
    boxes = np.empty((64, 4), np.int32)
    kept = 0
    left = wanted.copy()
    columns, words = left.shape
    for c in range(columns):
        for k in range(words):
            while left[c, k]:
                row = 64 * k + trailing_zeros(left[c, k])
                x, y = best_at(wanted, left, c, row, x0, y0, rows, width, height, patch, margin)
                a, b, e, f = within(x, y, patch, margin, width, height, x0, y0, columns, rows)
                for i in range(a, b):
                    for j in range(e >> 6, ((f - 1) >> 6) + 1):
                        left[i, j] &= ~rows_of(e, f, j)
                if kept == boxes.shape[0]:
                    more = np.empty((2 * kept, 4), np.int32)
                    more[:kept] = boxes
                    boxes = more
                boxes[kept, 0], boxes[kept, 1] = x, y
                boxes[kept, 2], boxes[kept, 3] = x + patch, y + patch
                kept += 1
    return boxes[:kept].copy()


@compiled
def drop_still(
    wanted: Bits,
    x0: int,
    y0: int,
    width: int,
    height: int,
    patch: int,
    total: NDArray[np.int32],
    total_x: int,
    total_y: int,
    least: float,
) -> None:
    """Clear the pixels whose box holds fewer than `least` moved pixels.

    Args:
        wanted: bits of a region.
        x0: first column of the region in the frame.
        y0: first row of the region in the frame.
        width: of the frame.
        height: of the frame.
        patch: side of a box.
        total: int32 [h + 1, w + 1], moved pixels above and to the left of each place; holds all boxes.
        total_x: column of the frame where it begins.
        total_y: row of the frame where it begins.
        least: moved pixels.
    """
    columns, words = wanted.shape
    for c in range(columns):
        x = start(x0 + c, patch, width) - total_x
        for k in range(words):
            word = wanted[c, k]
            while word:
                bit = word & (~word + ONE)
                word ^= bit
                y = start(y0 + 64 * k + trailing_zeros(bit), patch, height) - total_y
                inside = whole(total[y + patch, x + patch]) - whole(total[y, x + patch])
                inside += whole(total[y, x]) - whole(total[y + patch, x])
                if inside < least:
                    wanted[c, k] &= ~bit

"""Boundary pixels of a mask and their scores (BPR, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, TOP, ZERO, Bits
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros
from maskmend.patcher.rle import Rle, as_rle, region_bits


class Levels(NamedTuple):
    """Boundary pixels by level, min(s, 9 - s), of a region of the frame: those of its words that have any.

    Attributes:
        words: uint64 [M, 4], of each such word the pixels of level 1, 2, 3 and 4.
        places: int32 [M, 2], column and number of the word, column by column, downwards; see `_bits`.
        x0: first column of the region in the frame, in px.
        y0: first row.
        width: of the region, in px.
        height: of it.
    """

    words: Bits
    places: NDArray[np.int32]
    x0: int
    y0: int
    width: int
    height: int


def boundary_pixels(mask: object) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Boundary pixels with their scores.

    The 3x3 sum s of the mask, with zeros around the frame, is 0 to 9. A pixel's score is min(s, 9 - s) / 4.5; those
    with a positive score, on both sides of the edge, are the boundary pixels.

    Args:
        mask: any mask that `as_rle` reads.

    Returns:
        int32 [N, 2] (x, y) in px, down the columns, and float64 [N] scores: 1, 2, 3 or 4 over 4.5.

    Raises:
        MaskError: the mask cannot be read.
    """
    levels = boundary_levels(as_rle(mask))
    pixels, level = _listed(levels.words, levels.places, levels.x0, levels.y0)
    return pixels, level / 4.5


def boundary_levels(mask: Rle) -> Levels:
    """Boundary pixels by level, in the object's bounding box grown by 1 px within the frame."""
    bx, by, bw, bh = mask.bbox
    if bw == 0:
        return Levels(np.zeros((0, 4), np.uint64), np.zeros((0, 2), np.int32), 0, 0, 0, 0)
    x0, y0 = max(bx - 1, 0), max(by - 1, 0)
    width, height = min(bx + bw + 1, mask.width) - x0, min(by + bh + 1, mask.height) - y0
    words, places = _score(region_bits(mask, x0, y0, width, height), height)
    return Levels(words, places, x0, y0, width, height)


@compiled
def _column_sums(bits: Bits, column: int, low: Bits, high: Bits) -> None:
    line = bits[column]
    above = ZERO
    word = line[0]
    for k in range(line.size):
        following = line[k + 1] if k + 1 < line.size else ZERO
        up = (word << ONE) | (above >> TOP)
        down = (word >> ONE) | (following << TOP)
        half = up ^ word
        low[k] = half ^ down
        high[k] = (up & word) | (half & down)
        above, word = word, following


@compiled
def _score(bits: Bits, height: int) -> tuple[Bits, NDArray[np.int32]]:
    """Add up 3x3 neighbours for 64 pixels at a time, the sum held as four words of one binary digit each."""
    width, words = bits.shape
    # Room for every word; what is not written takes no memory.
    levels = np.empty((width * words, 4), np.uint64)
    places = np.empty((width * words, 2), np.int32)
    used = 0
    # Sums of three vertical neighbours, low and high digit, of the columns c - 1, c and c + 1 in turn.
    low = np.zeros((3, words), np.uint64)
    high = np.zeros((3, words), np.uint64)
    _column_sums(bits, 0, low[1], high[1])
    for c in range(width):
        first, here, last = c % 3, (c + 1) % 3, (c + 2) % 3
        if c + 1 < width:
            _column_sums(bits, c + 1, low[last], high[last])
        else:
            low[last] = ZERO
            high[last] = ZERO
        left, own, right = low[first], low[here], low[last]
        left_high, own_high, right_high = high[first], high[here], high[last]
        for k in range(words):
            a, b, d = left[k], own[k], right[k]
            e, f, g = left_high[k], own_high[k], right_high[k]
            some, every = a | b | d | e | f | g, a & b & d & e & f & g
            # All background, or all foreground, as most words are.
            if some == ZERO or every == ALL:
                continue
            half = a ^ b
            ones = half ^ d
            carry = (a & b) | (half & d)
            half = e ^ f
            odd = half ^ g
            more = (e & f) | (half & g)
            twos = odd ^ carry
            carry &= odd
            fours = more ^ carry
            eights = more & carry
            used_rows = ALL
            if k == words - 1 and height & 63:
                used_rows = (ONE << np.uint64(height & 63)) - ONE
            apart = fours ^ ones
            levels[used, 0] = ~twos & ~fours & (eights ^ ones) & used_rows
            levels[used, 1] = twos & ~apart & used_rows
            levels[used, 2] = twos & apart & used_rows
            levels[used, 3] = fours & ~twos & used_rows
            places[used, 0], places[used, 1] = c, k
            used += 1
    return levels[:used], places[:used]


@compiled
def _listed(words: Bits, places: NDArray[np.int32], x0: int, y0: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    count = 0
    for word in words.flat:
        count += set_bits(word)
    pixels = np.empty((count, 2), np.int32)
    level = np.empty(count, np.int64)
    n = 0
    for m in range(words.shape[0]):
        union = words[m, 0] | words[m, 1] | words[m, 2] | words[m, 3]
        while union:
            bit = union & (~union + ONE)
            pixels[n, 0] = x0 + places[m, 0]
            pixels[n, 1] = y0 + 64 * places[m, 1] + trailing_zeros(union)
            for i in range(4):
                if words[m, i] & bit:
                    level[n] = i + 1
            n += 1
            union &= union - ONE
    return pixels, level

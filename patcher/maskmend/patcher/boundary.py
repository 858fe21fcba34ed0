"""Boundary pixels of a mask and their scores (BPR, section 3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, TOP, ZERO, Bits
from maskmend.patcher._jit import compiled, trailing_zeros
from maskmend.patcher.rle import Rle, as_rle, region_bits

Levels = NDArray[np.uint64]
"""uint64 [4, width, words]: bit columns of the boundary pixels of level 1, 2, 3 and 4."""


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
    levels, x0, y0, _ = boundary_levels(as_rle(mask))
    pixels, level = _listed(levels, x0, y0)
    return pixels, level / 4.5


def boundary_levels(mask: Rle) -> tuple[Levels, int, int, int]:
    """Boundary pixels by level, min(s, 9 - s), in the object's bounding box grown by 1 px within the frame.

    Returns:
        The bits of the four levels, uint64 [4, columns, words]; the column and the row of the frame where they begin; how
        many rows they have.
    """
    bx, by, bw, bh = mask.bbox
    if bw == 0:
        return np.zeros((4, 0, 0), np.uint64), 0, 0, 0
    x0, y0 = max(bx - 1, 0), max(by - 1, 0)
    width, height = min(bx + bw + 1, mask.width) - x0, min(by + bh + 1, mask.height) - y0
    bits = region_bits(mask, x0, y0, width, height)
    levels = np.zeros((4, *bits.shape), np.uint64)
    _score(bits, height, levels)
    return levels, x0, y0, height


@compiled
def _column_sums(bits: Bits, column: int, low: Bits, high: Bits) -> None:
    words = bits.shape[1]
    above = ZERO
    word = bits[column, 0]
    for k in range(words):
        following = bits[column, k + 1] if k + 1 < words else ZERO
        up = (word << ONE) | (above >> TOP)
        down = (word >> ONE) | (following << TOP)
        half = up ^ word
        low[k] = half ^ down
        high[k] = (up & word) | (half & down)
        above, word = word, following


@compiled
def _keep(levels: Levels, level: int, column: int, k: int, word: np.uint64) -> None:
    # Zero words are not written, so that the empty middle of a large region takes no memory.
    if word:
        levels[level, column, k] = word


@compiled
def _score(bits: Bits, height: int, levels: Levels) -> None:
    """Add up 3x3 neighbours for 64 pixels at a time, the sum held as four words of one binary digit each."""
    width, words = bits.shape
    # Sums of three vertical neighbours, low and high digit, of the columns c - 1, c and c + 1 in turn.
    low = np.zeros((3, words), np.uint64)
    high = np.zeros((3, words), np.uint64)
    _column_sums(bits, 0, low[1], high[1])
    for c in range(width):
        before, here, after = c % 3, (c + 1) % 3, (c + 2) % 3
        if c + 1 < width:
            _column_sums(bits, c + 1, low[after], high[after])
        else:
            low[after] = ZERO
            high[after] = ZERO
        for k in range(words):
            a, b, d = low[before, k], low[here, k], low[after, k]
            half = a ^ b
            ones = half ^ d
            carry = (a & b) | (half & d)
            a, b, d = high[before, k], high[here, k], high[after, k]
            half = a ^ b
            odd = half ^ d
            more = (a & b) | (half & d)
            twos = odd ^ carry
            carry &= odd
            fours = more ^ carry
            eights = more & carry
            used = ALL
            if k == words - 1 and height & 63:
                used = (ONE << np.uint64(height & 63)) - ONE
            apart = fours ^ ones
            _keep(levels, 0, c, k, ~twos & ~fours & (eights ^ ones) & used)
            _keep(levels, 1, c, k, twos & ~apart & used)
            _keep(levels, 2, c, k, twos & apart & used)
            _keep(levels, 3, c, k, fours & ~twos & used)


@compiled
def _listed(levels: Levels, x0: int, y0: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    count = 0
    for word in levels.flat:
        while word:
            word &= word - ONE
            count += 1
    pixels = np.empty((count, 2), np.int32)
    level = np.empty(count, np.int64)
    n = 0
    for c in range(levels.shape[1]):
        for k in range(levels.shape[2]):
            union = levels[0, c, k] | levels[1, c, k] | levels[2, c, k] | levels[3, c, k]
            while union:
                bit = union & (~union + ONE)
                pixels[n, 0] = x0 + c
                pixels[n, 1] = y0 + 64 * k + trailing_zeros(union)
                for i in range(4):
                    if levels[i, c, k] & bit:
                        level[n] = i + 1
                n += 1
                union &= union - ONE
    return pixels, level

"""Boundary pixels of a mask and their scores (BPR, section 3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ONE
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole
from maskmend.patcher._score import boundary_words, lower_levels, padded, region_of
from maskmend.patcher.rle import as_rle


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
    rle = as_rle(mask)
    pixels, level = _listed(rle.counts, rle.height, rle.width)
    return pixels, level / 4.5


@compiled
def _listed(counts: NDArray[np.uint32], height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Pixels and levels, min(s, 9 - s), of canonical runs."""
    x0, y0, w, h = region_of(counts, height, width)
    if w == 0:
        return np.empty((0, 2), np.int32), np.empty(0, np.int64)
    stride = (h + 63) // 64 + 1
    bits = padded(counts, height, x0, y0, w, h)
    numbers, some, _ = boundary_words(bits, w, h)
    total = 0
    for word in some:
        total += set_bits(word)
    pixels = np.empty((total, 2), np.int32)
    level = np.empty(total, np.int64)
    n = 0
    for m in range(numbers.size):
        number = whole(numbers[m])
        first, second, third = lower_levels(bits, number, stride)
        column, k = number // stride - 1, number % stride
        left = some[m]
        while left:
            bit = left & (~left + ONE)
            pixels[n, 0] = x0 + column
            pixels[n, 1] = y0 + 64 * k + trailing_zeros(left)
            level[n] = 4
            if first & bit:
                level[n] = 1
            elif second & bit:
                level[n] = 2
            elif third & bit:
                level[n] = 3
            n += 1
            left ^= bit
    return pixels, level

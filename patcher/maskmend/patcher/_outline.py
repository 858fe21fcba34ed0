"""Kernels for the image's edges along the outlines of two masks, in and next to the regions in which these differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, ZERO, Bits, rows_of, three_all, three_any
from maskmend.patcher._jit import compiled, trailing_zeros, whole
from maskmend.patcher._pieces import Runs, starts_of


@compiled
def along_outlines(
    before: Bits,
    after: Bits,
    height: int,
    runs: Runs,
    regions: NDArray[np.int32],
    image: NDArray[np.uint8],
    x0: int,
    y0: int,
    sums: NDArray[np.float64],
) -> None:
    """Add up how strong the image's edge is along both outlines.

    A pixel is on the outline of a mask if the 3x3 pixels around it, as far as they are of the region, are not all alike. It
    counts for the regions that it is of or next to; next to several, for the one of the highest number.

    Args:
        before: bits of the mask before the change.
        after: and after it.
        height: rows of both.
        runs: of the pixels in which they differ.
        regions: int32 [R], from 1.
        image: uint8 [H, W, 3], C-ordered.
        x0: column of the image that the bits begin at.
        y0: row of it.
        sums: float64 [4, count], to be added to: along the old outline the grey levels per px across the image's edge, of
            the strongest channel, each rounded to float32; how many pixels these are; the same along the new outline.
    """
    width = before.shape[0]
    differs = before ^ after
    starts = starts_of(runs, width)
    # The image smoothed, of three columns at a time, and which columns these are: most pixels are asked for several times.
    smooth = np.empty((3, height, 3), np.int32)
    known = np.full((3, height), -1, np.int32)
    flat = image.reshape(image.shape[0], 3 * image.shape[1])
    at = np.empty(3, np.int64)
    for c in range(width):
        first, end = max(c - 1, 0), min(c + 2, width)
        if starts[first] == starts[end]:
            continue
        at[:] = starts[first]
        for column in range(first, end):
            at[column - first] = starts[column]
        for k in range(before.shape[1]):
            near = ZERO
            for column in range(first, end):
                near |= three_any(differs, column, k)
            near &= rows_of(height, k)
            if not near:
                continue
            old, new = _outline(before, c, k, height, first, end), _outline(after, c, k, height, first, end)
            left = near & (old | new)
            while left:
                bit = left & (~left + ONE)
                left ^= bit
                y = 64 * k + trailing_zeros(bit)
                region = 0
                for column in range(first, end):
                    m = at[column - first]
                    while m < starts[column + 1] and runs[m, 2] < y:
                        m += 1
                    at[column - first] = m
                    while m < starts[column + 1] and runs[m, 1] <= y + 1:
                        region = max(region, whole(regions[m]))
                        m += 1
                strength = _strength(flat, x0, y0, width, height, y, c, smooth, known)
                if old & bit:
                    sums[0, region - 1] += strength
                    sums[1, region - 1] += 1.0
                if new & bit:
                    sums[2, region - 1] += strength
                    sums[3, region - 1] += 1.0


@compiled
def _outline(bits: Bits, c: int, k: int, height: int, first: int, end: int) -> np.uint64:
    some, every = ZERO, ALL
    for column in range(first, end):
        some |= three_any(bits, column, k)
        every &= three_all(bits, column, k, height)
    return some & ~every


@compiled
def _strength(
    image: NDArray[np.uint8],
    x0: int,
    y0: int,
    width: int,
    height: int,
    y: int,
    x: int,
    smooth: NDArray[np.int32],
    known: NDArray[np.int32],
) -> float:
    """Sobel's operator on the smoothed image; beyond the region's border that is mirrored about its border pixels."""
    up, down = _mirrored(y - 1, height), _mirrored(y + 1, height)
    left, right = _mirrored(x - 1, width), _mirrored(x + 1, width)
    a, b, d = left % 3, x % 3, right % 3
    for column in (left, x, right):
        for row in (up, y, down):
            if known[column % 3, row] != column:
                _smooth(image, x0, y0, width, height, row, column, smooth)
                known[column % 3, row] = column
    most = 0
    for channel in range(3):
        across = whole(smooth[d, up, channel]) - whole(smooth[a, up, channel])
        across += 2 * (whole(smooth[d, y, channel]) - whole(smooth[a, y, channel]))
        across += whole(smooth[d, down, channel]) - whole(smooth[a, down, channel])
        along = whole(smooth[a, down, channel]) - whole(smooth[a, up, channel])
        along += 2 * (whole(smooth[b, down, channel]) - whole(smooth[b, up, channel]))
        along += whole(smooth[d, down, channel]) - whole(smooth[d, up, channel])
        most = max(most, across * across + along * along)
    # Exact up to this root. OpenCV's own rounds now one way, now the other, as the pixel's place in memory has it. Sums of
    # such numbers are exact too, so that their order does not matter.
    return np.float64(np.sqrt(np.float32(most)) / np.float32(8))


@compiled
def _smooth(
    image: NDArray[np.uint8], x0: int, y0: int, width: int, height: int, y: int, x: int, smooth: NDArray[np.int32]
) -> None:
    """A pixel smoothed by (1 2 1) / 4 both ways and rounded; beyond the region's border the image is mirrored likewise."""
    top, row, bottom = y0 + _mirrored(y - 1, height), y0 + y, y0 + _mirrored(y + 1, height)
    left, at, right = 3 * (x0 + _mirrored(x - 1, width)), 3 * (x0 + x), 3 * (x0 + _mirrored(x + 1, width))
    for channel in range(3):
        a, b, d = left + channel, at + channel, right + channel
        corners = whole(image[top, a]) + whole(image[top, d]) + whole(image[bottom, a]) + whole(image[bottom, d])
        sides = whole(image[top, b]) + whole(image[bottom, b]) + whole(image[row, a]) + whole(image[row, d])
        smooth[x % 3, y, channel] = (corners + 2 * sides + 4 * whole(image[row, b]) + 8) >> 4


@compiled
def _mirrored(place: int, side: int) -> int:
    if side == 1:
        return 0
    if place < 0:
        return -place
    return place if place < side else 2 * side - 2 - place

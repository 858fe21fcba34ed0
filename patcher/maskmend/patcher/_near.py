"""Kernels that look at changed pixels only: distance to the edge, what the patches say.

They give what whole maps of the region would give at those pixels. Changed pixels are few and lie along the
edge, so a map is mostly work for nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, ZERO, Bits
from maskmend.patcher._jit import compiled, leading_zeros, trailing_zeros, whole

_FIRST_LOOK = 24
"""Radius in px of the circle in which the edge is looked for first."""


@compiled
def drop_far(after: Bits, before: Bits, height: int, reach: int) -> int:
    """Undo those changes that lie farther than `reach` px from the edge of `before`; returns how many pixels.

    Args:
        after: uint64 [w, words] of a region, changed in place.
        before: of the same region.
        height: rows of the region.
        reach: in px.
    """
    dropped = 0
    limit = reach * reach
    for c in range(after.shape[0]):
        for k in range(after.shape[1]):
            left = after[c, k] ^ before[c, k]
            while left:
                bit = left & (~left + ONE)
                left ^= bit
                if nearest(before, height, 64 * k + trailing_zeros(bit), c, limit + 1, limit) > limit:
                    after[c, k] ^= bit
                    dropped += 1
    return dropped


@compiled
def deepest(
    bits: Bits, height: int, runs: NDArray[np.int32], regions: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """Of each region of pixels the largest distance in px to the nearest pixel of the other value.

    Args:
        bits: uint64 [w, words] that hold pixels of both values.
        height: rows of them.
        runs: int32 [R, 3], of pixels of either value.
        regions: int32 [R], from 1.
        count: of regions.

    Returns:
        float64 [count], rounded to float32.
    """
    farthest = height + bits.shape[0]
    depth = np.zeros(count, np.int64)
    for n in range(regions.size):
        region = regions[n] - 1
        for y in range(whole(runs[n, 1]), whole(runs[n, 2])):
            # Most changes are near the edge; the rare others are looked for again in a wider circle.
            look = _FIRST_LOOK
            while True:
                # A pixel less deep than another one of its region need not be known any closer.
                found = nearest(bits, height, y, whole(runs[n, 0]), look * look, depth[region])
                if found < look * look or look > farthest:
                    break
                look *= 4
            depth[region] = max(depth[region], found)
    out = np.empty(count, np.float64)
    for region in range(count):
        out[region] = np.sqrt(np.float32(depth[region]))
    return out


@compiled
def nearest(bits: Bits, height: int, y: int, x: int, best: int, enough: int) -> int:
    """Squared distance to the nearest pixel of the other value, if less than `best`; any found that is at most `enough`."""
    flip = ALL if (bits[x, y >> 6] >> np.uint64(y & 63)) & ONE else ZERO
    away = 0
    while best > enough and away * away < best and (away <= x or x + away < bits.shape[0]):
        if x - away >= 0:
            best = _nearest_in_column(bits[x - away], height, y, flip, away * away, best)
        if away and x + away < bits.shape[0]:
            best = _nearest_in_column(bits[x + away], height, y, flip, away * away, best)
        away += 1
    return best


@compiled
def _nearest_in_column(column: Bits, height: int, y: int, flip: np.uint64, across: int, best: int) -> int:
    k, b = y >> 6, y & 63
    word = (column[k] ^ flip) & (ALL >> np.uint64(63 - b))
    up = k
    while word == ZERO and up > 0 and (y - (64 * up - 1)) ** 2 + across < best:
        up -= 1
        word = column[up] ^ flip
    if word:
        distance = y - (64 * up + 63 - leading_zeros(word))
        best = min(best, distance * distance + across)
    word = (column[k] ^ flip) & (ALL << np.uint64(b))
    down = k
    while word == ZERO and down + 1 < column.size and (64 * (down + 1) - y) ** 2 + across < best:
        down += 1
        word = column[down] ^ flip
    if word:
        # Bits below the region are 0, or 1 when flipped: neither are pixels.
        row = 64 * down + trailing_zeros(word)
        if row < height:
            best = min(best, (row - y) * (row - y) + across)
    return best


@compiled
def votes_at(
    boxes: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    window: NDArray[np.float32],
    x0: int,
    y0: int,
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> None:
    """As `_blend.gather`, at some pixels of a region that begins at (x0, y0).

    Args:
        boxes: int32 [B, 4].
        probabilities: float32 [B, P, P].
        window: float32 [P, P].
        x0: column of the frame.
        y0: row of the frame.
        starts: int64 [h + 1]; those of row r are number starts[r] to starts[r + 1] - 1.
        columns: int64 [N], ascending within a row.
        sums: float32 [3, N], to be added to.
    """
    height = starts.size - 1
    side = probabilities.shape[1]
    for n in range(boxes.shape[0]):
        bx, by = whole(boxes[n, 0]) - x0, whole(boxes[n, 1]) - y0
        for r in range(max(by, 0), min(by + side, height)):
            for i in range(starts[r], starts[r + 1]):
                c = columns[i] - bx
                if c < 0:
                    continue
                if c >= side:
                    break
                w = window[r - by, c]
                p = probabilities[n, r - by, c]
                sums[0, i] += w
                sums[1, i] += w * p
                sums[2, i] += w * p * p


@compiled
def uncertain(probabilities: NDArray[np.float32]) -> int:
    """How many p of float32 [N] are between 0.02 and 0.98."""
    count = 0
    for p in probabilities:
        count += (p > np.float32(0.02)) & (p < np.float32(0.98))
    return count


@compiled
def certainties(probabilities: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """|2p - 1| of those p of float32 [N] between 0.02 and 0.98, `count` of them, in their order."""
    out = np.empty(count + 1)
    used = 0
    for p in probabilities:
        # Written in any case and kept or not: which one it is cannot be foretold.
        out[used] = abs(2.0 * np.float64(p) - 1.0)
        used += (p > np.float32(0.02)) & (p < np.float32(0.98))
    return out[:count]


@compiled
def settle(sums: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32]) -> None:
    """Replace mean and spread, float32 [N], where the sums [3, N] of `votes_at` have any weight."""
    for i in range(mean.size):
        weight = sums[0, i]
        if weight:
            mean[i] = sums[1, i] / weight
            spread[i] = np.sqrt(max(sums[2, i] / weight - mean[i] * mean[i], np.float32(0)))


@compiled
def differing(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> int:
    """Pixels in which two masks of one frame differ, from their canonical runs."""
    total, at = 0, 0
    i, j = 0, 0
    end_a, end_b = whole(a[0]), whole(b[0])
    while i < a.size and j < b.size:
        end = min(end_a, end_b)
        if (i ^ j) & 1:
            total += end - at
        at = end
        if end_a == end:
            i += 1
            if i < a.size:
                end_a += whole(a[i])
        if end_b == end:
            j += 1
            if j < b.size:
                end_b += whole(b[j])
    return total

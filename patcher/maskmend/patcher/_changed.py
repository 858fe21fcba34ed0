"""Kernels for the connected regions in which two masks differ: their pixels, and sums over these.

A region is known by its runs down the columns, see `_pieces`; regions are numbered from 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ONE, Bits
from maskmend.patcher._jit import compiled, set_bits, whole
from maskmend.patcher._pieces import Runs, any_of, joined, part_of, root_of


@compiled
def regions_of(bits: Bits, height: int) -> tuple[Runs, NDArray[np.int32], int]:
    """Connected regions (8-neighbours), numbered in the order that OpenCV numbers them in: of their first 2x2 block.

    Returns:
        The runs int32 [R, 3]; the region of each, int32 [R]; how many regions there are.
    """
    runs, parents = joined(bits, height, True)
    across = (bits.shape[0] + 1) // 2
    first = np.full(parents.size, np.iinfo(np.int64).max)
    count = 0
    for n in range(parents.size):
        root = root_of(parents, n)
        first[root] = min(first[root], (whole(runs[n, 1]) >> 1) * across + (whole(runs[n, 0]) >> 1))
        count += root == n
    roots = np.empty(count, np.int64)
    begins = np.empty(count, np.int64)
    used = 0
    for n in range(parents.size):
        if parents[n] == n:
            roots[used], begins[used] = n, first[n]
            used += 1
    numbers = np.empty(parents.size, np.int32)
    for rank, n in enumerate(np.argsort(begins)):
        numbers[roots[n]] = rank + 1
    regions = np.empty(parents.size, np.int32)
    for n in range(parents.size):
        regions[n] = numbers[root_of(parents, n)]
    return runs, regions, count


@compiled
def pixels_of(
    runs: Runs, regions: NDArray[np.int32], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """The pixels of runs, row by row.

    Returns:
        int64 [height + 1]: those of row r are number starts[r] to starts[r + 1] - 1; their columns int64 [N]; the region of
        each, int32 [N].
    """
    # How many more pixels a row has than the one before, then how many there are before it.
    starts = np.zeros(height + 2, np.int64)
    for n in range(regions.size):
        starts[runs[n, 1] + 1] += 1
        starts[runs[n, 2] + 1] -= 1
    more, total = 0, 0
    for row in range(height):
        more += starts[row + 1]
        starts[row + 1] = total
        total += more
    columns = np.empty(total, np.int64)
    found = np.empty(total, np.int32)
    # Shifted by one place while pixels are put down: behind each row's last one the next row's begin.
    for n in range(regions.size):
        for row in range(whole(runs[n, 1]), whole(runs[n, 2])):
            at = starts[row + 1]
            columns[at], found[at] = runs[n, 0], regions[n]
            starts[row + 1] += 1
    return starts[: height + 1], columns, found


@compiled
def measure(
    before: Bits,
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    regions: NDArray[np.int32],
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    """Add up over the pixels of each region, row by row, into float64 [4, count].

    Args:
        before: bits of the mask before the change.
        starts: of `pixels_of`, and `columns` and `regions` too.
        columns: int64 [N].
        regions: int32 [N].
        mean: float32 [N], probability of the foreground; NaN where not known.
        spread: float32 [N]; NaN where not known.
        sums: pixels; +1 for those added and -1 for those taken; 2q - 1, q being the probability of the change; spread.
    """
    for row in range(starts.size - 1):
        for i in range(starts[row], starts[row + 1]):
            region = regions[i] - 1
            side = -1.0 if (before[columns[i], row >> 6] >> np.uint64(row & 63)) & ONE else 1.0
            p = np.float64(mean[i])
            sums[0, region] += 1.0
            sums[1, region] += side
            sums[2, region] += side * (2.0 * (0.5 if np.isnan(p) else p) - 1.0)
            if not np.isnan(spread[i]):
                sums[3, region] += np.float64(spread[i])


@compiled
def count_within(
    before: Bits, after: Bits, height: int, boxes: NDArray[np.int32], x0: int, y0: int
) -> NDArray[np.int64]:
    """Pixels of each box, int32 [N, 4] in the frame, in which two masks of the region that begins at (x0, y0) differ."""
    counts = np.zeros(boxes.shape[0], np.int64)
    for n in range(boxes.shape[0]):
        first, end = max(whole(boxes[n, 1]) - y0, 0), min(whole(boxes[n, 3]) - y0, height)
        if first >= end:
            continue
        for c in range(max(whole(boxes[n, 0]) - x0, 0), min(whole(boxes[n, 2]) - x0, before.shape[0])):
            for k in range(first >> 6, ((end - 1) >> 6) + 1):
                changed = before[c, k] ^ after[c, k]
                if changed:
                    counts[n] += set_bits(changed & part_of(first, end, k))
    return counts


@compiled
def flip(bits: Bits, runs: Runs, regions: NDArray[np.int32], chosen: NDArray[np.bool_]) -> None:
    """Flip the pixels of the chosen regions, bool [count]."""
    for n in range(regions.size):
        if chosen[regions[n] - 1]:
            for row in range(whole(runs[n, 1]), whole(runs[n, 2])):
                bits[runs[n, 0], row >> 6] ^= ONE << np.uint64(row & 63)


@compiled
def present(bits: Bits, runs: Runs, regions: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Whether any pixel of each region is set, bool [count]."""
    found = np.zeros(count, np.bool_)
    for n in range(regions.size):
        region = regions[n] - 1
        found[region] = found[region] or any_of(bits, runs[n])
    return found


@compiled
def paint(runs: Runs, regions: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """Write the region of each pixel into int32 [h, w]."""
    for n in range(regions.size):
        out[runs[n, 1] : runs[n, 2], runs[n, 0]] = regions[n]

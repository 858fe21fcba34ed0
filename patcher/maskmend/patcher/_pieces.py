"""Kernels that keep a mask in one piece, on the runs of its columns: a mask has few of them, whatever its size.

Regions are bit columns, uint64 [w, words], see `_bits`; `height` is how many rows they have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, TOP, ZERO, Bits, set_rows
from maskmend.patcher._jit import compiled, trailing_zeros, whole

Runs = NDArray[np.int32]
"""int32 [R, 3]: column, first row, row behind the last one, column by column, downwards."""


@compiled
def join_cuts(after: Bits, before: Bits, height: int, speck: int, thin: float, distance: NDArray[np.float32]) -> bool:
    """Set again what was taken of a thin part between two pieces; returns whether there was any.

    Args:
        after: of the refined mask, changed in place.
        before: of the coarse mask.
        height: of the region.
        speck: pieces of at most so many pixels are none.
        thin: what is joined lies nowhere farther than this from the coarse edge, in px.
        distance: float32 [height, w], of what was taken from the coarse edge.
    """
    runs, parents = _joined(after, height, False)
    sizes = _sizes(runs, parents)
    large = 0
    for n in range(sizes.size):
        large += parents[n] == n and sizes[n] > speck
    if large < 2:
        return False
    starts = _starts(runs, after.shape[0])
    taken, regions = _joined(before & ~after, height, False)
    first = np.full(regions.size, -1, np.int64)
    joins = np.zeros(regions.size, np.bool_)
    for n in range(regions.size):
        column, top, end = whole(taken[n, 0]), whole(taken[n, 1]), whole(taken[n, 2])
        region = _root(regions, n)
        for m in range(starts[max(column - 1, 0)], starts[min(column + 2, after.shape[0])]):
            if runs[m, 1] > end or runs[m, 2] < top:
                continue
            piece = _root(parents, m)
            if sizes[piece] <= speck:
                continue
            if first[region] < 0:
                first[region] = piece
            elif first[region] != piece:
                joins[region] = True
    for n in range(regions.size):
        region = _root(regions, n)
        if joins[region]:
            for y in range(whole(taken[n, 1]), whole(taken[n, 2])):
                if distance[y, taken[n, 0]] > thin:
                    joins[region] = False
                    break
    some = False
    for n in range(regions.size):
        if joins[_root(regions, n)]:
            set_rows(after, whole(taken[n, 0]), whole(taken[n, 1]), whole(taken[n, 2]))
            some = True
    return some


@compiled
def drop_fragments(after: Bits, before: Bits, height: int, speck: int) -> bool:
    """Clear parts that share nothing with the coarse mask, and specks cut off from a large part of it.

    Args:
        after: of the refined mask, changed in place.
        before: of the coarse mask.
        height: of the region.
        speck: most pixels of a speck.

    Returns:
        Whether there was any.
    """
    runs, parents = _joined(after, height, False)
    sizes = _sizes(runs, parents)
    pieces = 0
    for n in range(parents.size):
        pieces += parents[n] == n
    if pieces < 2:
        return False
    shared = np.zeros(parents.size, np.bool_)
    small = False
    for n in range(parents.size):
        root = _root(parents, n)
        if not shared[root] and _any(before, runs[n]):
            shared[root] = True
            small |= sizes[root] <= speck
    if small:
        # A small part that the coarse mask has just so stays.
        own = np.zeros_like(before)
        others, above = _joined(before, height, False)
        other_sizes = _sizes(others, above)
        for n in range(above.size):
            if other_sizes[_root(above, n)] > speck:
                set_rows(own, whole(others[n, 0]), whole(others[n, 1]), whole(others[n, 2]))
        for n in range(parents.size):
            root = _root(parents, n)
            if shared[root] and sizes[root] <= speck and _any(own, runs[n]):
                shared[root] = False
    some = False
    for n in range(parents.size):
        if not shared[_root(parents, n)]:
            _clear_rows(after, runs[n])
            some = True
    return some


@compiled
def fill_pinholes(after: Bits, before: Bits, height: int, most: int) -> bool:
    """Fill holes (4-neighbours) that were foreground in the coarse mask; what touches the region's border is no hole.

    Args:
        after: of the refined mask, changed in place.
        before: of the coarse mask.
        height: of the region.
        most: most pixels of a hole.

    Returns:
        Whether there was any.
    """
    width = after.shape[0]
    runs, parents = _joined(after, height, True)
    sizes = _sizes(runs, parents)
    for n in range(parents.size):
        root = _root(parents, n)
        if sizes[root] > most:
            continue
        column, first, end = whole(runs[n, 0]), whole(runs[n, 1]), whole(runs[n, 2])
        at_border = column == 0 or column == width - 1 or first == 0 or end == height
        if at_border or not _all(before, runs[n]):
            sizes[root] = most + 1
    some = False
    for n in range(parents.size):
        if sizes[_root(parents, n)] <= most:
            set_rows(after, whole(runs[n, 0]), whole(runs[n, 1]), whole(runs[n, 2]))
            some = True
    return some


@compiled
def _joined(bits: Bits, height: int, holes: bool) -> tuple[Runs, NDArray[np.int64]]:
    """Runs down the columns, and to which others they belong.

    Args:
        bits: of a region.
        height: of it.
        holes: take runs of the background, joined by their sides alone; else runs of the foreground, joined by corners too.

    Returns:
        The runs; int64 [R], for each one another of its part, or itself for the first of a part.
    """
    flip = ALL if holes else ZERO
    reach = 0 if holes else 1
    runs = np.empty((256, 3), np.int32)
    parents = np.empty(256, np.int64)
    used, before = 0, 0
    for c in range(bits.shape[0]):
        begin = used
        start = -1
        carry = ZERO
        for k in range(bits.shape[1]):
            word = bits[c, k] ^ flip
            changes = word ^ ((word << ONE) | carry)
            carry = word >> TOP
            while changes:
                at = 64 * k + trailing_zeros(changes)
                changes &= changes - ONE
                if start < 0:
                    start = at
                    continue
                runs, parents = _room(runs, parents, used)
                runs[used, 0], runs[used, 1], runs[used, 2] = c, start, at
                used += 1
                start = -1
        # What begins below the region are flipped zeros, not pixels.
        if 0 <= start < height:
            runs, parents = _room(runs, parents, used)
            runs[used, 0], runs[used, 1], runs[used, 2] = c, start, height
            used += 1
        other = before
        for n in range(begin, used):
            parents[n] = n
            while other < begin and runs[other, 2] + reach <= runs[n, 1]:
                other += 1
            m = other
            while m < begin and runs[m, 1] < runs[n, 2] + reach:
                a, b = _root(parents, m), _root(parents, n)
                parents[max(a, b)] = min(a, b)
                m += 1
        before = begin
    return runs[:used], parents[:used]


@compiled
def _room(runs: Runs, parents: NDArray[np.int64], used: int) -> tuple[Runs, NDArray[np.int64]]:
    if used < parents.size:
        return runs, parents
    longer, more = np.empty((2 * used, 3), np.int32), np.empty(2 * used, np.int64)
    longer[:used], more[:used] = runs, parents
    return longer, more


@compiled
def _root(parents: NDArray[np.int64], n: int) -> int:
    while parents[n] != n:
        parents[n] = parents[parents[n]]
        n = parents[n]
    return n


@compiled
def _sizes(runs: Runs, parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each part, at the place of its first run."""
    sizes = np.zeros(parents.size, np.int64)
    for n in range(parents.size):
        sizes[_root(parents, n)] += whole(runs[n, 2]) - whole(runs[n, 1])
    return sizes


@compiled
def _starts(runs: Runs, width: int) -> NDArray[np.int64]:
    """The first run of each column, and behind the last column how many runs there are."""
    starts = np.zeros(width + 1, np.int64)
    for n in range(runs.shape[0]):
        starts[runs[n, 0] + 1] += 1
    for c in range(width):
        starts[c + 1] += starts[c]
    return starts


@compiled
def _part(run: NDArray[np.int32], k: int) -> np.uint64:
    """The bits of a run within word number k of its column."""
    first, end = max(whole(run[1]) - 64 * k, 0), min(whole(run[2]) - 64 * k, 64)
    return (ALL << np.uint64(first)) & (ALL >> np.uint64(64 - end))


@compiled
def _any(bits: Bits, run: NDArray[np.int32]) -> bool:
    for k in range(run[1] >> 6, ((run[2] - 1) >> 6) + 1):  # noqa: SIM110  numba knows no any()
        if bits[run[0], k] & _part(run, k):
            return True
    return False


@compiled
def _all(bits: Bits, run: NDArray[np.int32]) -> bool:
    for k in range(run[1] >> 6, ((run[2] - 1) >> 6) + 1):  # noqa: SIM110
        if ~bits[run[0], k] & _part(run, k):
            return False
    return True


@compiled
def _clear_rows(bits: Bits, run: NDArray[np.int32]) -> None:
    for k in range(run[1] >> 6, ((run[2] - 1) >> 6) + 1):
        bits[run[0], k] &= ~_part(run, k)

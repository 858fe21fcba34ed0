"""Kernels that keep a mask in one piece, on the runs of its columns: a mask has few of them, whatever its size.

Regions are bit columns, uint64 [w, words], see `_bits`; `height` is how many rows they have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, TOP, ZERO, Bits, set_rows
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole
from maskmend.patcher._near import nearest

Runs = NDArray[np.int32]
"""int32 [R, 3]: column, first row, row behind the last one, column by column, downwards."""
Parents = NDArray[np.int64]
"""int64 [R]: of each run another one of its part, or itself; see `root_of`."""


@compiled
def tidy(after: Bits, before: Bits, height: int, speck: int, thin: int) -> bool:
    """Apply `join_cuts`, `drop_fragments` and `fill_pinholes`, in this order; returns whether anything was changed."""
    runs, parents = joined(after, height, True)
    cut = join_cuts(after, runs, parents, before, height, speck, thin)
    if cut:
        runs, parents = joined(after, height, True)
    broken = drop_fragments(after, runs, parents, before, height, speck)
    pierced = fill_pinholes(after, before, height, speck)
    return cut or broken or pierced


@compiled
def join_cuts(after: Bits, runs: Runs, parents: Parents, before: Bits, height: int, speck: int, thin: int) -> bool:
    """Set again what was taken of a thin part between two pieces; returns whether there was any.

    Args:
        after: of the refined mask, changed in place.
        runs: of `after` as it is, from `joined` with corners.
        parents: the same.
        before: of the coarse mask.
        height: of the region.
        speck: pieces of at most so many pixels are none.
        thin: what is joined lies nowhere farther than this from the coarse edge, in px.
    """
    sizes = _sizes(runs, parents)
    large = 0
    for n in range(sizes.size):
        large += parents[n] == n and sizes[n] > speck
    if large < 2:
        return False
    starts = starts_of(runs, after.shape[0])
    taken, regions = joined(before & ~after, height, True)
    first = np.full(regions.size, -1, np.int64)
    joins = np.zeros(regions.size, np.bool_)
    for n in range(regions.size):
        column, top, end = whole(taken[n, 0]), whole(taken[n, 1]), whole(taken[n, 2])
        region = root_of(regions, n)
        for m in range(starts[max(column - 1, 0)], starts[min(column + 2, after.shape[0])]):
            if runs[m, 1] > end or runs[m, 2] < top:
                continue
            piece = root_of(parents, m)
            if sizes[piece] <= speck:
                continue
            if first[region] < 0:
                first[region] = piece
            elif first[region] != piece:
                joins[region] = True
    limit = thin * thin
    for n in range(regions.size):
        region = root_of(regions, n)
        if joins[region]:
            for y in range(whole(taken[n, 1]), whole(taken[n, 2])):
                if nearest(before, height, y, whole(taken[n, 0]), limit + 1, limit) > limit:
                    joins[region] = False
                    break
    some = False
    for n in range(regions.size):
        if joins[root_of(regions, n)]:
            set_rows(after, whole(taken[n, 0]), whole(taken[n, 1]), whole(taken[n, 2]))
            some = True
    return some


@compiled
def drop_fragments(after: Bits, runs: Runs, parents: Parents, before: Bits, height: int, speck: int) -> bool:
    """Clear parts that share nothing with the coarse mask, and specks cut off from a large part of it.

    Args:
        after: of the refined mask, changed in place.
        runs: of `after` as it is, from `joined` with corners.
        parents: the same.
        before: of the coarse mask.
        height: of the region.
        speck: most pixels of a speck.

    Returns:
        Whether there was any.
    """
    pieces = 0
    for n in range(parents.size):
        pieces += parents[n] == n
    if pieces < 2:
        return False
    sizes = _sizes(runs, parents)
    shared = np.zeros(parents.size, np.bool_)
    small = False
    for n in range(parents.size):
        root = root_of(parents, n)
        if not shared[root] and any_of(before, runs[n]):
            shared[root] = True
            small |= sizes[root] <= speck
    if small:
        # A small part that the coarse mask has just so stays.
        own = np.zeros_like(before)
        others, above = joined(before, height, True)
        other_sizes = _sizes(others, above)
        for n in range(above.size):
            if other_sizes[root_of(above, n)] > speck:
                set_rows(own, whole(others[n, 0]), whole(others[n, 1]), whole(others[n, 2]))
        for n in range(parents.size):
            root = root_of(parents, n)
            if shared[root] and sizes[root] <= speck and any_of(own, runs[n]):
                shared[root] = False
    some = False
    for n in range(parents.size):
        if not shared[root_of(parents, n)]:
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
    # Such a hole is a part of what was taken that has no neighbour which both masks leave open.
    runs, parents = joined(before & ~after, height, False)
    sizes = _sizes(runs, parents)
    for n in range(parents.size):
        root = root_of(parents, n)
        if sizes[root] > most:
            continue
        column, first, end = whole(runs[n, 0]), whole(runs[n, 1]), whole(runs[n, 2])
        at_border = column == 0 or column == width - 1 or first == 0 or end == height
        if at_border or not _shut(before, after, column, first, end):
            sizes[root] = most + 1
    some = False
    for n in range(parents.size):
        if sizes[root_of(parents, n)] <= most:
            set_rows(after, whole(runs[n, 0]), whole(runs[n, 1]), whole(runs[n, 2]))
            some = True
    return some


@compiled
def keep_connected(bits: Bits, core: Bits, height: int) -> None:
    """Clear parts (8-neighbours) that share no pixel with `core`."""
    runs, parents = joined(bits, height, True)
    shared = np.zeros(parents.size, np.bool_)
    for n in range(parents.size):
        root = root_of(parents, n)
        shared[root] = shared[root] or any_of(core, runs[n])
    for n in range(parents.size):
        if not shared[root_of(parents, n)]:
            _clear_rows(bits, runs[n])


@compiled
def joined(bits: Bits, height: int, corners: bool) -> tuple[Runs, Parents]:
    """Runs down the columns of a region, and to which others they belong.

    Args:
        bits: of the region.
        height: of it.
        corners: whether pixels that share a corner alone belong together.

    Returns:
        The runs; int64 [R], for each one another of its part, or itself for the first of a part.
    """
    total = 0
    for c in range(bits.shape[0]):
        carry = ZERO
        for k in range(bits.shape[1]):
            word = bits[c, k]
            total += set_bits(word & ~((word << ONE) | carry))
            carry = word >> TOP
    reach = 1 if corners else 0
    runs = np.empty((total, 3), np.int32)
    parents = np.empty(total, np.int64)
    used, before = 0, 0
    for c in range(bits.shape[0]):
        begin = used
        inside = False
        carry = ZERO
        for k in range(bits.shape[1]):
            word = bits[c, k]
            changes = word ^ ((word << ONE) | carry)
            carry = word >> TOP
            while changes:
                at = 64 * k + trailing_zeros(changes)
                changes &= changes - ONE
                if inside:
                    runs[used, 2] = at
                    used += 1
                else:
                    runs[used, 0], runs[used, 1] = c, at
                inside = not inside
        if inside:
            runs[used, 2] = height
            used += 1
        other = before
        for n in range(begin, used):
            parents[n] = n
            while other < begin and runs[other, 2] + reach <= runs[n, 1]:
                other += 1
            m = other
            while m < begin and runs[m, 1] < runs[n, 2] + reach:
                a, b = root_of(parents, m), root_of(parents, n)
                parents[max(a, b)] = min(a, b)
                m += 1
        before = begin
    return runs, parents


@compiled
def root_of(parents: Parents, n: int) -> int:
    while parents[n] != n:
        parents[n] = parents[parents[n]]
        n = parents[n]
    return n


@compiled
def _sizes(runs: Runs, parents: Parents) -> NDArray[np.int64]:
    """Pixels of each part, at the place of its first run."""
    sizes = np.zeros(parents.size, np.int64)
    for n in range(parents.size):
        sizes[root_of(parents, n)] += whole(runs[n, 2]) - whole(runs[n, 1])
    return sizes


@compiled
def starts_of(runs: Runs, width: int) -> NDArray[np.int64]:
    """The first run of each column, and behind the last column how many runs there are."""
    starts = np.zeros(width + 1, np.int64)
    for n in range(runs.shape[0]):
        starts[runs[n, 0] + 1] += 1
    for c in range(width):
        starts[c + 1] += starts[c]
    return starts


@compiled
def part_of(first: int, end: int, k: int) -> np.uint64:
    """The rows first..end-1 as bits of word number k."""
    return (ALL << np.uint64(max(first - 64 * k, 0))) & (ALL >> np.uint64(64 - min(end - 64 * k, 64)))


@compiled
def any_of(bits: Bits, run: NDArray[np.int32]) -> bool:
    for k in range(run[1] >> 6, ((run[2] - 1) >> 6) + 1):  # noqa: SIM110  numba knows no any()
        if bits[run[0], k] & part_of(whole(run[1]), whole(run[2]), k):
            return True
    return False


@compiled
def _shut(before: Bits, after: Bits, column: int, first: int, end: int) -> bool:
    """Whether every pixel beside a run (not at the region's border) is foreground in one of two masks."""
    for k in range(first >> 6, ((end - 1) >> 6) + 1):
        part = part_of(first, end, k)
        for c in (column - 1, column + 1):
            if part & ~(before[c, k] | after[c, k]):
                return False
    for y in (first - 1, end):  # noqa: SIM110
        if not ((before[column, y >> 6] | after[column, y >> 6]) >> np.uint64(y & 63)) & ONE:
            return False
    return True


@compiled
def _clear_rows(bits: Bits, run: NDArray[np.int32]) -> None:
    for k in range(run[1] >> 6, ((run[2] - 1) >> 6) + 1):
        bits[run[0], k] &= ~part_of(whole(run[1]), whole(run[2]), k)

"""Kernels of the greedy suppression: the best live boundary pixel wins and clears the stencil around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, ZERO, Bits
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole

_LOW = np.uint64(0xFFFF_FFFF)
_LOW16 = np.uint64(0xFFFF)
_FEW = 24
"""Keys that are sorted by insertion, at most."""


@compiled
def mix(word: np.uint64) -> np.uint64:
    """MurmurHash3's 32-bit finaliser: a bijection of 0 to 2**32 - 1."""
    word ^= word >> np.uint64(16)
    word = (word * np.uint64(0x85EB_CA6B)) & _LOW
    word ^= word >> np.uint64(13)
    word = (word * np.uint64(0xC2B2_AE35)) & _LOW
    return word ^ (word >> np.uint64(16))


@compiled
def select(
    levels: Bits,
    places: NDArray[np.int32],
    x0: int,
    y0: int,
    width: int,
    height: int,
    reach: NDArray[np.int64],
    hashed: bool,
    salt: np.uint64,
) -> NDArray[np.int32]:
    """Pixels that survive, best first.

    Args:
        levels: boundary pixels by level, uint64 [M, 4]; see `Levels`.
        places: int32 [M, 2], column and number of each word.
        x0: first column of the region in the frame.
        y0: first row of the region in the frame.
        width: columns of the region.
        height: rows of the region.
        reach: int64 [R]: a winner suppresses up to reach[|dx|] rows above and below itself in the column dx away.
        hashed: whether ties go by hash; else by row, then column.
        salt: what is xored to a position before it is hashed, 0 to 2**32 - 1.

    Returns:
        int32 [N, 2] (x, y).
    """
    # The pixels that a winner suppressed.
    dead = np.zeros((width, (height + 63) // 64), np.uint64)
    # Each pass looks at the pixels of one range of keys. Winners of the first passes suppress nearly all others, and a
    # mask of pure noise takes no more memory than this.
    share = min(max(dead.size, 1024), 1 << 20)
    winners = np.empty((64, 2), np.int32)
    won = 0
    keys = np.empty(0, np.uint64)
    spare = np.empty(0, np.uint64)
    # Words that still have live pixels: after the first level few.
    words = np.arange(places.shape[0])
    for level in range(3, -1, -1):
        live = 0
        kept = 0
        for m in words:
            alive_there = ~dead[places[m, 0], places[m, 1]]
            live += set_bits(levels[m, level] & alive_there)
            rest = levels[m, level]
            for lower in range(level):
                rest |= levels[m, lower]
            words[kept] = m
            kept += (rest & alive_there) != ZERO
        words = words[:kept]
        if live == 0:
            continue
        passes = 1 + live // share
        for turn in range(passes):
            if hashed:
                begin = (turn << 32) // passes
                end = ((turn + 1) << 32) // passes
            else:
                begin = (y0 + turn * height // passes) << 16
                end = (y0 + (turn + 1) * height // passes) << 16
            n, later, keys = _collect(levels[:, level], words, places, dead, x0, y0, hashed, salt, begin, end, keys)
            if spare.size < n:
                spare = np.empty(keys.size, np.uint64)
            shift = 0
            while (end - begin - 1) >> shift > 255:
                shift += 1
            starts = _spread(keys[:n], spare[:n], begin, shift)
            for part in range(256):
                if starts[part] == starts[part + 1]:
                    continue
                alive = _alive(spare[starts[part] : starts[part + 1]], dead, x0, y0)
                _sort(alive, keys)
                for key in alive:
                    x, y = whole(key & _LOW16) - x0, whole((key >> np.uint64(16)) & _LOW16) - y0
                    if (dead[x, y >> 6] >> np.uint64(y & 63)) & ONE:
                        continue
                    if won == winners.shape[0]:
                        more = np.empty((2 * won, 2), np.int32)
                        more[:won] = winners
                        winners = more
                    winners[won, 0] = x0 + x
                    winners[won, 1] = y0 + y
                    won += 1
                    _suppress(dead, x, y, height, reach)
            if later == 0:
                break
    return winners[:won].copy()


@compiled
def _suppress(dead: Bits, x: int, y: int, height: int, reach: NDArray[np.int64]) -> None:
    for away in range(reach.size):
        first, last = max(0, y - reach[away]), min(height - 1, y + reach[away])
        a, b = first >> 6, last >> 6
        low, high = ALL << np.uint64(first & 63), ALL >> np.uint64(63 - (last & 63))
        # To the left and to the right, which for the winner's own column is the same.
        for column in (x - away, x + away):
            if column < 0 or column >= dead.shape[0]:
                continue
            if a == b:
                dead[column, a] |= low & high
                continue
            dead[column, a] |= low
            for k in range(a + 1, b):
                dead[column, k] = ALL
            dead[column, b] |= high


@compiled
def _collect(
    level: Bits,
    words: NDArray[np.int64],
    places: NDArray[np.int32],
    dead: Bits,
    x0: int,
    y0: int,
    hashed: bool,
    salt: np.uint64,
    begin: int,
    end: int,
    keys: NDArray[np.uint64],
) -> tuple[int, int, NDArray[np.uint64]]:
    """Live pixels with begin <= tie < end as keys (tie, y, x of 32, 16 and 16 bits); how many; how many come later."""
    n, later = 0, 0
    for m in words:
        c, k = whole(places[m, 0]), whole(places[m, 1])
        word = level[m] & ~dead[c, k]
        if word and n + 64 > keys.size:
            longer = np.empty(max(4096, 2 * keys.size), np.uint64)
            longer[:n] = keys[:n]
            keys = longer
        while word:
            position = np.uint64(((y0 + 64 * k + trailing_zeros(word)) << 16) | (x0 + c))
            word &= word - ONE
            tie = mix(position ^ salt) if hashed else position
            if whole(tie) >= end:
                later += 1
            elif whole(tie) >= begin:
                keys[n] = (tie << np.uint64(32)) | position
                n += 1
    return n, later, keys


@compiled
def _spread(keys: NDArray[np.uint64], out: NDArray[np.uint64], begin: int, shift: int) -> NDArray[np.int64]:
    """Put keys down by the eight highest bits of their ties; part p is out[starts[p] : starts[p + 1]]."""
    starts = np.zeros(258, np.int64)
    for key in keys:
        starts[((whole(key >> np.uint64(32)) - begin) >> shift) + 2] += 1
    for part in range(2, 258):
        starts[part] += starts[part - 1]
    for key in keys:
        part = (whole(key >> np.uint64(32)) - begin) >> shift
        out[starts[part + 1]] = key
        starts[part + 1] += 1
    return starts[:257]


@compiled
def _alive(keys: NDArray[np.uint64], dead: Bits, x0: int, y0: int) -> NDArray[np.uint64]:
    """Move keys of pixels that nobody suppressed yet to the front; returns those."""
    kept = 0
    for key in keys:
        x, y = whole(key & _LOW16) - x0, whole((key >> np.uint64(16)) & _LOW16) - y0
        keys[kept] = key
        kept += not (dead[x, y >> 6] >> np.uint64(y & 63)) & ONE
    return keys[:kept]


@compiled
def _sort(keys: NDArray[np.uint64], spare: NDArray[np.uint64]) -> None:
    """Sort in place by the upper 32 bits, which differ; few by insertion, many so that the values do not matter."""
    n = keys.size
    if n > _FEW:
        _sort_many(keys, spare)
        return
    for i in range(1, n):
        key = keys[i]
        j = i
        while j and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


@compiled
def _sort_many(keys: NDArray[np.uint64], spare: NDArray[np.uint64]) -> None:
    """Sort by the upper 32 bits, eight at a time; the time does not depend on the values."""
    n = keys.size
    counts = np.zeros((4, 256), np.int64)
    for i in range(n):
        tie = keys[i] >> np.uint64(32)
        counts[0, tie & np.uint64(255)] += 1
        counts[1, (tie >> np.uint64(8)) & np.uint64(255)] += 1
        counts[2, (tie >> np.uint64(16)) & np.uint64(255)] += 1
        counts[3, tie >> np.uint64(24)] += 1
    for digit in range(4):
        at = counts[digit]
        total = 0
        for value in range(256):
            count = at[value]
            at[value] = total
            total += count
        shift = np.uint64(32 + 8 * digit)
        source, target = (keys, spare) if digit & 1 == 0 else (spare, keys)
        for i in range(n):
            value = whole((source[i] >> shift) & np.uint64(255))
            target[at[value]] = source[i]
            at[value] += 1


@compiled
def place(centres: NDArray[np.int32], patch: int, width: int, height: int, reference: bool) -> NDArray[np.int32]:
    """Boxes int32 [N, 4] around pixels int32 [N, 2], shifted into the frame; `boundary_boxes` tells how."""
    boxes = np.empty((centres.shape[0], 4), np.int32)
    for n in range(centres.shape[0]):
        for axis in range(2):
            side = height if axis else width
            start = max(whole(centres[n, axis]) - patch // 2, 0)
            if reference:
                if start + patch >= side:
                    start = max(side - 1 - patch, 0)
            else:
                start = min(start, max(side - patch, 0))
            boxes[n, axis] = start
            boxes[n, axis + 2] = start + patch
    return boxes

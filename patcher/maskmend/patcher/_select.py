"""Kernels of the greedy suppression: the best live boundary pixel wins and clears the stencil around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, ZERO, Bits
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole
from maskmend.patcher._score import boundary_words, lower_levels, padded, region_of

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
def boxes_along(
    counts: NDArray[np.uint32],
    height: int,
    width: int,
    patch: int,
    reach: NDArray[np.int64],
    hashed: bool,
    salt: np.uint64,
    reference: bool,
) -> NDArray[np.int32]:
    """Boxes along the boundary of canonical runs, int32 [N, 4], best first: all of `boundary_boxes` in one call.

    Args:
        counts: uint32 [R].
        height: rows of the frame.
        width: columns of it.
        patch: side of a box in px.
        reach: int64 [R]: a winner suppresses up to reach[|dx|] rows above and below itself in the column dx away.
        hashed: whether ties go by hash; else by row, then column.
        salt: what is xored to a position before it is hashed, 0 to 2**32 - 1.
        reference: whether boxes are shifted into the frame as the official code does.
    """
    x0, y0, w, h = region_of(counts, height, width)
    if w == 0:
        return np.empty((0, 4), np.int32)
    bits = padded(counts, height, x0, y0, w, h)
    centres = _select(bits, x0, y0, w, h, reach, hashed, salt)
    return _place(centres, patch, width, height, reference)


@compiled
def _select(
    bits: Bits, x0: int, y0: int, width: int, height: int, reach: NDArray[np.int64], hashed: bool, salt: np.uint64
) -> NDArray[np.int32]:
    """Pixels that survive, int32 [N, 2] (x, y) in the frame, best first; `bits` are padded, of a region at (x0, y0)."""
    stride = (height + 63) // 64 + 1
    words, live, level = boundary_words(bits, width, height)
    # The pixels that a winner suppressed, padded as the bits are.
    dead = np.zeros(bits.size, np.uint64)
    # Each pass looks at the pixels of one range of keys. Winners of the first passes suppress nearly all others, and a
    # mask of pure noise takes no more memory than this.
    share = min(max(dead.size, 1024), 1 << 20)
    winners = np.empty((64, 2), np.int32)
    won = 0
    keys = np.empty(1024, np.uint64)
    spare = np.empty(1024, np.uint64)
    lower = np.empty((0, 3), np.uint64)
    for rank in range(4, 0, -1):
        if rank == 3:
            # Few words still have live pixels; only of those the lower levels are worth knowing.
            words, lower = _lower(bits, words, live, dead, stride)
        if rank < 4:
            level = lower[:, rank - 1]
        count = 0
        for m in range(words.size):
            count += set_bits(level[m] & ~dead[words[m]])
        if count == 0:
            continue
        passes = 1 + count // share
        first, whole_range = (0, 1 << 32) if hashed else (y0 << 16, height << 16)
        begin = first
        # A first look at an eighth of a pass: its winners suppress most of the rest, which then needs no sorting.
        end = first + whole_range // passes // (8 if count > 4 * _FEW else 1)
        turn = 0
        while True:
            n, later, keys = _collect(level, words, dead, stride, x0, y0, hashed, salt, begin, end, keys)
            if spare.size < n:
                spare = np.empty(keys.size, np.uint64)
            starts = _spread(keys[:n], spare[:n], begin, end)
            for part in range(starts.size - 1):
                if starts[part] == starts[part + 1]:
                    continue
                alive = _alive(spare[starts[part] : starts[part + 1]], dead, stride, x0, y0)
                _sort(alive, keys)
                for key in alive:
                    x, y = whole(key & _LOW16) - x0, whole((key >> np.uint64(16)) & _LOW16) - y0
                    if (dead[(x + 1) * stride + (y >> 6)] >> np.uint64(y & 63)) & ONE:
                        continue
                    if won == winners.shape[0]:
                        more = np.empty((2 * won, 2), np.int32)
                        more[:won] = winners
                        winners = more
                    winners[won, 0] = x0 + x
                    winners[won, 1] = y0 + y
                    won += 1
                    _suppress(dead, stride, x, y, width, height, reach)
            if later == 0:
                break
            begin = end
            if begin >= first + (turn + 1) * whole_range // passes:
                turn += 1
            end = first + (turn + 1) * whole_range // passes
    return winners[:won]


@compiled
def _lower(
    bits: Bits, words: NDArray[np.int64], live: Bits, dead: Bits, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The words that still have live pixels, int64 [M], and their boundary pixels of level 1, 2 and 3, uint64 [M, 3]."""
    kept = 0
    for m in range(words.size):
        words[kept], live[kept] = words[m], live[m]
        kept += (live[m] & ~dead[words[m]]) != ZERO
    levels = np.empty((kept, 3), np.uint64)
    for m in range(kept):
        first, second, third = lower_levels(bits, whole(words[m]), stride)
        levels[m, 0], levels[m, 1], levels[m, 2] = first & live[m], second & live[m], third & live[m]
    return words[:kept], levels


@compiled
def _suppress(dead: Bits, stride: int, x: int, y: int, width: int, height: int, reach: NDArray[np.int64]) -> None:
    for away in range(reach.size):
        first, last = max(0, y - reach[away]), min(height - 1, y + reach[away])
        a, b = first >> 6, last >> 6
        low, high = ALL << np.uint64(first & 63), ALL >> np.uint64(63 - (last & 63))
        # To the left and to the right, which for the winner's own column is the same.
        for column in (x - away, x + away):
            if column < 0 or column >= width:
                continue
            base = (column + 1) * stride
            if a == b:
                dead[base + a] |= low & high
                continue
            dead[base + a] |= low
            for k in range(base + a + 1, base + b):
                dead[k] = ALL
            dead[base + b] |= high


@compiled
def _collect(
    level: Bits,
    words: NDArray[np.int64],
    dead: Bits,
    stride: int,
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
    # Words come column by column.
    column, base = 0, stride
    for m in range(words.size):
        number = whole(words[m])
        word = level[m] & ~dead[number]
        if word == ZERO:
            continue
        while number >= base + stride:
            column += 1
            base += stride
        if n + 64 > keys.size:
            longer = np.empty(2 * keys.size, np.uint64)
            longer[:n] = keys[:n]
            keys = longer
        corner = ((y0 + 64 * (number - base)) << 16) | (x0 + column)
        while word:
            position = np.uint64(corner + (trailing_zeros(word) << 16))
            word &= word - ONE
            tie = mix(position ^ salt) if hashed else position
            # Written in any case and kept or not: which one it is cannot be foretold.
            keys[n] = (tie << np.uint64(32)) | position
            after = whole(tie) >= end
            later += after
            n += (whole(tie) >= begin) & (not after)
    return n, later, keys


@compiled
def _spread(keys: NDArray[np.uint64], out: NDArray[np.uint64], begin: int, end: int) -> NDArray[np.int64]:
    """Put keys down by the eight highest bits of their ties; part p is out[starts[p] : starts[p + 1]]."""
    if keys.size <= _FEW:
        out[:] = keys
        return np.array([0, keys.size])
    shift = 0
    while (end - begin - 1) >> shift > 255:
        shift += 1
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
def _alive(keys: NDArray[np.uint64], dead: Bits, stride: int, x0: int, y0: int) -> NDArray[np.uint64]:
    """Move keys of pixels that nobody suppressed yet to the front; returns those."""
    kept = 0
    for key in keys:
        x, y = whole(key & _LOW16) - x0, whole((key >> np.uint64(16)) & _LOW16) - y0
        keys[kept] = key
        kept += not (dead[(x + 1) * stride + (y >> 6)] >> np.uint64(y & 63)) & ONE
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
def _place(centres: NDArray[np.int32], patch: int, width: int, height: int, reference: bool) -> NDArray[np.int32]:
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

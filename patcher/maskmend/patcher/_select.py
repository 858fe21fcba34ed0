"""Kernels of the greedy suppression: the best live boundary pixel wins and clears the stencil around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ONE, Bits, set_rows
from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole

_LOW = np.uint64(0xFFFF_FFFF)
_LOW16 = np.uint64(0xFFFF)


@compiled
def mix(word: np.uint64) -> np.uint64:
    """MurmurHash3's 32-bit finaliser: a bijection of 0 to 2**32 - 1."""
    word ^= word >> np.uint64(16)
    word = (word * np.uint64(0x85EB_CA6B)) & _LOW
    word ^= word >> np.uint64(13)
    word = (word * np.uint64(0xC2B2_AE35)) & _LOW
    return word ^ (word >> np.uint64(16))


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


@compiled
def select(
    levels: NDArray[np.uint64],
    dead: Bits,
    x0: int,
    y0: int,
    height: int,
    reach: NDArray[np.int64],
    hashed: bool,
    salt: np.uint64,
) -> NDArray[np.int32]:
    """Pixels that survive, best first.

    Args:
        levels: boundary pixels by level, uint64 [4, width, words].
        dead: bits of the same region, 0 at the start; the pixels that a winner suppressed.
        x0: first column of the region in the frame.
        y0: first row of the region in the frame.
        height: rows of the region.
        reach: int64 [R]: a winner suppresses up to reach[|dx|] rows above and below itself in the column dx away.
        hashed: whether ties go by hash; else by row, then column.
        salt: what is xored to a position before it is hashed, 0 to 2**32 - 1.

    Returns:
        int32 [N, 2] (x, y).
    """
    width, words = dead.shape
    # Each pass sorts the pixels of one range of keys. Winners of the first passes suppress nearly all others, which
    # then need no sorting, and a mask of pure noise takes no more memory than this.
    share = min(max(width * words, 1024), 1 << 20)
    winners = np.empty((64, 2), np.int32)
    won = 0
    keys = np.empty(0, np.uint64)
    spare = np.empty(0, np.uint64)
    for level in range(3, -1, -1):
        live = 0
        for c in range(width):
            for k in range(words):
                live += set_bits(levels[level, c, k] & ~dead[c, k])
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
            n, later, keys = _collect(levels[level], dead, x0, y0, hashed, salt, np.uint64(begin), np.uint64(end), keys)
            if spare.size < n:
                spare = np.empty(keys.size, np.uint64)
            _sort(keys[:n], spare[:n])
            for i in range(n):
                x = whole(keys[i] & _LOW16) - x0
                y = whole((keys[i] >> np.uint64(16)) & _LOW16) - y0
                if (dead[x, y >> 6] >> np.uint64(y & 63)) & ONE:
                    continue
                if won == winners.shape[0]:
                    more = np.empty((2 * won, 2), np.int32)
                    more[:won] = winners
                    winners = more
                winners[won, 0] = x0 + x
                winners[won, 1] = y0 + y
                won += 1
                for c in range(max(0, x - reach.size + 1), min(width, x + reach.size)):
                    far = reach[abs(c - x)]
                    set_rows(dead, c, max(0, y - far), min(height, y + far + 1))
            if later == 0:
                break
    return winners[:won].copy()


@compiled
def _collect(
    level: Bits,
    dead: Bits,
    x0: int,
    y0: int,
    hashed: bool,
    salt: np.uint64,
    begin: np.uint64,
    end: np.uint64,
    keys: NDArray[np.uint64],
) -> tuple[int, int, NDArray[np.uint64]]:
    """Live pixels with begin <= tie < end as keys (tie, y, x of 32, 16 and 16 bits); how many; how many come later."""
    n, later = 0, 0
    for c in range(level.shape[0]):
        for k in range(level.shape[1]):
            word = level[c, k] & ~dead[c, k]
            if word and n + 64 > keys.size:
                longer = np.empty(max(4096, 2 * keys.size), np.uint64)
                longer[:n] = keys[:n]
                keys = longer
            while word:
                position = np.uint64(((y0 + 64 * k + trailing_zeros(word)) << 16) | (x0 + c))
                word &= word - ONE
                tie = mix(position ^ salt) if hashed else position
                if tie >= end:
                    later += 1
                elif tie >= begin:
                    keys[n] = (tie << np.uint64(32)) | position
                    n += 1
    return n, later, keys


@compiled
def _sort(keys: NDArray[np.uint64], spare: NDArray[np.uint64]) -> None:
    """Sort in place by the upper 32 bits (which differ), eight at a time; the time does not depend on the values."""
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

"""Kernels for regions of masks as bit columns.

A region is a rectangle (x0, y0, width, height) of the frame. Its bits are uint64 [width, words]: bit b of word k of
column c is the pixel (x0 + c, y0 + 64 * k + b). Bits below the region are always 0. One word holds 64 pixels, so a
region costs an eighth of a byte per pixel, and runs, boundary scores and suppression all work on whole words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._jit import compiled, set_bits, trailing_zeros, whole

Bits = NDArray[np.uint64]

ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
ONE = np.uint64(1)
ZERO = np.uint64(0)
TOP = np.uint64(63)


def empty_bits(width: int, height: int) -> Bits:
    """All-background bits of a region; memory pages never written are never really taken."""
    return np.zeros((width, (height + 63) // 64), np.uint64)


@compiled
def set_rows(bits: Bits, column: int, first: int, end: int) -> None:
    """Set the rows first..end-1 of one column; `first` < `end`."""
    a = first >> 6
    b = (end - 1) >> 6
    low = ALL << np.uint64(first & 63)
    high = ALL >> np.uint64(63 - ((end - 1) & 63))
    if a == b:
        bits[column, a] |= low & high
        return
    bits[column, a] |= low
    for k in range(a + 1, b):
        bits[column, k] = ALL
    bits[column, b] |= high


@compiled
def draw_runs(
    bits: Bits, counts: NDArray[np.uint32], frame_height: int, x0: int, y0: int, width: int, height: int
) -> None:
    """Set the foreground of canonical runs that lies in a region, which may reach beyond the frame."""
    column, row = 0, 0
    for i in range(counts.size):
        end = row + whole(counts[i])
        if i & 1:
            c, first = column, row
            left = end
            while left > 0 and c < x0 + width:
                if c >= x0:
                    a = max(first - y0, 0)
                    b = min(min(left, frame_height) - y0, height)
                    if a < b:
                        set_rows(bits, c - x0, a, b)
                first = 0
                left -= frame_height
                c += 1
        row = end
        if row >= frame_height:
            column += row // frame_height
            row %= frame_height
        if column >= x0 + width:
            return


@compiled
def dense_box(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Smallest (x, y, width, height) around the nonzero pixels of a C-ordered mask [H, W]; zeros if there are none."""
    height, width = mask.shape
    columns = np.zeros(width, np.uint8)
    y0, y1 = -1, 0
    for y in range(height):
        line = mask[y]
        some = np.uint8(0)
        for x in range(width):
            some |= line[x]
        if some:
            if y0 < 0:
                y0 = y
            y1 = y + 1
            for x in range(width):
                columns[x] |= line[x]
    if y0 < 0:
        return 0, 0, 0, 0
    x0 = 0
    while columns[x0] == 0:
        x0 += 1
    x1 = width
    while columns[x1 - 1] == 0:
        x1 -= 1
    return x0, y0, x1 - x0, y1 - y0


@compiled
def draw_dense(bits: Bits, mask: NDArray[np.uint8], x0: int, y0: int, height: int) -> None:
    """Set the nonzero pixels of a C-ordered mask [H, W] in a region that lies within it."""
    width = bits.shape[0]
    words = np.empty(width, np.uint64)
    for k in range(bits.shape[1]):
        words[:] = ZERO
        for b in range(min(64, height - 64 * k)):
            line = mask[y0 + 64 * k + b, x0 : x0 + width]
            shift = np.uint64(b)
            for c in range(width):
                words[c] |= np.uint64(line[c] != 0) << shift
        for c in range(width):
            bits[c, k] = words[c]


@compiled
def undraw(bits: Bits, out: NDArray[np.uint8], x0: int, y0: int, height: int) -> None:
    """Write a region as 0 and 1 into a C-ordered array [H, W] that holds it wholly."""
    width = bits.shape[0]
    words = np.empty(width, np.uint64)
    for k in range(bits.shape[1]):
        for c in range(width):
            words[c] = bits[c, k]
        for b in range(min(64, height - 64 * k)):
            line = out[y0 + 64 * k + b, x0 : x0 + width]
            shift = np.uint64(b)
            for c in range(width):
                line[c] = np.uint8((words[c] >> shift) & ONE)


@compiled
def read_runs(bits: Bits, frame_height: int, frame_width: int, x0: int, y0: int, height: int) -> NDArray[np.uint32]:
    """Canonical runs of a frame whose foreground is that of a region within it."""
    runs = np.empty(256, np.uint32)
    used = 0
    written = 0  # pixels in runs[:used]
    start = -1
    for c in range(bits.shape[0]):
        base = (x0 + c) * frame_height + y0
        carry = ZERO
        for k in range(bits.shape[1]):
            word = bits[c, k]
            changes = word ^ ((word << ONE) | carry)
            carry = word >> TOP
            while changes:
                at = base + 64 * k + trailing_zeros(changes)
                changes &= changes - ONE
                if start < 0:
                    start = at
                    continue
                if used + 2 > runs.size:
                    runs = _doubled(runs)
                used, written = _push(runs, used, written, start, at), at
                start = -1
        if start >= 0:
            # The last word ends in foreground: the region's own height closes the run, or the bits below it are 0.
            if used + 2 > runs.size:
                runs = _doubled(runs)
            end = base + height
            used, written = _push(runs, used, written, start, end), end
            start = -1
    if used == 0 or written < frame_height * frame_width:
        if used + 1 > runs.size:
            runs = _doubled(runs)
        runs[used] = frame_height * frame_width - written
        used += 1
    return runs[:used].copy()


@compiled
def _push(runs: NDArray[np.uint32], used: int, written: int, start: int, end: int) -> int:
    """Append the foreground run start..end-1; one that touches the run before makes it longer."""
    if used and start == written:
        runs[used - 1] += np.uint32(end - start)
        return used
    runs[used] = start - written
    runs[used + 1] = end - start
    return used + 2


@compiled
def _doubled(runs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    longer = np.empty(2 * runs.size, np.uint32)
    longer[: runs.size] = runs
    return longer


@compiled
def rows_of(height: int, k: int) -> np.uint64:
    """The bits of word number k that are rows of a region."""
    return ALL >> np.uint64(64 - min(height - 64 * k, 64))


@compiled
def three_any(bits: Bits, column: int, k: int) -> np.uint64:
    """Word number k of a column, each bit together with those above and below it: 1 where any is."""
    word = bits[column, k]
    above = bits[column, k - 1] >> TOP if k else ZERO
    below = bits[column, k + 1] << TOP if k + 1 < bits.shape[1] else ZERO
    return np.uint64(word | (word << ONE) | above | (word >> ONE) | below)


@compiled
def three_all(bits: Bits, column: int, k: int, height: int) -> np.uint64:
    """As `three_any`, 1 where all are; rows beyond the region do not count."""
    word = bits[column, k]
    above = bits[column, k - 1] >> TOP if k else ONE
    below = ONE << TOP
    if k + 1 < bits.shape[1]:
        below = bits[column, k + 1] << TOP
    else:
        word |= ~rows_of(height, k)
    return np.uint64(word & ((word << ONE) | above) & ((word >> ONE) | below))


@compiled
def count(bits: Bits) -> int:
    """Set bits."""
    total = 0
    for word in bits.flat:
        total += set_bits(word)
    return total


@compiled
def overlap(a: Bits, b: Bits) -> tuple[int, int]:
    """Pixels that two masks of a region share, and that they have together."""
    shared, together = 0, 0
    for c in range(a.shape[0]):
        for k in range(a.shape[1]):
            shared += set_bits(a[c, k] & b[c, k])
            together += set_bits(a[c, k] | b[c, k])
    return shared, together


@compiled
def count_around(bits: Bits, height: int) -> int:
    """Pixels of a region that are not set and have a neighbour (of eight) that is."""
    width, words = bits.shape
    total = 0
    for c in range(width):
        for k in range(words):
            beside = three_any(bits, c, k)
            if c:
                beside |= three_any(bits, c - 1, k)
            if c + 1 < width:
                beside |= three_any(bits, c + 1, k)
            total += set_bits(beside & ~bits[c, k] & rows_of(height, k))
    return total

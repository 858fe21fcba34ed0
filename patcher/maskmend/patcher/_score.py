"""Kernels that score the boundary pixels of a mask, 64 at a time.

They work on padded bits: those of a region (see `_bits`) as one line of words, an empty word behind each column and an
empty column on either side. Word k of column c is number (c + 1) * stride + k, stride being one more than a column's
words. So every word has its neighbours at fixed distances, and loops run over all words as one vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ONE, TOP, ZERO, Bits
from maskmend.patcher._codec import bounding_box
from maskmend.patcher._jit import compiled, whole

_BLOCK = 4096
"""Words that are scored at a time: what is written in between stays in the processor's own memory."""


@compiled
def region_of(counts: NDArray[np.uint32], height: int, width: int) -> tuple[int, int, int, int]:
    """Where a mask of canonical runs may have boundary pixels, (x0, y0, width, height): its box and a pixel more."""
    bx, by, bw, bh = bounding_box(counts, height)
    if bw == 0:
        return 0, 0, 0, 0
    x0, y0 = max(bx - 1, 0), max(by - 1, 0)
    return x0, y0, min(bx + bw + 1, width) - x0, min(by + bh + 1, height) - y0


@compiled
def padded(counts: NDArray[np.uint32], frame_height: int, x0: int, y0: int, width: int, height: int) -> Bits:
    """Padded bits of a region that holds the whole foreground of canonical runs."""
    stride = (height + 63) // 64 + 1
    bits = np.zeros((width + 2) * stride, np.uint64)
    # The first word of the column, and its row, which are looked for anew only when a run leaves its column.
    base = (1 - x0) * stride
    row = 0
    for i in range(counts.size):
        end = row + whole(counts[i])
        if i & 1:
            column, first, left = base, row, end
            while left > 0:
                _set(bits, column, first - y0, min(left, frame_height) - y0)
                first = 0
                left -= frame_height
                column += stride
        row = end
        if row >= frame_height:
            passed = 1
            if row >= 2 * frame_height:
                passed = row // frame_height
            base += passed * stride
            row -= passed * frame_height
    return bits


@compiled
def _set(bits: Bits, base: int, first: int, end: int) -> None:
    a, b = base + (first >> 6), base + ((end - 1) >> 6)
    low, high = ALL << np.uint64(first & 63), ALL >> np.uint64((64 - end) & 63)
    if a == b:
        bits[a] |= low & high
        return
    bits[a] |= low
    for k in range(a + 1, b):
        bits[k] = ALL
    bits[b] |= high


@compiled
def boundary_words(bits: Bits, width: int, height: int) -> tuple[NDArray[np.int64], Bits, Bits]:
    """Words of padded bits that have boundary pixels.

    Args:
        bits: uint64 [(width + 2) * stride].
        width: columns of the region.
        height: rows of it.

    Returns:
        The words' numbers, int64 [M], column by column, downwards; of each, uint64 [M], its boundary pixels and those of
        level 4.
    """
    words = (height + 63) // 64
    stride = words + 1
    last = ALL >> np.uint64((64 - height) & 63)
    # Room for every word; what is not written takes no memory.
    numbers = np.empty(width * words, np.int64)
    some = np.empty(width * words, np.uint64)
    best = np.empty(width * words, np.uint64)
    used = 0
    columns = min(max(_BLOCK // stride, 4), width)
    low = np.empty((columns + 2) * stride, np.uint64)
    high = np.empty((columns + 2) * stride, np.uint64)
    edge = np.empty(columns * stride, np.uint64)
    top = np.empty(columns * stride, np.uint64)
    for begin in range(0, width, columns):
        count = min(columns, width - begin)
        span = (count + 2) * stride
        _add_rows(bits[begin * stride : begin * stride + span], low, high)
        _add_columns(low[:span], high[:span], stride, edge, top)
        for c in range(count):
            number = (begin + c + 1) * stride
            for k in range(words):
                found = edge[c * stride + k]
                if k == words - 1:
                    found &= last
                if found:
                    numbers[used] = number + k
                    some[used] = found
                    best[used] = top[c * stride + k] & found
                    used += 1
    return numbers[:used], some[:used], best[:used]


@compiled
def _add_rows(bits: Bits, low: Bits, high: Bits) -> None:
    """Sums of three vertical neighbours as two binary digits; before the first word is an empty one, as is the last."""
    n = bits.size
    above, own, below = bits[: n - 2], bits[1 : n - 1], bits[2:]
    ones, twos = low[1 : n - 1], high[1 : n - 1]
    for i in range(n - 2):
        word = own[i]
        up = (word << ONE) | (above[i] >> TOP)
        down = (word >> ONE) | (below[i] << TOP)
        half = up ^ word
        ones[i] = half ^ down
        twos[i] = (up & word) | (half & down)
    word = bits[0]
    up, down = word << ONE, (word >> ONE) | (bits[1] << TOP)
    half = up ^ word
    low[0], high[0] = half ^ down, (up & word) | (half & down)
    low[n - 1] = high[n - 1] = ZERO


@compiled
def _add_columns(low: Bits, high: Bits, stride: int, edge: Bits, top: Bits) -> None:
    """Of all columns but the first and the last, pixels whose 3x3 sum is 1 to 8, and 4 or 5."""
    n = low.size - 2 * stride
    a, b, d = low[:n], low[stride : stride + n], low[2 * stride :]
    e, f, g = high[:n], high[stride : stride + n], high[2 * stride :]
    for i in range(n):
        edge[i] = (a[i] | b[i] | d[i] | e[i] | f[i] | g[i]) & ~(a[i] & b[i] & d[i] & e[i] & f[i] & g[i])
    for i in range(n):
        carry = (a[i] & b[i]) | ((a[i] ^ b[i]) & d[i])
        half = e[i] ^ f[i]
        odd = half ^ g[i]
        more = (e[i] & f[i]) | (half & g[i])
        top[i] = (more ^ (odd & carry)) & ~(odd ^ carry)


@compiled
def lower_levels(bits: Bits, number: int, stride: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The pixels of level 1, 2 and 3 of a word; the sum is held as four words of one binary digit each."""
    a, e = _column_sum(bits, number - stride)
    b, f = _column_sum(bits, number)
    d, g = _column_sum(bits, number + stride)
    half = a ^ b
    ones = half ^ d
    carry = (a & b) | (half & d)
    half = e ^ f
    odd = half ^ g
    more = (e & f) | (half & g)
    twos = odd ^ carry
    carry &= odd
    fours = more ^ carry
    eights = more & carry
    apart = fours ^ ones
    return ~twos & ~fours & (eights ^ ones), twos & ~apart, twos & apart


@compiled
def _column_sum(bits: Bits, number: int) -> tuple[np.uint64, np.uint64]:
    word = bits[number]
    # Only the first word of the first, empty column has none before it.
    above = bits[number - 1] if number else ZERO
    below = bits[number + 1]
    up = (word << ONE) | (above >> TOP)
    down = (word >> ONE) | (below << TOP)
    half = up ^ word
    return half ^ down, (up & word) | (half & down)

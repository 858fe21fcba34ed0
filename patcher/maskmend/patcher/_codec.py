"""Kernels for COCO run lengths: text to runs, runs to text, checks. They read only what they are given.

A mask's pixels are numbered down the columns (pixel (x, y) is x * height + y). Runs alternate background, foreground,
background, ...; canonical means that only the first run may have length 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._jit import compiled, whole

FINE = 0
BAD_CHARACTER = 1
UNTERMINATED = 2
OVERFLOW = 3
NEGATIVE = 4
TOO_LONG = 5
TOO_SHORT = 6

# Seven characters carry 35 bits; the longest mask allowed needs 29 with its sign.
_MOST_CHARACTERS = 7


@compiled
def parse_counts(text: NDArray[np.uint8], pixels: int) -> tuple[NDArray[np.uint32], int]:
    """Read compressed counts (uint8 characters) into canonical runs.

    Returns:
        The runs, uint32 [R], and a status: `FINE` or why the text is refused.
    """
    runs = np.empty(max(text.size, 1), np.uint32)
    used = 0
    index = 0
    total = 0
    before, last = 0, 0
    value, groups = 0, 0
    for i in range(text.size):
        code = whole(text[i]) - 48
        if code < 0 or code > 63:
            return runs[:0], BAD_CHARACTER
        if groups >= _MOST_CHARACTERS:
            return runs[:0], OVERFLOW
        value |= (code & 31) << (5 * groups)
        groups += 1
        if code & 32:
            continue
        if code & 16:
            value -= 1 << (5 * groups)
        # From the fourth run on the text holds the difference to the run two before.
        if index > 2:
            value += before
        if value < 0:
            return runs[:0], NEGATIVE
        total += value
        if total > pixels:
            return runs[:0], TOO_LONG
        used = _append(runs, used, index, value)
        before, last = last, value
        index += 1
        value, groups = 0, 0
    if groups:
        return runs[:0], UNTERMINATED
    if total < pixels:
        return runs[:0], TOO_SHORT
    return runs[:used].copy(), FINE


@compiled
def canonical_counts(counts: NDArray[np.int64], pixels: int) -> tuple[NDArray[np.uint32], int]:
    """Check uncompressed counts (int64 [R]) and merge around zero-length runs; returns as `parse_counts` does."""
    runs = np.empty(max(counts.size, 1), np.uint32)
    used = 0
    total = 0
    for index in range(counts.size):
        value = counts[index]
        if value < 0:
            return runs[:0], NEGATIVE
        if value > pixels - total:
            return runs[:0], TOO_LONG
        total += value
        used = _append(runs, used, index, value)
    if total < pixels:
        return runs[:0], TOO_SHORT
    return runs[:used].copy(), FINE


@compiled
def _append(runs: NDArray[np.uint32], used: int, index: int, value: int) -> int:
    """Put run number `index` of the input behind the canonical runs; returns how many these are now."""
    if used == 0:
        # Input that starts with several empty runs still has exactly one first (background) run.
        if index & 1 and value:
            runs[0] = 0
            runs[1] = value
            return 2
        runs[0] = value
        return 1
    if value == 0:
        return used
    if (index & 1) == ((used - 1) & 1):
        runs[used - 1] += np.uint32(value)
        return used
    runs[used] = value
    return used + 1


@compiled
def is_canonical(counts: NDArray[np.uint32], pixels: int) -> bool:
    """Whether runs (uint32 [R]) fill `pixels` exactly and only the first may be empty."""
    total = 0
    for i in range(counts.size):
        if i and counts[i] == 0:
            return False
        total += whole(counts[i])
    return total == pixels


@compiled
def format_counts(counts: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Write canonical runs as compressed counts (uint8 characters), the same text that COCO's tools write."""
    text = np.empty(counts.size * _MOST_CHARACTERS, np.uint8)
    used = 0
    for i in range(counts.size):
        value = whole(counts[i])
        if i > 2:
            value -= whole(counts[i - 2])
        while True:
            code = value & 31
            value >>= 5
            done = value == -1 if code & 16 else value == 0
            text[used] = (code if done else code | 32) + 48
            used += 1
            if done:
                break
    return text[:used].copy()


@compiled
def bounding_box(counts: NDArray[np.uint32], height: int) -> tuple[int, int, int, int]:
    """Smallest (x, y, width, height) around the foreground of canonical runs; zeros when there is none."""
    x0, x1, y0, y1 = -1, 0, height, 0
    column, row = 0, 0
    for i in range(counts.size):
        length = whole(counts[i])
        if i & 1:
            if x0 < 0:
                x0 = column
            end = row + length
            x1 = column + (end - 1) // height
            if end > height:
                y0, y1 = 0, height
            else:
                y0 = min(y0, row)
                y1 = max(y1, end)
        row += length
        if row >= height:
            column += row // height
            row %= height
    if x0 < 0:
        return 0, 0, 0, 0
    return x0, y0, x1 + 1 - x0, y1 - y0


@compiled
def foreground(counts: NDArray[np.uint32]) -> int:
    """Number of foreground pixels of canonical runs."""
    total = 0
    for i in range(1, counts.size, 2):
        total += whole(counts[i])
    return total

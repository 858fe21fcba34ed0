"""Kernels that cut patches: crop, resize and normalise in one go."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ONE, Bits
from maskmend.patcher._jit import compiled, whole


@compiled
def cut(
    image: NDArray[np.uint8],
    bits: Bits,
    mask_x: int,
    mask_y: int,
    mask_height: int,
    boxes: NDArray[np.int32],
    padding: int,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill float32 [N, 4, S, S]; `bits` is the region of the mask that begins at (mask_x, mask_y), 0 elsewhere."""
    height, width = image.shape[:2]
    size = out.shape[2]
    side = boxes[0, 2] - boxes[0, 0] + 2 * padding
    near, far, part = _taps(side, size)
    columns = np.empty(side, np.int64)
    rows = np.empty((3, side, size), np.float32)
    for n in range(boxes.shape[0]):
        x0 = whole(boxes[n, 0]) - padding
        y0 = whole(boxes[n, 1]) - padding
        for c in range(side):
            columns[c] = min(max(x0 + c, 0), width - 1)
        _cut_mask(bits, mask_x - x0, mask_y - y0, mask_height, side, out[n, 3])
        for r in range(side):
            line = image[min(max(y0 + r, 0), height - 1)]
            if size == side:
                for c in range(size):
                    pixel = line[columns[c]]
                    out[n, 0, r, c] = np.float32(pixel[0]) * scale[0] + shift[0]
                    out[n, 1, r, c] = np.float32(pixel[1]) * scale[1] + shift[1]
                    out[n, 2, r, c] = np.float32(pixel[2]) * scale[2] + shift[2]
                continue
            for c in range(size):
                left = line[columns[near[c]]]
                right = line[columns[far[c]]]
                for channel in range(3):
                    value = np.float32(left[channel])
                    value += (np.float32(right[channel]) - value) * part[c]
                    rows[channel, r, c] = value * scale[channel] + shift[channel]
        if size == side:
            continue
        for channel in range(3):
            for r in range(size):
                upper, lower, share = rows[channel, near[r]], rows[channel, far[r]], part[r]
                line_out = out[n, channel, r]
                for c in range(size):
                    line_out[c] = upper[c] + (lower[c] - upper[c]) * share


@compiled
def _taps(side: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Bilinear taps with half-pixel centres: the two source positions of each output, and the second's weight."""
    near = np.empty(size, np.int64)
    far = np.empty(size, np.int64)
    part = np.empty(size, np.float32)
    for i in range(size):
        at = min(max((i + 0.5) * side / size - 0.5, 0.0), side - 1.0)
        near[i] = whole(at)
        far[i] = min(near[i] + 1, side - 1)
        part[i] = at - near[i]
    return near, far, part


@compiled
def _cut_mask(bits: Bits, left: int, top: int, height: int, side: int, out: NDArray[np.float32]) -> None:
    """Nearest-neighbour crop as -1 and +1; the region begins `left`, `top` px into the crop."""
    size = out.shape[0]
    words = np.empty(((side + 63) // 64, size), np.uint64)
    column = np.empty(words.shape[0], np.uint64)
    for c in range(size):
        _read_column(bits, (c * side) // size - left, -top, height, side, column)
        words[:, c] = column
    last = -1
    for r in range(size):
        row = (r * side) // size
        line = out[r]
        if row == last:
            line[:] = out[r - 1]
            continue
        last = row
        word, b = words[row >> 6], np.uint64(row & 63)
        for c in range(size):
            line[c] = np.float32(np.int32((word[c] >> b) & ONE) * np.int32(2) - np.int32(1))


@compiled
def _read_column(bits: Bits, column: int, first: int, height: int, length: int, out: Bits) -> None:
    """The `length` rows of a column from row `first` on, which may lie outside the region, as words."""
    out[:] = np.uint64(0)
    if column < 0 or column >= bits.shape[0]:
        return
    for k in range(out.size):
        row = first + 64 * k
        if row <= -64 or row >= height:
            continue
        a = row >> 6
        b = row & 63
        word = np.uint64(0)
        if a >= 0:
            word = bits[column, a] >> np.uint64(b)
        if b and a + 1 < bits.shape[1]:
            word |= bits[column, a + 1] << np.uint64(64 - b)
        out[k] = word

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
    height = image.shape[0]
    # Rows as one axis: a stride of 3 that is known when this is compiled makes whole vectors of the loops below.
    flat = image.reshape(height, 3 * image.shape[1])
    size = out.shape[2]
    side = boxes[0, 2] - boxes[0, 0] + 2 * padding
    near, far, part = _taps(side, size)
    # One row of the crop, channel by channel, with its border pixels once more on either side.
    line = np.empty((3, side + 2), np.uint8)
    rows = np.empty((3, max(side, 2), size), np.float32)
    for n in range(boxes.shape[0]):
        x0 = whole(boxes[n, 0]) - padding
        y0 = whole(boxes[n, 1]) - padding
        _cut_mask(bits, mask_x - x0, mask_y - y0, mask_height, side, out[n, 3])
        for r in range(side):
            _read_line(flat, min(max(y0 + r, 0), height - 1), x0, side, line)
            if size == side:
                _normalise(line, scale, shift, out, n, r)
            elif size == 2 * side:
                # Two rows are enough to remember.
                _double(line, scale, shift, rows, r & 1)
                _double_down(rows, r & 1, side, out, n, r)
            else:
                _resize(line, near, far, part, scale, shift, rows, r)
        if size != side and size != 2 * side:
            _resize_down(rows, near, far, part, out, n)


# The kernels below take whole arrays and places in them: a view of each row would cost as much as the row.


@compiled
def _read_line(image: NDArray[np.uint8], row: int, x0: int, side: int, line: NDArray[np.uint8]) -> None:
    """Columns x0 to x0 + side - 1 of a row of an image, uint8 [H, 3 W], repeated beyond its ends, into line[:, 1:-1]."""
    width = image.shape[1] // 3
    first, end = min(max(-x0, 0), side), max(min(width - x0, side), 0)
    if first < end:
        inside = image[row, 3 * (x0 + first) : 3 * (x0 + end)]
        red, green, blue = line[0, 1 + first : 1 + end], line[1, 1 + first : 1 + end], line[2, 1 + first : 1 + end]
        for c in range(end - first):
            red[c] = inside[3 * c]
            green[c] = inside[3 * c + 1]
            blue[c] = inside[3 * c + 2]
    for channel in range(3):
        for c in range(first):
            line[channel, 1 + c] = image[row, channel]
        for c in range(end, side):
            line[channel, 1 + c] = image[row, 3 * width - 3 + channel]
        line[channel, 0] = line[channel, 1]
        line[channel, side + 1] = line[channel, side]


@compiled
def _normalise(
    line: NDArray[np.uint8],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32],
    n: int,
    r: int,
) -> None:
    for channel in range(3):
        times, plus = scale[channel], shift[channel]
        for c in range(out.shape[3]):
            out[n, channel, r, c] = np.float32(line[channel, c + 1]) * times + plus


@compiled
def _double(
    line: NDArray[np.uint8],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    rows: NDArray[np.float32],
    r: int,
) -> None:
    """As `_resize` to twice the length, where the taps are the same for every pixel."""
    for channel in range(3):
        times, plus = scale[channel], shift[channel]
        for c in range(rows.shape[2] // 2):
            left, own = np.float32(line[channel, c]), np.float32(line[channel, c + 1])
            right = np.float32(line[channel, c + 2])
            rows[channel, r, 2 * c] = (left + (own - left) * np.float32(0.75)) * times + plus
            rows[channel, r, 2 * c + 1] = (own + (right - own) * np.float32(0.25)) * times + plus


@compiled
def _double_down(rows: NDArray[np.float32], new: int, side: int, out: NDArray[np.float32], n: int, r: int) -> None:
    """Write the rows of twice the height between row r, which is number `new` of rows [3, .., S], and the one before."""
    for channel in range(3):
        if r:
            for c in range(out.shape[3]):
                own = rows[channel, 1 - new, c]
                step = rows[channel, new, c] - own
                out[n, channel, 2 * r - 1, c] = own + step * np.float32(0.25)
                out[n, channel, 2 * r, c] = own + step * np.float32(0.75)
        else:
            for c in range(out.shape[3]):
                out[n, channel, 0, c] = rows[channel, new, c]
        if r == side - 1:
            for c in range(out.shape[3]):
                out[n, channel, 2 * r + 1, c] = rows[channel, new, c]


@compiled
def _resize(
    line: NDArray[np.uint8],
    near: NDArray[np.int64],
    far: NDArray[np.int64],
    part: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    rows: NDArray[np.float32],
    r: int,
) -> None:
    for channel in range(3):
        times, plus = scale[channel], shift[channel]
        for c in range(rows.shape[2]):
            left, right = np.float32(line[channel, near[c] + 1]), np.float32(line[channel, far[c] + 1])
            rows[channel, r, c] = (left + (right - left) * part[c]) * times + plus


@compiled
def _resize_down(
    rows: NDArray[np.float32],
    near: NDArray[np.int64],
    far: NDArray[np.int64],
    part: NDArray[np.float32],
    out: NDArray[np.float32],
    n: int,
) -> None:
    for channel in range(3):
        for r in range(out.shape[2]):
            upper, lower, share = near[r], far[r], part[r]
            for c in range(out.shape[3]):
                own = rows[channel, upper, c]
                out[n, channel, r, c] = own + (rows[channel, lower, c] - own) * share


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

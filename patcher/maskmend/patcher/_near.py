"""Kernels that look at changed pixels only: distance to the edge, what the patches say, how strong the image's edge is.

They give what whole maps of the region would give at those pixels. Changed pixels are few and lie along the
edge, so a map is mostly work for nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ZERO, Bits
from maskmend.patcher._jit import compiled, leading_zeros, trailing_zeros, whole

_FIRST_LOOK = 24
"""Radius in px of the circle in which the edge is looked for first."""


def places_of(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels of uint8 [h, w] that are not 0, row by row, as `np.nonzero` gives them."""
    rows, columns = np.divmod(flat_places(mask.ravel()), mask.shape[1])
    return rows, columns


@compiled
def edge_distance(
    bits: Bits, height: int, rows: NDArray[np.int64], columns: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write into out [height, w] the distance in px of some pixels to the nearest one of the other value.

    Args:
        bits: of a region that holds pixels of both values, uint64 [w, words].
        height: rows of the region.
        rows: int64 [N], of the pixels.
        columns: int64 [N].
        out: float32 [height, w]; other pixels are left as they are.
    """
    farthest = height + bits.shape[0]
    for n in range(rows.size):
        y, x = rows[n], columns[n]
        # Most changes are near the edge; the rare others are looked for again in a wider circle.
        look = _FIRST_LOOK
        found = look * look
        while True:
            found = _nearest(bits, height, y, x, look * look)
            if found < look * look or look > farthest:
                break
            look *= 4
        out[y, x] = np.sqrt(np.float32(found))


@compiled
def _nearest(bits: Bits, height: int, y: int, x: int, best: int) -> int:
    """Squared distance to the nearest pixel of the other value, if less than `best`."""
    flip = ALL if (bits[x, y >> 6] >> np.uint64(y & 63)) & np.uint64(1) else ZERO
    away = 0
    while away * away < best and (away <= x or x + away < bits.shape[0]):
        if x - away >= 0:
            best = _nearest_in_column(bits[x - away], height, y, flip, away * away, best)
        if away and x + away < bits.shape[0]:
            best = _nearest_in_column(bits[x + away], height, y, flip, away * away, best)
        away += 1
    return best


@compiled
def _nearest_in_column(column: Bits, height: int, y: int, flip: np.uint64, across: int, best: int) -> int:
    k, b = y >> 6, y & 63
    word = (column[k] ^ flip) & (ALL >> np.uint64(63 - b))
    up = k
    while word == ZERO and up > 0 and (y - (64 * up - 1)) ** 2 + across < best:
        up -= 1
        word = column[up] ^ flip
    if word:
        distance = y - (64 * up + 63 - leading_zeros(word))
        best = min(best, distance * distance + across)
    word = (column[k] ^ flip) & (ALL << np.uint64(b))
    down = k
    while word == ZERO and down + 1 < column.size and (64 * (down + 1) - y) ** 2 + across < best:
        down += 1
        word = column[down] ^ flip
    if word:
        # Bits below the region are 0, or 1 when flipped: neither are pixels.
        row = 64 * down + trailing_zeros(word)
        if row < height:
            best = min(best, (row - y) * (row - y) + across)
    return best


@compiled
def votes_at(
    boxes: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    window: NDArray[np.float32],
    x0: int,
    y0: int,
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> None:
    """As `_blend.gather`, at some pixels of a region that begins at (x0, y0).

    Args:
        boxes: int32 [B, 4].
        probabilities: float32 [B, P, P].
        window: float32 [P, P].
        x0: column of the frame.
        y0: row of the frame.
        starts: int64 [h + 1]; those of row r are number starts[r] to starts[r + 1] - 1.
        columns: int64 [N], ascending within a row.
        sums: float32 [3, N], to be added to.
    """
    height = starts.size - 1
    side = probabilities.shape[1]
    for n in range(boxes.shape[0]):
        bx, by = whole(boxes[n, 0]) - x0, whole(boxes[n, 1]) - y0
        for r in range(max(by, 0), min(by + side, height)):
            for i in range(starts[r], starts[r + 1]):
                c = columns[i] - bx
                if c < 0:
                    continue
                if c >= side:
                    break
                w = window[r - by, c]
                p = probabilities[n, r - by, c]
                sums[0, i] += w
                sums[1, i] += w * p
                sums[2, i] += w * p * p


@compiled
def outlines_near(
    near: NDArray[np.int64],
    labels: NDArray[np.int32],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    image: NDArray[np.uint8],
    found: NDArray[np.int32],
    strength: NDArray[np.float64],
) -> int:
    """Find the outlines of two masks in and next to changed regions, and how strong the image's edge is there.

    Args:
        near: int64 [N], ascending: flat places of the pixels of regions and of their 8-neighbours.
        labels: int32 [h, w], regions from 1; a pixel next to several counts for the one of the highest number.
        before: uint8 [h, w] of 0 and 1.
        after: the same.
        image: uint8 [h, w, 3].
        found: int32 [2, N]: of each pixel found the region if it is on the outline before, or else 0; and the same of
            the outline after.
        strength: float64 [N]: grey levels per px across the image's edge, of the strongest channel, rounded to float32.

    Returns:
        How many pixels were found: so many places of `found` and `strength` were written.
    """
    height, width = labels.shape
    smooth = np.empty(9, np.int64)
    count = 0
    for place in near:
        y, x = place // width, place % width
        ya, yb = max(y - 1, 0), min(y + 2, height)
        xa, xb = max(x - 1, 0), min(x + 2, width)
        label, old, new = 0, 0, 0
        window = (yb - ya) * (xb - xa)
        for r in range(ya, yb):
            for c in range(xa, xb):
                label = max(label, whole(labels[r, c]))
                old += whole(before[r, c])
                new += whole(after[r, c])
        on_old, on_new = 0 < old < window, 0 < new < window
        if on_old or on_new:
            found[0, count] = label if on_old else 0
            found[1, count] = label if on_new else 0
            most = 0
            for channel in range(3):
                _smoothed(image, y, x, channel, smooth)
                across = smooth[2] - smooth[0] + 2 * (smooth[5] - smooth[3]) + smooth[8] - smooth[6]
                down = smooth[6] - smooth[0] + 2 * (smooth[7] - smooth[1]) + smooth[8] - smooth[2]
                most = max(most, across * across + down * down)
            # Exact up to this root. OpenCV's own rounds now one way, now the other, as the pixel's place in memory has it.
            strength[count] = np.sqrt(np.float32(most)) / np.float32(8)
            count += 1
    return count


@compiled
def _smoothed(image: NDArray[np.uint8], y: int, x: int, channel: int, smooth: NDArray[np.int64]) -> None:
    """The 3x3 pixels around one of uint8 [h, w, 3], smoothed by (1 2 1) / 4 both ways and rounded, into int64 [9].

    Beyond the border the image is mirrored about its border pixels, and so is the smoothed one.
    """
    height, width = image.shape[:2]
    for i in range(3):
        row = _mirrored(y + i - 1, height)
        top, bottom = _mirrored(row - 1, height), _mirrored(row + 1, height)
        for j in range(3):
            at = _mirrored(x + j - 1, width)
            left, right = _mirrored(at - 1, width), _mirrored(at + 1, width)
            corners = whole(image[top, left, channel]) + whole(image[top, right, channel])
            corners += whole(image[bottom, left, channel]) + whole(image[bottom, right, channel])
            sides = whole(image[top, at, channel]) + whole(image[bottom, at, channel])
            sides += whole(image[row, left, channel]) + whole(image[row, right, channel])
            smooth[3 * i + j] = (corners + 2 * sides + 4 * whole(image[row, at, channel]) + 8) >> 4


@compiled
def _mirrored(place: int, side: int) -> int:
    if side == 1:
        return 0
    if place < 0:
        return -place
    return place if place < side else 2 * side - 2 - place


@compiled
def certainties(probabilities: NDArray[np.float32], out: NDArray[np.float64]) -> int:
    """Write |2p - 1| of those p (float32 [N]) between 0.02 and 0.98 into out [N], in their order; returns how many."""
    count = 0
    for p in probabilities:
        # Written in any case and kept or not: which one it is cannot be foretold.
        out[count] = abs(2.0 * np.float64(p) - 1.0)
        count += (p > np.float32(0.02)) & (p < np.float32(0.98))
    return count


@compiled
def flat_places(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Indices, ascending, of those of uint8 [N] that are not 0: few of many."""
    places = np.empty(1024, np.int64)
    used = 0
    for begin in range(0, values.size, 64):
        block = values[begin : begin + 64]
        some = np.uint8(0)
        for value in block:
            some |= value
        if not some:
            continue
        if used + 64 > places.size:
            longer = np.empty(2 * places.size, np.int64)
            longer[:used] = places[:used]
            places = longer
        for i in range(block.size):
            places[used] = begin + i
            used += block[i] != 0
    return places[:used].copy()


@compiled
def differing(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> int:
    """Pixels in which two masks of one frame differ, from their canonical runs."""
    total, at = 0, 0
    i, j = 0, 0
    end_a, end_b = whole(a[0]), whole(b[0])
    while i < a.size and j < b.size:
        end = min(end_a, end_b)
        if (i ^ j) & 1:
            total += end - at
        at = end
        if end_a == end:
            i += 1
            if i < a.size:
                end_a += whole(a[i])
        if end_b == end:
            j += 1
            if j < b.size:
                end_b += whole(b[j])
    return total

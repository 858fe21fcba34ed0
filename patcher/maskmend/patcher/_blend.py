"""Kernels of the reassembly: tiles of 64 x 64 px, each with its own small accumulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._bits import ALL, ZERO, Bits
from maskmend.patcher._jit import compiled, whole

EPSILON = 1e-6


@compiled
def survey(boxes: NDArray[np.int32]) -> tuple[bool, int, int, int, int]:
    """Whether all boxes (int32 [N, 4], N > 0) are squares of one size, and the rectangle around them."""
    left, top = whole(boxes[0, 0]), whole(boxes[0, 1])
    right, bottom = whole(boxes[0, 2]), whole(boxes[0, 3])
    side = right - left
    alike = True
    for n in range(boxes.shape[0]):
        a, b, c, d = whole(boxes[n, 0]), whole(boxes[n, 1]), whole(boxes[n, 2]), whole(boxes[n, 3])
        alike &= c - a == side and d - b == side
        left, top, right, bottom = min(left, a), min(top, b), max(right, c), max(bottom, d)
    return alike, left, top, right, bottom


@compiled
def blend(
    bits: Bits,
    x0: int,
    y0: int,
    height: int,
    boxes: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    logit: bool,
) -> None:
    """Replace, within a region, the pixels that boxes cover by the vote of their probabilities.

    A pixel's mean is above one half exactly if the sum of (probability - 1/2) is positive, which needs no counts.
    """
    width, words = bits.shape
    across = (width + 63) // 64
    starts, members = _by_tile(x0, y0, width, height, boxes, across, words)
    votes = np.empty((64, 64), np.float64)
    covered = np.empty(64, np.uint64)
    won = np.empty(64, np.uint64)
    for tile in range(across * words):
        if starts[tile] == starts[tile + 1]:
            continue
        k = tile // across
        left, top = (tile % across) * 64, k * 64
        columns, rows = min(64, width - left), min(64, height - top)
        first, end = _reach(boxes, members[starts[tile] : starts[tile + 1]], y0 + top, rows)
        votes[first:end] = 0.0
        covered[:] = ZERO
        for i in range(starts[tile], starts[tile + 1]):
            n = members[i]
            # Where the box begins, in px of the tile.
            bx = whole(boxes[n, 0]) - x0 - left
            by = whole(boxes[n, 1]) - y0 - top
            ca, cb = max(bx, 0), min(bx + probabilities.shape[2], columns)
            ra, rb = max(by, 0), min(by + probabilities.shape[1], rows)
            for r in range(ra, rb):
                _add(votes[r, ca:cb], probabilities[n, r - by, ca - bx : cb - bx], logit)
            reached = (ALL << np.uint64(ra)) & (ALL >> np.uint64(64 - rb))
            for c in range(ca, cb):
                covered[c] |= reached
        won[:] = ZERO
        for r in range(first, end):
            line = votes[r]
            shift = np.uint64(r)
            for c in range(64):
                won[c] |= np.uint64(line[c] > 0.0) << shift
        for c in range(columns):
            bits[left + c, k] = (bits[left + c, k] & ~covered[c]) | (won[c] & covered[c])


@compiled
def gather(
    boxes: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    window: NDArray[np.float32],
    x0: int,
    y0: int,
    sums: NDArray[np.float32],
) -> None:
    """Add up, over a region that begins at (x0, y0), weight, weighted value and weighted square into sums [3, h, w]."""
    height, width = sums.shape[1], sums.shape[2]
    side = probabilities.shape[1]
    for n in range(boxes.shape[0]):
        bx, by = whole(boxes[n, 0]) - x0, whole(boxes[n, 1]) - y0
        for r in range(max(by, 0), min(by + side, height)):
            for c in range(max(bx, 0), min(bx + side, width)):
                w = window[r - by, c - bx]
                p = probabilities[n, r - by, c - bx]
                sums[0, r, c] += w
                sums[1, r, c] += w * p
                sums[2, r, c] += w * p * p


@compiled
def hold(
    probabilities: NDArray[np.float32],
    coarse: NDArray[np.float32],
    strengths: NDArray[np.float32],
    shrinks: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """`maskmend.patcher.guard.hold` into out [N, P, P]; each patch has its strength, and 1 + 2 * strength."""
    half = np.float32(0.5)
    for n in range(out.shape[0]):
        strength, shrink = strengths[n], shrinks[n]
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                moved = (probabilities[n, r, c] - half + strength * coarse[n, r, c]) / shrink + half
                # NaN stays NaN, so that whoever reads this next can say so.
                moved = np.float32(0) if moved < np.float32(0) else moved
                out[n, r, c] = np.float32(1) if moved > np.float32(1) else moved


@compiled
def fade(probabilities: NDArray[np.float32], window: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """`maskmend.patcher.field.fade` into out [N, P, P]."""
    half = np.float32(0.5)
    for n in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                out[n, r, c] = (probabilities[n, r, c] - half) * window[r, c] + half


@compiled
def _reach(boxes: NDArray[np.int32], members: NDArray[np.int64], top: int, rows: int) -> tuple[int, int]:
    """Rows (first, end) of a tile that any of its boxes touch."""
    first, end = rows, 0
    for n in members:
        first = min(first, whole(boxes[n, 1]) - top)
        end = max(end, whole(boxes[n, 3]) - top)
    return max(first, 0), min(end, rows)


@compiled
def _add(votes: NDArray[np.float64], values: NDArray[np.float32], logit: bool) -> None:
    if logit:
        for c in range(votes.size):
            p = min(max(np.float64(values[c]), EPSILON), 1.0 - EPSILON)
            votes[c] += np.log(p) - np.log1p(-p)
    else:
        for c in range(votes.size):
            votes[c] += np.float64(values[c]) - 0.5


@compiled
def _by_tile(
    x0: int, y0: int, width: int, height: int, boxes: NDArray[np.int32], across: int, down: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Boxes that touch each tile, in their own order: members[starts[t] : starts[t + 1]]."""
    starts = np.zeros(across * down + 2, np.int64)
    members = np.empty(0, np.int64)
    # The first round counts, the second fills; `starts` is shifted by one place in between.
    for turn in range(2):
        for n in range(boxes.shape[0]):
            ca, cb = max(whole(boxes[n, 0]) - x0, 0), min(whole(boxes[n, 2]) - x0, width)
            ra, rb = max(whole(boxes[n, 1]) - y0, 0), min(whole(boxes[n, 3]) - y0, height)
            if ca >= cb or ra >= rb:
                continue
            for k in range(ra >> 6, ((rb - 1) >> 6) + 1):
                for c in range(ca >> 6, ((cb - 1) >> 6) + 1):
                    tile = k * across + c
                    if turn == 0:
                        starts[tile + 2] += 1
                    else:
                        members[starts[tile + 1]] = n
                        starts[tile + 1] += 1
        if turn == 0:
            for tile in range(2, starts.size):
                starts[tile] += starts[tile - 1]
            members = np.empty(starts[starts.size - 1], np.int64)
    return starts[: starts.size - 1], members

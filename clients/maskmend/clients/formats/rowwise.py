"""Runs along the rows of a mask, as annotation tools have them; `Rle` has them down its columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size

Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where each run of foreground begins, and where it ends (exclusive): pixels counted along the rows, int64 [R] each,
ascending, with background between any two."""
Box = tuple[int, int, int, int]
"""x, y, width, height in px."""


def row_runs(mask: Rle, box: Box) -> Runs:
    """Runs of foreground along the rows of a box that the whole foreground lies in."""
    x0, y0, width, _ = box
    x, y, w, h = mask.bbox
    framed = np.zeros((h, w + 2), np.int8)
    framed[:, 1:-1] = mask.crop(x, y, x + w, y + h)
    steps = np.diff(framed, axis=1)
    rows, columns = np.nonzero(steps == 1)
    starts = (rows + y - y0) * width + columns + x - x0
    rows, columns = np.nonzero(steps == -1)
    ends = (rows + y - y0) * width + columns + x - x0
    # A run may go on in the next row.
    apart = starts[1:] != ends[:-1]
    return starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]


def from_row_runs(runs: Runs, box: Box, height: int, width: int, field: str) -> Rle:
    """The mask whose foreground are these runs along the rows of a box.

    Args:
        runs: within the box.
        box: inside the frame, 1 px or more each way.
        height: rows of the frame.
        width: columns of the frame.
        field: how error messages name the mask.

    Raises:
        MaskError: a frame beyond the limits, or a box that leaves it.
    """
    check_size(height, width, field)
    x0, y0, w, h = box
    if not (w >= 1 and h >= 1 and 0 <= x0 <= width - w and 0 <= y0 <= height - h):
        raise MaskError(f"{field} has a box that leaves the image of {width}x{height} px", field=field)
    starts, ends = runs
    if not len(starts):
        return Rle(height, width, np.array([height * width], np.uint32))
    # Only the part of the box that holds foreground becomes a dense array.
    top, bottom = int(starts[0]) // w, (int(ends[-1]) - 1) // w + 1
    left, right = 0, w
    if np.array_equal(starts // w, (ends - 1) // w):
        left, right = int((starts % w).min()), int(((ends - 1) % w).max()) + 1
    if right - left < w:
        # Within one row each, so an end at the right side stays in its row.
        starts = (starts // w - top) * (right - left) + starts % w - left
        ends = ((ends - 1) // w - top) * (right - left) + (ends - 1) % w - left + 1
    else:
        starts, ends = starts - top * w, ends - top * w
    steps = np.zeros((bottom - top) * (right - left) + 1, np.int8)
    steps[starts] += 1
    steps[ends] -= 1
    crop = np.cumsum(steps[:-1], dtype=np.int8).view(np.uint8).reshape(bottom - top, right - left)
    return Rle.from_crop(crop, height, width, x0 + left, y0 + top)


def counts(runs: Runs, pixels: int) -> list[int]:
    """Run lengths of a box of so many pixels, background first; the last one only where it is not 0."""
    starts, ends = runs
    edges = np.empty(2 * len(starts), np.int64)
    edges[::2], edges[1::2] = starts, ends
    lengths: list[int] = np.diff(edges, prepend=0, append=pixels).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def from_counts(lengths: NDArray[np.int64], pixels: int, field: str) -> Runs:
    """Runs of foreground by run lengths, int64 [M], background first.

    Raises:
        MaskError: they do not fill the box exactly.
    """
    # Each at most `pixels`, so that the sum cannot run over.
    if not len(lengths) or lengths.min() < 0 or lengths.max() > pixels or int(lengths.sum()) != pixels:
        raise MaskError(f"{field} has runs that do not fill its box of {pixels} px exactly", field=field)
    edges = np.cumsum(lengths)
    edges = edges if len(edges) % 2 else np.append(edges, pixels)
    starts, ends = edges[:-1:2], edges[1::2]
    some = ends > starts
    starts, ends = starts[some], ends[some]
    # Empty runs of background between two of foreground.
    apart = starts[1:] != ends[:-1]
    return starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]

"""What the patches say about each pixel: their mean, and how far they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _blend, _near

RAMP = 16
"""Width in px over which a patch's vote fades towards its border, where it sees only one side of what it judges."""


@dataclass(frozen=True, slots=True)
class ProbabilityField:
    """Foreground probability of a region, from all patches that cover it.

    Attributes:
        mean: float32 [h, w], mean of the patches, weighted by `window`; NaN where no patch lies.
        spread: float32 [h, w], standard deviation between patches, 0 where only one lies; NaN where none does.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]


def window(side: int) -> NDArray[np.float32]:
    """Weight of each pixel of a patch, float32 [side, side]: 1 within, falling to the border over `RAMP` px, never 0."""
    places = np.arange(side)
    inward = np.minimum(places, places[::-1]) + 0.5
    ramp = np.minimum(1.0, inward / RAMP)
    return np.outer(ramp, ramp).astype(np.float32)


_window = lru_cache(maxsize=16)(window)


def fade(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move probabilities [N, P, P] towards one half by `window`.

    The side of one half that a mean of overlapping patches falls on is then that of their weighted mean, which
    `reassemble` needs to know nothing of.
    """
    faded = np.empty(probabilities.shape, np.float32)
    _blend.fade(probabilities, _window(probabilities.shape[-1]), faded)
    return faded


def probability_field(
    boxes: NDArray[np.int32], probabilities: NDArray[np.float32], region: tuple[int, int, int, int]
) -> ProbabilityField:
    """Blend the patches of one instance over a region.

    Args:
        boxes: int32 [N, 4] (x0, y0, x1, y1) in px, squares of side P.
        probabilities: float32 [N, P, P], foreground.
        region: (x0, y0, x1, y1) in px.
    """
    x0, y0, x1, y1 = region
    sums = np.zeros((3, y1 - y0, x1 - x0), np.float32)
    _blend.gather(boxes, probabilities, _window(probabilities.shape[-1]), x0, y0, sums)
    weight, total, square = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.divide(total, weight, out=total)
        spread = np.divide(square, weight, out=square)
        spread -= mean * mean
        np.sqrt(np.maximum(spread, 0.0, out=spread), out=spread)
    return ProbabilityField(mean, spread)


def field_at(
    votes: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]],
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    x0: int,
    y0: int,
) -> ProbabilityField:
    """The field of several passes at some pixels only; a later pass replaces an earlier one where it looked again.

    Args:
        votes: of each pass, boxes and probabilities as of `probability_field`.
        starts: int64 [h + 1]; the pixels of row r of a region are number starts[r] to starts[r + 1] - 1.
        columns: int64 [N], those of the pixels in the region, ascending within a row.
        x0: column of the frame that the region begins at, in px.
        y0: row of it.

    Returns:
        A field of float32 [N] each, otherwise as of `probability_field`.
    """
    mean, spread = np.full((2, len(columns)), np.nan, np.float32)
    for boxes, probabilities in votes:
        sums = np.zeros((3, len(columns)), np.float32)
        _near.votes_at(boxes, probabilities, _window(probabilities.shape[-1]), x0, y0, starts, columns, sums)
        _near.settle(sums, mean, spread)
    return ProbabilityField(mean, spread)

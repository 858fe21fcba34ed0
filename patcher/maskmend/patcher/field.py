"""What the patches say about each pixel: their mean, and how far they disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _blend

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


def fade(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move probabilities [N, P, P] towards one half by `window`.

    The side of one half that a mean of overlapping patches falls on is then that of their weighted mean, which
    `reassemble` needs to know nothing of.
    """
    weights = window(probabilities.shape[-1])
    return np.asarray((probabilities - np.float32(0.5)) * weights + np.float32(0.5), np.float32)


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
    _blend.gather(boxes, probabilities, window(probabilities.shape[-1]), x0, y0, sums)
    weight, total, square = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.divide(total, weight, out=total)
        spread = np.divide(square, weight, out=square)
        spread -= mean * mean
        np.sqrt(np.maximum(spread, 0.0, out=spread), out=spread)
    return ProbabilityField(mean, spread)

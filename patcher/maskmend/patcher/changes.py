"""What a refinement changed: connected regions, and the evidence for each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _near

_SQUARE = np.ones((3, 3), np.uint8)
_FLAT = 2.0
"""Grey levels per px that count as no edge at all: noise and compression."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Connected regions (8-neighbours) in which two masks differ.

    Attributes:
        labels: int32 [h, w], number of the region from 1, 0 where the masks agree. Arrays below have one entry per region,
            region 1 first.
        size: pixels.
        depth: largest distance in px from the old edge.
        certainty: mean of 2q - 1, q being the probability of the change; -1 to 1.
        spread: mean standard deviation between overlapping patches.
        growth: +1 for a change that adds to the mask, -1 for one that takes from it, between where a region does both.
        support: logarithm of how much stronger the image's edge is along the new outline than along the old one.
    """

    labels: NDArray[np.int32]
    size: NDArray[np.int64]
    depth: NDArray[np.float64]
    certainty: NDArray[np.float64]
    spread: NDArray[np.float64]
    growth: NDArray[np.float64]
    support: NDArray[np.float64]


def find_changes(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    distance: NDArray[np.float32],
    mean: NDArray[np.float32],
    spread: NDArray[np.float32],
    image: NDArray[np.uint8],
) -> Changes:
    """Find the regions in which two masks differ and measure them.

    Args:
        before: uint8 [h, w] of 0 and 1.
        after: the same.
        distance: float32 [h, w], of each pixel from the edge of `before`; asked for where the masks differ.
        mean: float32 [N], probability of the foreground at the N pixels that differ, row by row; NaN where unknown.
        spread: float32 [N], its standard deviation; NaN where unknown.
        image: uint8 [h, w, 3], RGB.
    """
    differs = before ^ after
    count, labels = cv2.connectedComponents(differs, connectivity=8)
    where = _near.places_of(differs)
    found = labels[where]
    side = np.asarray(1.0 - 2.0 * before[where], np.float64)
    certainty = side * (2.0 * np.nan_to_num(mean, nan=0.5).astype(np.float64) - 1.0)
    depth = np.zeros(count)
    np.maximum.at(depth, found, distance[where])
    (beside_old, beside_new), strength = _along_outlines(before, after, labels, image)
    old, new = (_means(beside, strength, count) for beside in (beside_old, beside_new))
    return Changes(
        labels=np.asarray(labels, np.int32),
        size=np.bincount(found, minlength=count)[1:],
        depth=depth[1:],
        certainty=_means(found, certainty, count),
        spread=_means(found, np.nan_to_num(spread).astype(np.float64), count),
        growth=_means(found, side, count),
        support=np.log((new + _FLAT) / (old + _FLAT)),
    )


def _means(found: NDArray[np.int32], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Mean of values in each region 1 .. count - 1."""
    sums = np.bincount(found, values, count)[1:]
    return np.asarray(sums / np.maximum(np.bincount(found, minlength=count)[1:], 1))


def _along_outlines(
    before: NDArray[np.uint8], after: NDArray[np.uint8], labels: NDArray[np.int32], image: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The image's edges along the outlines of two masks, in and next to each region.

    Returns:
        Of each pixel the region whose old, and whose new outline it is on, int32 [2, N], 0 where on none; grey levels per px
        across the image's edge, of the strongest channel, float64 [N].
    """
    near = _near.flat_places(cv2.dilate(before ^ after, _SQUARE).ravel())
    found, strength = np.empty((2, len(near)), np.int32), np.empty(len(near))
    count = _near.outlines_near(near, labels, before, after, image, found, strength)
    return found[:, :count], strength[:count]

"""What a refinement changed: connected regions, and the evidence for each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
    strength: NDArray[np.float32],
) -> Changes:
    """Find the regions in which two masks differ and measure them.

    Args:
        before: uint8 [h, w] of 0 and 1.
        after: the same.
        distance: float32 [h, w], of each pixel from the edge of `before`.
        mean: float32 [h, w], probability of the foreground; NaN where unknown.
        spread: float32 [h, w], its standard deviation; NaN where unknown.
        strength: float32 [h, w], see `edge_strength`.
    """
    differs = before ^ after
    count, labels, stats, _ = cv2.connectedComponentsWithStats(differs, connectivity=8)
    size = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
    where = np.nonzero(differs)
    found = labels[where]
    side = np.asarray(1.0 - 2.0 * before[where], np.float64)
    certainty = side * (2.0 * np.nan_to_num(mean[where], nan=0.5).astype(np.float64) - 1.0)
    depth = np.zeros(count)
    np.maximum.at(depth, found, distance[where])
    around = cv2.dilate(labels.astype(np.float32), _SQUARE).astype(np.int32)
    old, new = (_mean_along(around, mask, strength, count) for mask in (before, after))
    return Changes(
        labels=np.asarray(labels, np.int32),
        size=size,
        depth=depth[1:],
        certainty=_means(found, certainty, count),
        spread=_means(found, np.nan_to_num(spread[where]).astype(np.float64), count),
        growth=_means(found, side, count),
        support=np.log((new + _FLAT) / (old + _FLAT)),
    )


def edge_strength(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels per px across the image's edges, of the strongest channel, float32 [h, w] of RGB uint8 [h, w, 3]."""
    strongest = np.zeros(image.shape[:2], np.float32)
    # Channel by channel: a large object's region is held once in float32, not six times.
    for channel in cv2.split(image):
        smooth = cv2.GaussianBlur(channel, (3, 3), 0)
        across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
        cv2.max(strongest, cv2.magnitude(across, down, across), strongest)
    return strongest


def _means(found: NDArray[np.int32], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Mean of values in each region 1 .. count - 1."""
    sums = np.bincount(found, values, count)[1:]
    return np.asarray(sums / np.maximum(np.bincount(found, minlength=count)[1:], 1))


def _mean_along(
    around: NDArray[np.int32], mask: NDArray[np.uint8], strength: NDArray[np.float32], count: int
) -> NDArray[np.float64]:
    """Mean edge strength, in and next to each region, along the outline of a mask."""
    outline = (cv2.dilate(mask, _SQUARE) != cv2.erode(mask, _SQUARE)) & (around > 0)
    return _means(around[outline], strength[outline].astype(np.float64), count)

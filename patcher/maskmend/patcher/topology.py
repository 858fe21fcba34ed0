"""Keeps a refined mask in one piece: no specks, no pinholes, thin parts not cut."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""uint8 [h, w] of 0 and 1."""

PINHOLE = 12
"""Largest new hole or speck, in pixels, that is taken for noise."""
THIN = 3.0
"""A part is thin where its middle lies at most this far from its edge, in px."""

_SQUARE = np.ones((3, 3), np.uint8)


def tidy(after: Pixels, before: Pixels, distance: NDArray[np.float32]) -> Pixels:
    """Undo those changes that break a mask up.

    Args:
        after: the refined mask.
        before: the coarse mask.
        distance: float32 [h, w], of each pixel from the edge of `before`.

    Returns:
        The refined mask less fragments apart from the coarse mask, with cut thin parts joined again and small new holes
        filled. Holes and fragments that the coarse mask has itself stay.
    """
    return without_pinholes(without_fragments(without_cuts(after, before, distance), before), before)


def connected_to(mask: Pixels, core: Pixels) -> Pixels:
    """The connected parts (8-neighbours) of a mask that share a pixel with `core`."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    kept = np.zeros(count, bool)
    kept[labels[core > 0]] = True
    kept[0] = False
    return np.asarray(kept[labels], np.uint8)


def without_fragments(after: Pixels, before: Pixels) -> Pixels:
    """Drop connected parts (8-neighbours) that share no pixel with the coarse mask, and new specks cut off from it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(after, connectivity=8)
    if count <= 2:
        return after
    shared = np.bincount(labels[before > 0], minlength=count)
    sizes = stats[:, cv2.CC_STAT_AREA]
    kept = shared > 0
    speck = sizes <= PINHOLE
    if (speck & kept).any():
        # A small part that the coarse mask has just so stays.
        whole = cv2.connectedComponentsWithStats(before, connectivity=8)
        own = whole[2][whole[1], cv2.CC_STAT_AREA] > PINHOLE
        cut_off = np.bincount(labels[(before > 0) & own], minlength=count) > 0
        kept &= ~(speck & cut_off)
    kept[0] = False
    return np.asarray(kept[labels], np.uint8)


def without_pinholes(after: Pixels, before: Pixels) -> Pixels:
    """Fill holes of at most `PINHOLE` pixels that were all foreground in the coarse mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - after, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= PINHOLE
    if not small[1:].any():
        return after
    was_open = np.bincount(labels[before == 0], minlength=count) > 0
    at_border = np.zeros(count, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_border[line] = True
    fill = small & ~was_open & ~at_border
    fill[0] = False
    return np.asarray(after | fill[labels], np.uint8)


def without_cuts(after: Pixels, before: Pixels, distance: NDArray[np.float32]) -> Pixels:
    """Give back what was taken from a thin part when that left two pieces of what was one."""
    pieces, labels, stats, _ = cv2.connectedComponentsWithStats(after, connectivity=8)
    # Pixels that fell off are no piece; `without_fragments` decides about them.
    sizes = stats[:, cv2.CC_STAT_AREA]
    if np.count_nonzero(sizes[1:] > PINHOLE) < 2:
        return after
    counted = np.where(sizes[labels] > PINHOLE, labels, 0).astype(np.float32)
    highest = cv2.dilate(counted, _SQUARE)
    lowest = cv2.erode(np.where(counted > 0, counted, np.float32(pieces)), _SQUARE)
    taken = before & (1 - after)
    count, regions = cv2.connectedComponents(taken, connectivity=8)
    if count < 2:
        return after
    high, low, depth = np.zeros(count), np.full(count, float(pieces)), np.zeros(count)
    where = np.nonzero(taken)
    np.maximum.at(high, regions[where], highest[where])
    np.minimum.at(low, regions[where], lowest[where])
    np.maximum.at(depth, regions[where], distance[where])
    joins = (high > low) & (depth <= THIN)
    joins[0] = False
    return np.asarray(after | joins[regions], np.uint8)

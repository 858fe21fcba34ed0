"""Keeps a refined mask in one piece: no specks, no pinholes, thin parts not cut."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _bits, _pieces

Pixels = NDArray[np.uint8]
"""uint8 [h, w] of 0 and 1."""

PINHOLE = 12
"""Largest new hole or speck, in pixels, that is taken for noise."""
THIN = 3.0
"""A part is thin where its middle lies at most this far from its edge, in px."""


def tidy(after: Pixels, before: Pixels, distance: NDArray[np.float32]) -> Pixels:
    """Undo those changes that break a mask up.

    Args:
        after: the refined mask.
        before: the coarse mask.
        distance: float32 [h, w], of each pixel from the edge of `before`; asked for where `after` lacks a pixel of it.

    Returns:
        The refined mask less fragments apart from the coarse mask, with cut thin parts joined again and small new holes
        filled. Holes and fragments that the coarse mask has itself stay.
    """
    height = len(after)
    bits, coarse = _columns(after), _columns(before)
    cut = _pieces.join_cuts(bits, coarse, height, PINHOLE, THIN, distance)
    broken = _pieces.drop_fragments(bits, coarse, height, PINHOLE)
    pierced = _pieces.fill_pinholes(bits, coarse, height, PINHOLE)
    return _pixels(bits, after) if cut or broken or pierced else after


def connected_to(mask: Pixels, core: Pixels) -> Pixels:
    """The connected parts (8-neighbours) of a mask that share a pixel with `core`."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    kept = np.zeros(count, bool)
    kept[labels[core > 0]] = True
    kept[0] = False
    return np.asarray(kept[labels], np.uint8)


def without_fragments(after: Pixels, before: Pixels) -> Pixels:
    """Drop connected parts (8-neighbours) that share no pixel with the coarse mask, and new specks cut off from it."""
    bits = _columns(after)
    return _pixels(bits, after) if _pieces.drop_fragments(bits, _columns(before), len(after), PINHOLE) else after


def without_pinholes(after: Pixels, before: Pixels) -> Pixels:
    """Fill holes of at most `PINHOLE` pixels that were all foreground in the coarse mask."""
    bits = _columns(after)
    return _pixels(bits, after) if _pieces.fill_pinholes(bits, _columns(before), len(after), PINHOLE) else after


def without_cuts(after: Pixels, before: Pixels, distance: NDArray[np.float32]) -> Pixels:
    """Give back what was taken from a thin part when that left two pieces of what was one."""
    # Pixels that fell off are no piece; `without_fragments` decides about them.
    bits = _columns(after)
    some = _pieces.join_cuts(bits, _columns(before), len(after), PINHOLE, THIN, distance)
    return _pixels(bits, after) if some else after


def _columns(mask: Pixels) -> _bits.Bits:
    bits = _bits.empty_bits(mask.shape[1], mask.shape[0])
    _bits.draw_dense(bits, np.ascontiguousarray(mask), 0, 0, mask.shape[0])
    return bits


def _pixels(bits: _bits.Bits, like: Pixels) -> Pixels:
    out = np.empty(like.shape, np.uint8)
    _bits.undraw(bits, out, 0, 0, len(like))
    return out

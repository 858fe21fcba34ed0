"""Keeps a refined mask in one piece: no specks, no pinholes, thin parts not cut."""

from __future__ import annotations

from maskmend.patcher import _pieces
from maskmend.patcher.columns import Columns

PINHOLE = 12
"""Largest new hole or speck, in pixels, that is taken for noise."""
THIN = 3
"""A part is thin where its middle lies at most this far from its edge, in px."""


def tidy(after: Columns, before: Columns) -> Columns:
    """Undo those changes that break a mask up.

    Args:
        after: a region of the refined mask.
        before: the same region of the coarse mask.

    Returns:
        The refined mask less fragments apart from the coarse mask, with cut thin parts joined again and small new holes
        filled; `after` itself where there is nothing to undo. Holes and fragments that the coarse mask has itself stay.
    """
    bits = after.bits.copy()
    some = _pieces.tidy(bits, before.bits, after.height, PINHOLE, THIN)
    return Columns(bits, after.height) if some else after


def connected_to(mask: Columns, core: Columns) -> Columns:
    """The connected parts (8-neighbours) of a mask that share a pixel with `core`."""
    bits = mask.bits.copy()
    _pieces.keep_connected(bits, core.bits, mask.height)
    return Columns(bits, mask.height)

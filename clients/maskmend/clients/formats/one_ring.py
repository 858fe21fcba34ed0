"""Polygons for formats that hold one ring per instance, without holes."""

from __future__ import annotations

from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError


def ring_of(mask: Rle, tolerance: float, field: str) -> list[float]:
    """One polygon that rasterises to a mask, or to nearly the same.

    Args:
        mask: any, of one part or several, with holes or without.
        tolerance: farthest, in px, that the polygon may lie from the mask's outline; 0 for exactly the same mask.
        field: how error messages name it.

    Returns:
        Flat list x0, y0, x1, y1, ... in px. Holes are joined to it by cuts there and back again, and so are further parts.

    Raises:
        MaskError: the mask is empty, or too ragged for polygons.
    """
    from maskmend.patcher.simplify import flat, joined, rings  # compiles kernels

    loops = [loop for part in rings(mask, tolerance) for loop in part]
    if not loops:
        raise MaskError(f"{field} is empty, and a polygon cannot be; delete the instance instead", field=field)
    return flat(joined(loops))

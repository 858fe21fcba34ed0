"""Polygons for formats that hold one ring per instance, without holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.outlines import outlines


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
    if tolerance > 0:
        from maskmend.patcher.simplify import simplified

        polygons = simplified(mask, tolerance)
    else:
        polygons = outlines(mask)
    if not polygons:
        raise MaskError(f"{field} is empty, and a polygon cannot be; delete the instance instead", field=field)
    return one_ring(polygons)


def one_ring(polygons: Sequence[Sequence[float]]) -> list[float]:
    """Join polygons by bridges without width: there and back again, so that the two sides cancel out.

    Args:
        polygons: one or more flat lists x0, y0, x1, y1, ... in px, that do not overlap.

    Returns:
        One such list, that rasterises to the union of them all by an even-odd rule, COCO's among them.
    """
    ring = np.asarray(polygons[0], np.float64).reshape(-1, 2)
    for polygon in polygons[1:]:
        part = np.asarray(polygon, np.float64).reshape(-1, 2)
        here = _nearest(ring, part.mean(axis=0))
        there = _nearest(part, ring[here])
        turned = np.roll(part, -there, axis=0)
        ring = np.concatenate([ring[: here + 1], turned, turned[:1], ring[here:]])
    flat: list[float] = ring.ravel().tolist()
    return flat


def _nearest(vertices: np.ndarray, point: np.ndarray) -> int:
    return int(np.argmin(np.sum((vertices - point) ** 2, axis=1)))

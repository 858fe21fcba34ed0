"""COCO polygons to run lengths, by COCO's own rasterisation rule.

The rule: scale vertices by five, round them, walk each edge one unit of its longer axis at a time, and note where the
walk passes from unit 5c + 2 to 5c + 3 of x or back, which is the middle of pixel column c. There the column changes
between outside and inside, at the row that the smaller y of the step belongs to. Here each edge is asked directly for
its passings, so that the work goes with pixel columns within the frame and not with the length of the outline.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._polygon import count_passings, list_passings, spans, union
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import Rle, check_size

MAX_COORDINATES: Final = 1_000_000
"""Polygons of one instance must have fewer coordinates than this, all parts together."""
MAX_ABSOLUTE: Final = 1e6
"""Largest |coordinate| in px."""
MAX_PASSINGS: Final = 2**22
"""Most times the outlines of one instance may pass the middle of a pixel column."""


def polygons_to_rle(
    polygons: Sequence[Sequence[float]], height: int, width: int, *, field: str = "segmentation"
) -> Rle:
    """Union of polygons, rasterised bit for bit as COCO's own tools do.

    Args:
        polygons: one or more flat lists x0, y0, x1, y1, ... in px, three vertices or more each, closed or not. Parts
            outside the frame are cut off. Within one polygon, areas wound over twice are holes (even-odd).
        height: rows of the frame.
        width: columns of the frame.
        field: how error messages name the input.

    Raises:
        MaskError: no polygons; a list that is odd, has fewer than 6 numbers, or holds anything but finite numbers up to
            1e6; 1,000,000 coordinates or more; outlines that pass pixel columns more than 2**22 times; a frame
            beyond the limits.
    """
    check_size(height, width, "size")
    height, width = int(height), int(width)
    parts = _checked(polygons, field)
    vertices = np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts]).astype(np.int64)
    most = count_passings(vertices, ends, width)
    if most > MAX_PASSINGS:
        raise MaskError(f"{field} goes to and fro across the frame too often; simplify the outline", field=field)
    passings = np.empty(most, np.int64)
    owners = np.zeros(len(parts) + 1, np.int64)
    list_passings(vertices, ends, height, width, passings, owners)
    # Parts one after the other, each ascending: the part in the upper bits, the pixel (at most 2**28) below.
    keys = passings[: owners[-1]] | (np.repeat(np.arange(len(parts)), np.diff(owners)) << 32)
    keys.sort()
    starts, stops = spans(keys & 0xFFFF_FFFF, owners, height * width)
    starts.sort()
    stops.sort()
    return Rle(height, width, union(starts, stops, height * width))


def _checked(polygons: object, field: str) -> list[NDArray[np.int64]]:
    """Vertices of each part in fifths of a pixel, int64 [K, 2]."""
    if not isinstance(polygons, (list, tuple)) or not polygons:
        raise MaskError(f"{field} must be a list of one or more polygons", field=field)
    parts = []
    total = 0
    for index, polygon in enumerate(polygons):
        where = f"{field}[{index}]"
        if not isinstance(polygon, (list, tuple)) and not (isinstance(polygon, np.ndarray) and polygon.ndim == 1):
            raise MaskError(f"{where} is {type(polygon).__name__}; send a flat list x0, y0, x1, y1, ...", field=where)
        if len(polygon) < 6 or len(polygon) % 2:
            raise MaskError(f"{where} has {len(polygon)} numbers; send an even number, 6 or more", field=where)
        total += len(polygon)
        if total >= MAX_COORDINATES:
            raise MaskError(f"{field} has {MAX_COORDINATES} coordinates or more; simplify the outline", field=field)
        values = _floats(polygon, where)
        # NaN fails this comparison too.
        if not np.abs(values).max() <= MAX_ABSOLUTE:
            raise MaskError(f"{where} holds NaN, infinity or a number beyond {MAX_ABSOLUTE:g} px", field=where)
        # The rule rounds by cutting off toward zero, which astype does.
        parts.append((5.0 * values + 0.5).astype(np.int64).reshape(-1, 2))
    return parts


def _floats(polygon: Sequence[Any] | NDArray[Any], field: str) -> NDArray[np.float64]:
    if isinstance(polygon, np.ndarray):
        if polygon.dtype.kind in "iuf":
            return polygon.astype(np.float64)
        raise MaskError(f"{field} is a {polygon.dtype} array; coordinates are numbers", field=field)
    for kind in set(map(type, polygon)):
        if not issubclass(kind, numbers.Real) or issubclass(kind, bool):
            raise MaskError(f"{field} holds {kind.__name__}; coordinates are numbers", field=field)
    try:
        return np.array(polygon, dtype=np.float64)
    except (OverflowError, ValueError, TypeError):
        raise MaskError(f"{field} holds a number beyond {MAX_ABSOLUTE:g} px", field=field) from None

"""Regions of Label Studio: entries of a `result` that carry a mask, read and replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskmend.clients.formats.base import is_number
from maskmend.clients.formats.brush_rle import read_brush, write_brush
from maskmend.clients.formats.one_ring import ring_of
from maskmend.clients.inside import printable
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size

Region = dict[str, Any]
_BRUSHES = ("brushlabels", "brush")
_POLYGONS = ("polygonlabels", "polygon")
_SHAPES = ("rectangle", "ellipse", "keypoint", "vector", "bitmask")
"""Beginnings of the types of regions that carry no mask that is read here."""


def has_mask(region: object) -> bool:
    """Whether an entry of a `result` is a brush or polygon region."""
    return isinstance(region, dict) and region.get("type") in (*_BRUSHES, *_POLYGONS)


def is_shape(region: object) -> bool:
    """Whether an entry of a `result` is a region at all, with a mask or without; not a choice or a text."""
    return has_mask(region) or (isinstance(region, dict) and str(region.get("type")).startswith(_SHAPES))


def is_refinable(region: Region) -> bool:
    """Whether a region's mask may be replaced: not in a rotated view, and not a polygon that is still open."""
    value = region.get("value")
    if not has_mask(region) or not isinstance(value, dict):
        return False
    turned = region.get("image_rotation") or value.get("rotation")
    return not turned and value.get("closed") is not False


def labels_by_id(result: Sequence[object]) -> dict[Any, str]:
    """First labels of the entries of a `result` by their ids; of several entries of one id the first that has any."""
    found: dict[Any, str] = {}
    for entry in result:
        key = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and isinstance(key, (int, str)) and (label := _own_label(entry)):
            found.setdefault(key, label)
    return found


def label_of(region: Region, labels: Mapping[Any, str]) -> str:
    """First label of a region: its own, or that of the `labels` entry of the same id; empty where it has none.

    Args:
        region: see above.
        labels: those of the whole `result`, see `labels_by_id`.
    """
    key = region.get("id")
    return _own_label(region) or (labels.get(key, "") if isinstance(key, (int, str)) else "")


def _own_label(entry: Mapping[str, Any]) -> str:
    kind, value = entry.get("type"), entry.get("value")
    labels = value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None
    return printable(labels[0]) if isinstance(labels, list) and labels and isinstance(labels[0], str) else ""


def region_mask(region: Region, field: str = "value") -> Rle:
    """The mask of a region, in the size that it was drawn at (`original_width`, `original_height`).

    Raises:
        MaskError: it has none, or it cannot be read.
    """
    value = region.get("value")
    if not has_mask(region) or not isinstance(value, Mapping):
        raise MaskError(f"{field} is a {str(region.get('type'))[:40]}, which has no mask", field=field)
    height, width = _size(region)
    if region["type"] in _BRUSHES:
        return read_brush(value.get("rle"), height, width, field=f"{field}.rle")
    return polygons_to_rle([_ring(value.get("points"), height, width, field)], height, width, field=f"{field}.points")


def put_mask(region: Region, mask: Rle, tolerance: float, field: str = "value") -> None:
    """Replace the mask of a region in place; its id, label and all other fields stay.

    Args:
        region: brush or polygon.
        mask: of the photograph's size.
        tolerance: of polygons, see `ring_of`.
        field: how error messages name it.

    Raises:
        MaskError: a polygon cannot hold it.
    """
    value = dict(region.get("value") or {})
    if region["type"] in _BRUSHES:
        value["format"], value["rle"] = "rle", write_brush(mask)
    else:
        ring = ring_of(mask, tolerance, field)
        value["points"] = [
            [100.0 * x / mask.width, 100.0 * y / mask.height] for x, y in zip(ring[::2], ring[1::2], strict=True)
        ]
    region["value"] = value
    region["original_height"], region["original_width"] = mask.height, mask.width


def _size(region: Region) -> tuple[int, int]:
    height, width = region.get("original_height"), region.get("original_width")
    if not isinstance(height, int) or not isinstance(width, int):
        raise MaskError("original_width and original_height are needed to read a region", field="original_width")
    check_size(height, width, "original_width and original_height")
    return height, width


def _ring(points: object, height: int, width: int, field: str) -> list[float]:
    where = f"{field}.points"
    if not isinstance(points, list):
        raise MaskError(f"{where} is {type(points).__name__}; send a list of [x, y] in percent", field=where)
    flat: list[float] = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(is_number, point)):
            raise MaskError(f"{where} holds something other than [x, y] in percent", field=where)
        # Percent of a side are px times a fraction that binary numbers do not hold; this takes the error out again.
        flat += (round(point[0] * width / 100.0, 6), round(point[1] * height / 100.0, 6))
    return flat

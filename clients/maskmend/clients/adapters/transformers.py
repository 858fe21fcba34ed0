"""What Transformers' `post_process_instance_segmentation` and `post_process_panoptic_segmentation` give for an image.

A dict of `segmentation` and `segments_info`: a map [H, W] of segment ids, or binary maps [N, H, W] where
`return_binary_maps` was set. A map has room for one segment per pixel: where two refined masks share one, the earlier
segment of `segments_info` takes it. Pixels that a segment gave up and nobody took get the value of no segment.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.adapters import arrays
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError


def knows(value: Any) -> bool:
    """Whether a value is such a dict."""
    return isinstance(value, Mapping) and "segments_info" in value and "segmentation" in value


def masks(value: Any) -> Sequence[Any]:
    """The masks of the segments, in the order of `segments_info`.

    Raises:
        MaskError: run lengths, which have no size here.
    """
    found = value["segmentation"]
    if found is None or not len(value["segments_info"]):
        return []
    ids = _maps(found)
    if ids.ndim == 3:
        return arrays.masks(ids)
    return [Rle.from_dense(ids == info["id"]) for info in value["segments_info"]]


def like(value: Any, rles: Sequence[Rle]) -> Any:
    """The dict with another map, or other binary maps; `segments_info` is kept, its `area` and `bbox` brought up to date."""
    made = copy.copy(value)
    infos = value["segments_info"]
    if value["segmentation"] is None or not len(infos):
        arrays.numbered(rles, 0)
        return made
    ids = _maps(value["segmentation"])
    if ids.ndim == 3:
        made["segmentation"] = arrays.like(value["segmentation"], rles)
    else:
        arrays.checked(rles, len(infos), *ids.shape)
        painted = _painted(ids, [info["id"] for info in infos], rles)
        made["segmentation"] = arrays.array_like(painted, value["segmentation"])
    made["segments_info"] = [_info(info, rle) for info, rle in zip(infos, rles, strict=True)]
    return made


def _maps(found: Any) -> NDArray[Any]:
    if not arrays.is_array(found):
        raise MaskError(
            "segmentation holds run lengths without a size; leave return_coco_annotation off, or set return_binary_maps",
            field="segmentation",
        )
    ids = arrays.array_of(found)
    if ids.ndim not in (2, 3):
        raise MaskError(
            f"segmentation has shape {ids.shape}; give a map [H, W] or maps [N, H, W]", field="segmentation"
        )
    return ids


def _painted(ids: NDArray[Any], known: list[int], rles: Sequence[Rle]) -> NDArray[Any]:
    ours = np.isin(ids, known)
    out = ids.copy()
    out[ours] = _nobody(ids[~ours], known, ids.dtype)
    taken = np.zeros(ids.shape, bool)
    for number, rle in zip(known, rles, strict=True):
        x, y, width, height = rle.bbox
        region = np.s_[y : y + height, x : x + width]
        free = rle.crop(x, y, x + width, y + height).view(bool) & ~taken[region]
        out[region][free] = number
        taken[region] |= free
    return out


def _nobody(rest: NDArray[Any], known: list[int], dtype: np.dtype[Any]) -> Any:
    """The value of pixels that are of no segment: what the map has there; 0 or -1 where it is full."""
    if rest.size:
        values, counts = np.unique(rest, return_counts=True)
        return values[counts.argmax()]
    if 0 not in known:
        return 0
    if dtype.kind == "u":
        raise MaskError(
            "segmentation has no value left for pixels of no segment; give a signed map", field="segmentation"
        )
    return -1


def _info(info: Mapping[str, Any], rle: Rle) -> Any:
    made: Any = copy.copy(info)
    if "area" in info:
        made["area"] = rle.area
    if info.get("bbox") is not None and rle.area:
        made["bbox"] = list(rle.bbox)
    return made

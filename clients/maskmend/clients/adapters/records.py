"""Lists of single masks: arrays, COCO RLEs, polygons, and the records of COCO, SAM and pipelines that hold them.

A record is a mapping with its mask under `segmentation` (COCO, SAM, SAM 2, Detectron2's datasets) or `mask` (the
segmentation pipeline of Transformers).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskmend.clients.adapters import arrays
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.outlines import outlines

_KEYS = ("segmentation", "mask")
_XYXY, _XYWH = 0, 1


def masks(items: Sequence[Any]) -> Sequence[Any]:
    """The masks of a list, each of a kind that `as_rle` reads.

    Raises:
        MaskError: floats outside 0 to 1, a picture that is not one of a mask, or rows of 0 and 1 in plain lists.
    """
    return [_mask(item, f"masks[{number}]") for number, item in enumerate(items)]


def like(items: Sequence[Any], rles: Sequence[Rle]) -> Sequence[Any]:
    """A list, or tuple, of the same kinds of masks and records."""
    arrays.numbered(rles, len(items))
    made = [one_like(item, rle) for item, rle in zip(items, rles, strict=True)]
    return tuple(made) if isinstance(items, tuple) else made


def _mask(item: Any, field: str) -> Any:
    if arrays.is_array(item):
        array = arrays.array_of(item)
        return arrays.binary(array[0] if array.ndim == 3 and len(array) == 1 else array, field)
    if isinstance(item, Mapping) and "counts" not in item:
        key = next((key for key in _KEYS if key in item), None)
        return item if key is None else _mask(item[key], field)
    if _is_picture(item):
        if item.mode not in ("1", "L"):
            raise MaskError(f"{field} is a picture of mode {item.mode}; masks have mode L or 1", field=field)
        return arrays.binary(np.asarray(item), field)
    if isinstance(item, (list, tuple)) and _is_rows(item):
        raise MaskError(
            f"{field} is a list of rows of 0 and 1, which would be read as polygons; give np.asarray(mask)", field=field
        )
    return item


def _is_rows(item: Sequence[Any]) -> bool:
    """Whether lists, two or more, hold nothing but numbers from 0 to 1: no polygons in px are like that."""
    return (
        len(item) > 1
        and all(isinstance(row, (list, tuple)) for row in item)
        and all(isinstance(value, (bool, int, float)) and 0 <= value <= 1 for row in item for value in row)
    )


def one_like(item: Any, rle: Rle) -> Any:
    """A mask in the form of another: an `Rle`, an array, a COCO RLE, polygons, or a record that holds one of them.

    In a record `area` and `bbox` are brought up to date, whole numbers staying whole; every other key is kept. `bbox` is x,
    y, width, height in px, or corners where the record's `bbox_mode` says so. A mask without pixels leaves its box alone.
    """
    if isinstance(item, Rle):
        return rle
    if arrays.is_array(item):
        arrays.checked([rle], 1, int(item.shape[-2]), int(item.shape[-1]))
        return arrays.like(item, [rle])
    if isinstance(item, Mapping):
        return _rle_like(item, rle) if "counts" in item else _record_like(item, rle)
    if _is_picture(item):
        from PIL import Image  # whoever holds one of its pictures has it

        return Image.fromarray(rle.crop(0, 0, rle.width, rle.height) * np.uint8(255)).convert(item.mode)
    return outlines(rle)


def _rle_like(item: Mapping[str, Any], rle: Rle) -> Any:
    made: Any = copy.copy(item)
    counts = item["counts"]
    text = rle.to_coco()["counts"]
    if isinstance(counts, str):
        made["counts"] = text
    elif isinstance(counts, bytes):
        made["counts"] = text.encode("ascii")
    else:
        made["counts"] = rle.counts.astype(counts.dtype) if isinstance(counts, np.ndarray) else rle.counts.tolist()
    return made


def _record_like(item: Mapping[str, Any], rle: Rle) -> Any:
    made: Any = copy.copy(item)
    key = next((key for key in _KEYS if key in item), None)
    if key is None:
        raise MaskError("a record holds no mask under segmentation or mask", field="masks")
    made[key] = one_like(item[key], rle)
    if "area" in item:
        made["area"] = _number(rle.area, item["area"])
    box, mode = item.get("bbox"), item.get("bbox_mode", _XYWH)
    if box is not None and rle.area and mode in (_XYXY, _XYWH):
        x, y, width, height = rle.bbox
        values = (x, y, x + width, y + height) if mode == _XYXY else (x, y, width, height)
        if arrays.is_array(box):
            made["bbox"] = arrays.array_like(np.array(values), box)
        else:
            made["bbox"] = type(box)(_number(value, old) for value, old in zip(values, box, strict=True))
    return made


def _number(value: int, before: Any) -> int | float:
    return value if isinstance(before, (int, np.integer)) else float(value)


def _is_picture(item: Any) -> bool:
    return type(item).__module__.split(".")[0] == "PIL" and hasattr(item, "mode")

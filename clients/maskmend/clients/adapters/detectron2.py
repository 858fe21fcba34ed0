"""Detectron2's `Instances`: predictions with `pred_masks`, ground truth with `gt_masks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskmend.clients.adapters import arrays
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.outlines import outlines
from maskmend.patcher.polygons import polygons_to_rle
from maskmend.patcher.rle import check_size

_BOXES = {"pred_masks": "pred_boxes", "gt_masks": "gt_boxes"}


def knows(value: Any) -> bool:
    """Whether a value is an `Instances`, or the dict with one that a predictor gives."""
    return _is_instances(value.get("instances") if isinstance(value, Mapping) else value)


def masks(value: Any) -> Sequence[Any]:
    """The masks of `pred_masks`, or else of `gt_masks`: a tensor, `BitMasks` or `PolygonMasks`.

    Raises:
        MaskError: there are none, or they are still those of the boxes, not of the image.
    """
    instances = value["instances"] if isinstance(value, Mapping) else value
    found = instances.get_fields()[_field(instances)]
    height, width = _size(instances)
    if hasattr(found, "polygons"):
        return [
            polygons_to_rle(list(parts), height, width, field=f"masks[{number}]")
            for number, parts in enumerate(found.polygons)
        ]
    return arrays.masks(_tensor(found, height, width))


def like(value: Any, rles: Sequence[Rle]) -> Any:
    """Instances with other masks, and the boxes around them; every other field is kept."""
    if isinstance(value, Mapping):
        return {**value, "instances": like(value["instances"], rles)}
    name, (height, width) = _field(value), _size(value)
    fields = dict(value.get_fields())
    found = fields[name]
    if hasattr(found, "polygons"):
        arrays.checked(rles, len(found.polygons), height, width)
        fields[name] = type(found)([outlines(rle) for rle in rles])
    else:
        tensor = arrays.like(_tensor(found, height, width), rles)
        fields[name] = tensor if arrays.is_tensor(found) else type(found)(tensor)
    boxes = fields.get(_BOXES[name])
    # Rotated boxes have a fifth column.
    if boxes is not None and boxes.tensor.shape[1] == 4:
        fields[_BOXES[name]] = type(boxes)(arrays.corners(rles, boxes.tensor))
    made = type(value)(value.image_size)
    for key, content in fields.items():
        made.set(key, content)
    return made


def _is_instances(value: Any) -> bool:
    return hasattr(value, "get_fields") and hasattr(value, "image_size")


def _field(instances: Any) -> str:
    for name in _BOXES:
        if instances.has(name):
            return name
    raise MaskError("these instances have neither pred_masks nor gt_masks; masks are needed", field="masks")


def _size(instances: Any) -> tuple[int, int]:
    height, width = (int(side) for side in instances.image_size)
    check_size(height, width, "image_size")
    return height, width


def _tensor(found: Any, height: int, width: int) -> Any:
    tensor = found if arrays.is_tensor(found) else found.tensor
    if tuple(tensor.shape[-2:]) != (height, width):
        raise MaskError(
            f"masks are {tensor.shape[-2]} x {tensor.shape[-1]} but image_size is {height} x {width}; "
            "run detector_postprocess first",
            field="masks",
        )
    return tensor

"""Between protobuf messages and the service's own words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.service.errors import InvalidRequestError, error_body
from maskmend.service.inputs import IndexMask, InputLimits, MaskFile, Masks, check_count
from maskmend.service.job import Job
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.requests import validated
from maskmend.service.schema import RefineAnswer, RefinedMask, RefineOptions
from maskmend.service.text import from_base64

_DTYPES = {"bool": np.bool_, "uint8": np.uint8, "float32": np.float32}
_MOST_AXES = 4


def read_job(message: pb.RefineRequest, request_id: str, limits: InputLimits) -> Job:
    """Read a `RefineRequest`.

    Raises:
        ServiceError: it does not say what it must.
    """
    form = message.WhichOneof("picture")
    if form is None or (form == "image" and not message.image):
        raise InvalidRequestError("send the image, as a file or as a tensor", field="image")
    picture: bytes | NDArray[np.uint8]
    if form == "image":
        picture = message.image
    else:
        tensor = _tensor(message.image_tensor, "image_tensor")
        if tensor.dtype != np.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3:
            raise InvalidRequestError("image_tensor must be uint8 [H, W, 3], RGB", field="image_tensor")
        picture = tensor
    given = {
        field.name: value for field, value in message.options.ListFields() if field.name in RefineOptions.model_fields
    }
    return Job(picture, _masks(message, limits), validated(RefineOptions, given), request_id, "grpc")


def _masks(message: pb.RefineRequest, limits: InputLimits) -> Masks:
    ways = [bool(message.masks), message.HasField("mask_tensor"), bool(message.index_mask)]
    if sum(ways) != 1:
        raise InvalidRequestError("send masks in exactly one way: masks, mask_tensor or index_mask", field="masks")
    if message.index_mask:
        return IndexMask(message.index_mask)
    if message.masks:
        check_count(message.masks, limits)
        return [_mask(mask, number) for number, mask in enumerate(message.masks)]
    tensor = _tensor(message.mask_tensor, "mask_tensor")
    if tensor.ndim != 3:
        raise InvalidRequestError("mask_tensor must have the shape [N, H, W]", field="mask_tensor")
    if tensor.dtype == np.float32:
        if not np.isfinite(tensor).all():
            raise InvalidRequestError("mask_tensor holds NaN or infinity; send probabilities", field="mask_tensor")
        tensor = tensor > 0.5
    return list(tensor)


def _mask(mask: pb.Mask, number: int) -> object:
    form = mask.WhichOneof("form")
    if form == "rle":
        return {"size": list(mask.rle.size), "counts": mask.rle.counts}
    if form == "polygons":
        return [list(polygon.coordinates) for polygon in mask.polygons.polygons]
    if form == "png":
        return MaskFile(mask.png)
    raise InvalidRequestError(f"masks[{number}] is empty; set rle, polygons or png", field=f"masks[{number}]")


def _tensor(tensor: pb.Tensor, field: str) -> NDArray[Any]:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise InvalidRequestError(f"{field}.dtype must be one of {', '.join(_DTYPES)}", field=f"{field}.dtype")
    shape = tuple(tensor.shape)
    if not 1 <= len(shape) <= _MOST_AXES or any(not 1 <= side <= 2**31 for side in shape):
        raise InvalidRequestError(f"{field}.shape must be 1 to {_MOST_AXES} positive numbers", field=f"{field}.shape")
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    if len(tensor.data) != wanted:
        raise InvalidRequestError(
            f"{field}.data has {len(tensor.data)} bytes; its shape and dtype make {min(wanted, 10**18)}",
            field=f"{field}.data",
        )
    if dtype is np.bool_:
        return np.asarray(np.frombuffer(tensor.data, np.uint8).reshape(shape) != 0)
    return np.asarray(np.frombuffer(tensor.data, np.dtype(dtype).newbyteorder("<")).reshape(shape))


def write_answer(answer: RefineAnswer) -> pb.RefineResponse:
    """A `RefineResponse`."""
    out = pb.RefineResponse(
        request_id=answer.request_id,
        width=answer.width,
        height=answer.height,
        instances=[write_mask(mask) for mask in answer.instances],
        timings=answer.timings or {},
        provenance={key: _value(value) for key, value in answer.provenance.items()},
    )
    if answer.index_png is not None:
        out.index_png = from_base64(answer.index_png, "index_png")
    return out


def write_mask(mask: RefinedMask) -> pb.RefinedMask:
    """A `RefinedMask`."""
    out = pb.RefinedMask(
        index=mask.index,
        box=mask.box,
        area=mask.area,
        confidence=mask.confidence,
        score=mask.score,
        abstained=mask.abstained,
        changed_pixels=mask.changed_pixels,
        max_displacement_px=mask.max_displacement_px,
        undone=mask.undone or {},
    )
    if isinstance(mask.segmentation, dict):
        out.segmentation.rle.size.extend(mask.segmentation["size"])
        out.segmentation.rle.counts = mask.segmentation["counts"].encode("ascii")
    elif mask.segmentation is not None:
        out.segmentation.polygons.polygons.extend(pb.Polygon(coordinates=part) for part in mask.segmentation)
    elif mask.png is not None:
        out.segmentation.png = from_base64(mask.png, "png")
    return out


def write_error(error: BaseException, request_id: str) -> pb.Error:
    """An `Error`."""
    return pb.Error(**error_body(error, request_id).model_dump())


def _value(value: str | int | float) -> pb.Value:
    if isinstance(value, str):
        return pb.Value(text=value)
    return pb.Value(whole=value) if isinstance(value, int) else pb.Value(real=value)

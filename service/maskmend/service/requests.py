"""From the body of an HTTP request to a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from maskmend.service.errors import BadRequestError, InvalidRequestError, MediaTypeError
from maskmend.service.inputs import IndexMask, MaskFile, Masks
from maskmend.service.job import Job
from maskmend.service.multipart import Part, read_multipart
from maskmend.service.schema import RefineBody, RefineOptions
from maskmend.service.strict_json import read_json
from maskmend.service.text import from_base64

_FILES = ("image", "mask", "index_mask")
_BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}
Model = TypeVar("Model", bound=BaseModel)


def read_job(content_type: str, body: bytes, request_id: str, max_parts: int, *, allow_urls: bool) -> Job:
    """Read a request of `POST /v1/refine`.

    Args:
        content_type: `application/json` or `multipart/form-data; boundary=...`.
        body: whole, not compressed.
        request_id: for the job.
        max_parts: of a multipart body.
        allow_urls: let the image be named by its URL; it is then still to be fetched.

    Raises:
        ServiceError: see `maskmend.service.errors`.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _from_json(body, request_id, allow_urls)
    if kind == "multipart/form-data":
        return _from_parts(read_multipart(content_type, body, max_parts), request_id)
    raise MediaTypeError("content-type must be multipart/form-data or application/json", field="content-type")


def _from_json(body: bytes, request_id: str, allow_urls: bool) -> Job:
    if not body:
        raise BadRequestError("the body is empty; send JSON", field="body")
    value = read_json(body)
    if not isinstance(value, dict):
        raise InvalidRequestError("the body must be a JSON object with image and masks", field="body")
    read = validated(RefineBody, value)
    if (read.image is None) == (read.image_url is None):
        raise InvalidRequestError("send either image, base64, or image_url", field="image")
    if (read.masks is None) == (read.index_mask is None):
        raise InvalidRequestError("send either masks, a list, or index_mask", field="masks")
    if read.image_url is not None and not allow_urls:
        raise InvalidRequestError("image_url is not allowed on this server; send the image itself", field="image_url")
    image = b"" if read.image is None else from_base64(read.image, "image")
    masks: Masks
    if read.index_mask is not None:
        masks = IndexMask(from_base64(read.index_mask, "index_mask"))
    else:
        assert read.masks is not None
        masks = [_mask(mask, number) for number, mask in enumerate(read.masks)]
    options = RefineOptions.model_construct(**{name: getattr(read, name) for name in RefineOptions.model_fields})
    return Job(image, masks, options, request_id, image_url=read.image_url)


def _mask(mask: Any, number: int) -> Any:
    if isinstance(mask, dict) and set(mask) == {"png"} and isinstance(mask["png"], str):
        return MaskFile(from_base64(mask["png"], f"masks[{number}].png"))
    return mask


def _from_parts(parts: Sequence[Part], request_id: str) -> Job:
    files: dict[str, list[bytes]] = {name: [] for name in _FILES}
    texts: dict[str, str] = {}
    for part in parts:
        if part.name in files:
            files[part.name].append(part.data)
        elif part.name in texts:
            raise InvalidRequestError("a field is there twice; send each once", field=_known(part.name))
        else:
            try:
                texts[part.name] = part.data.decode("utf-8")
            except UnicodeDecodeError:
                raise BadRequestError(f"{_known(part.name)} is not UTF-8", field=_known(part.name)) from None
    image, index = _single(files["image"], "image"), files["index_mask"]
    ways = [texts.pop("masks", None), files["mask"] or None, _single(index, "index_mask") if index else None]
    if sum(way is not None for way in ways) != 1:
        raise InvalidRequestError(
            "send masks in exactly one way: field masks (JSON list), files mask (PNG), or file index_mask",
            field="masks",
        )
    masks: Masks
    if isinstance(ways[0], str):
        value = read_json(ways[0].encode(), "masks")
        if not isinstance(value, list):
            raise InvalidRequestError("masks must be a JSON list, one entry per instance", field="masks")
        masks = [_mask(mask, number) for number, mask in enumerate(value)]
    elif index:
        masks = IndexMask(index[0])
    else:
        masks = [MaskFile(data) for data in files["mask"]]
    return Job(
        image, masks, validated(RefineOptions, {key: _typed(key, text) for key, text in texts.items()}), request_id
    )


def _single(found: list[bytes], field: str) -> bytes:
    if len(found) != 1 or not found[0]:
        raise InvalidRequestError(f"send exactly one file {field}, and not an empty one", field=field)
    return found[0]


def _typed(key: str, text: str) -> Any:
    """The value of a text field, which cannot say its own type."""
    field = RefineOptions.model_fields.get(key)
    if field is None:
        return text
    if field.annotation is bool:
        return _BOOLEANS.get(text.strip().lower(), text)
    if field.annotation is int and text.strip().lstrip("-").isdecimal() and len(text) < 10:
        return int(text)
    return text


def validated(model: type[Model], values: dict[str, Any]) -> Model:
    """Check values against a model.

    Raises:
        InvalidRequestError: naming the first field at fault, never its value.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        field = ".".join(_known(str(part)) for part in first["loc"])[:80]
        raise InvalidRequestError(f"{field}: {first['msg'][:200]}", field=field) from None


def _known(name: str) -> str:
    """A field's name, if it is one of ours: what a stranger made up is not repeated."""
    return name if name in RefineBody.model_fields or name in _FILES else "(unknown field)"

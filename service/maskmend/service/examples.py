"""What the OpenAPI page says beyond the schemas, with examples that run as they stand."""

from __future__ import annotations

from typing import Any

from maskmend.service.schema import ErrorBody, RefineBody, RefineOptions

DESCRIPTION = """Refines coarse instance masks of any segmenter: looks closely along the boundary only, and keeps masks
that are already right.

```
curl -F image=@cat.jpg -F 'masks=[{"size": [480, 640], "counts": "..."}]' http://localhost:8000/v1/refine
curl -F image=@cat.jpg -F mask=@cat.png -F encoding=png http://localhost:8000/v1/refine
```

Every refusal is a JSON object `{code, message, field, request_id}` of at most 4 KB."""

# An 8x8 px grey picture: small enough to read here, and a request that runs.
_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAHUlEQVQI12PU"
    "YIAAJijNwMLAsABIJSBEMBmMGLoAQiIBYbKqqR4AAAAASUVORK5CYII="
)
_MASKS: list[Any] = [{"size": [8, 8], "counts": [18, 4, 4, 4, 4, 4, 4, 4, 18]}]


def _example(name: str) -> dict[str, Any]:
    values: dict[str, Any] = {"image": _IMAGE, "masks": _MASKS}
    if name == "polygons":
        values = {"image": _IMAGE, "masks": [[[2, 2, 6, 2, 6, 6, 2, 6]]], "encoding": "polygons", "nms": 0.4}
    return {"summary": name, "value": values}


def _form() -> dict[str, Any]:
    """Schema of the multipart body: files, masks as text, and each option as a field."""
    options = RefineOptions.model_json_schema()["properties"]
    picture = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {**picture, "description": "The image file: PNG, JPEG, WebP, BMP or TIFF."},
            "masks": {"type": "string", "description": "JSON list: COCO RLE, polygons or records, one per instance."},
            "mask": {
                "type": "array",
                "items": picture,
                "description": "Instead: a PNG per instance; black is outside.",
            },
            "index_mask": {**picture, "description": "Instead: one PNG whose values say the instance; 0 is none."},
            **options,
        },
    }


REFINE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": RefineBody.model_json_schema(),
            "examples": {name: _example(name) for name in ("rle", "polygons")},
        },
        "multipart/form-data": {"schema": _form()},
    },
}

_REASONS = {
    400: "The request cannot be read.",
    401: "No key, or a wrong one.",
    403: "A URL that the server may not fetch.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "More bytes than the server takes.",
    415: "A content type, or an image format, that is not read.",
    422: "The request can be read but does not say what it must; `field` says where.",
    429: "Too many requests; see Retry-After.",
    500: "A fault of the server.",
    503: "Stopping, or not ready; see Retry-After.",
    504: "The deadline passed.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": reason} for status, reason in _REASONS.items()
}

STREAM_ANSWER: dict[str, Any] = {
    "description": "One JSON object a line: `instance` for each mask, in the order they are ready; last `done` with size, "
    "timings and provenance, or `error`.",
    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
}

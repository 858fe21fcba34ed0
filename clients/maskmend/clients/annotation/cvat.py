"""A serverless function for CVAT (nuclio): clicks around an object, or a coarse mask, become a refined mask.

CVAT sends an interactor the frame and the points that were clicked, and not the shapes that are there. So positive
points are taken as the corners of a rough polygon. Whoever calls the function directly may send a mask or a polygon.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from maskmend.clients.annotation.refiners import refiner
from maskmend.clients.formats.one_ring import ring_of
from maskmend.clients.formats.rowwise import Box
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import MaskError, MaskmendError
from maskmend.patcher.images import load_image
from maskmend.patcher.rle import check_size, is_whole
from maskmend.service.errors import InvalidRequestError, foreseen, http_status

TOLERANCE = 0.5
"""Of the polygon that is sent beside the mask, in px."""
_MOST_IMAGE = 64_000_000


def init_context(context: Any) -> None:
    """Load the refiner, once for each worker.

    The environment says which: `MASKMEND_SERVER` and `MASKMEND_API_KEY` name a server, else `MASKMEND_WEIGHTS` names the
    weights to use here, `bpr-small` by default.
    """
    context.logger.info("loading the refiner")
    context.user_data.refiner = refiner(
        os.environ.get("MASKMEND_SERVER"),
        os.environ.get("MASKMEND_API_KEY"),
        **({} if os.environ.get("MASKMEND_SERVER") else {"weights": os.environ.get("MASKMEND_WEIGHTS", "bpr-small")}),
    )
    context.logger.info("the refiner is ready")


def handler(context: Any, event: Any) -> Any:
    """Answer one call.

    The body is a JSON object: `image` (base64), and one of

    - `pos_points`: three points [x, y] or more in px, corners of a rough polygon, as CVAT sends them;
    - `polygon`: flat list x0, y0, x1, y1, ... in px;
    - `mask`: CVAT's own form, the 0 and 1 of a box along its rows, then the box's left, top, right and bottom pixel.

    The answer has `mask` (rows of 0 and 255, of the image's size), `points` (corners [x, y] of one polygon around it),
    `score` and `abstained` (see `RefinedInstance`). What cannot be read is answered with a status of 400 or above and an
    `error`.
    """
    try:
        status, answer = 200, _answer(_body(event.body), context.user_data.refiner)
    except MaskmendError as error:
        ours = foreseen(error)
        status, answer = http_status(ours), {"error": str(ours), "code": ours.code}
        context.logger.warn(f"refused: {ours}")
    return context.Response(body=json.dumps(answer), headers={}, content_type="application/json", status_code=status)


def _answer(body: Mapping[str, Any], refines: Any) -> dict[str, Any]:
    picture = load_image(_image(body.get("image")))
    height, width = picture.shape[:2]
    (instance,) = refines.refine(picture, [_coarse(body, height, width).to_coco()]).instances
    mask = Rle.from_coco(instance.rle)
    ring = ring_of(mask, TOLERANCE, "mask")
    return {
        "mask": (mask.to_dense().view(np.uint8) * np.uint8(255)).tolist(),
        "points": [[x, y] for x, y in zip(ring[::2], ring[1::2], strict=True)],
        "score": instance.score,
        "abstained": instance.abstained,
    }


def _body(body: object) -> Mapping[str, Any]:
    if isinstance(body, (str, bytes)):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidRequestError("the body is no JSON", field="body") from None
    if not isinstance(body, Mapping):
        raise InvalidRequestError("the body must be a JSON object", field="body")
    return body


def _image(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > _MOST_IMAGE * 4 // 3:
        raise InvalidRequestError(f"image must be base64, of at most {_MOST_IMAGE} bytes", field="image")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError("image is no base64", field="image") from None


def _coarse(body: Mapping[str, Any], height: int, width: int) -> Rle:
    if body.get("mask") is not None:
        return _read_mask(body["mask"], height, width)
    if body.get("polygon") is not None:
        return polygons_to_rle([body["polygon"]], height, width, field="polygon")
    points = body.get("pos_points")
    if not isinstance(points, list) or len(points) < 3:
        raise MaskError("click three points or more around the object, one after the other", field="pos_points")
    flat: list[float] = []
    for point in points:
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise MaskError("pos_points must be [x, y] each, in px", field="pos_points")
        flat += point
    return polygons_to_rle([flat], height, width, field="pos_points")


def _read_mask(given: object, height: int, width: int) -> Rle:
    if not isinstance(given, list) or len(given) < 5 or not all(map(is_whole, given[-4:])):
        raise MaskError("mask must be the pixels of a box and its four sides, as CVAT has it", field="mask")
    x0, y0, w, h = _box(given[-4:])
    check_size(h, w, "mask")
    if len(given) - 4 != w * h:
        raise MaskError(f"mask has {len(given) - 4} pixels, but its box has {w * h}", field="mask")
    if not all(value in (0, 1) for value in given[:-4]):
        raise MaskError("mask must hold 0 and 1 before its box", field="mask")
    return Rle.from_crop(np.array(given[:-4], np.uint8).reshape(h, w), height, width, x0, y0)


def _box(sides: list[int]) -> Box:
    left, top, right, bottom = sides
    return left, top, right - left + 1, bottom - top + 1

"""What the page needs to show one instance: a crop of its photograph, and its masks within it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle

QUALITY: Final = 85
MASK_SIDE: Final = 2048
"""Longest side of a mask in the page, in px: larger ones are scaled down, since a browser draws them as pictures."""
LEAST_MARGIN: Final = 12


def window(masks: Sequence[Rle]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) in px around masks of one size, with a margin of an eighth; the frame where all are empty."""
    width, height = masks[0].width, masks[0].height
    boxes = [mask.bbox for mask in masks if mask.area]
    if not boxes:
        return 0, 0, width, height
    x0, y0 = min(x for x, _, _, _ in boxes), min(y for _, y, _, _ in boxes)
    x1, y1 = max(x + w for x, _, w, _ in boxes), max(y + h for _, y, _, h in boxes)
    margin = max(LEAST_MARGIN, max(x1 - x0, y1 - y0) // 8)
    return max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, width), min(y1 + margin, height)


def cut(image: NDArray[np.uint8], masks: Mapping[str, Rle], side: int) -> dict[str, Any]:
    """Cut an instance out.

    Args:
        image: uint8 [H, W, 3] RGB.
        masks: by name, all of the image's size.
        side: longest side of the photograph's crop in px; larger ones are scaled down, none is enlarged.

    Returns:
        `at`: x, y, width and height of the crop in px of the image. `photo`: base64 of a JPEG. `size`: width and height
        that the masks have in the page. `masks`: by name, COCO's compressed counts of the crop.
    """
    x0, y0, x1, y1 = window(list(masks.values()))
    at = (x1 - x0, y1 - y0)
    size = _within(at, MASK_SIDE)
    counts = {}
    for name, mask in masks.items():
        crop = mask.crop(x0, y0, x1, y1)
        if size != at:
            crop = (cv2.resize(crop * np.uint8(255), size, interpolation=cv2.INTER_AREA) >= 128).astype(np.uint8)
        counts[name] = Rle.from_dense(crop).to_coco()["counts"]
    photo = image[y0:y1, x0:x1, ::-1]
    if (small := _within(at, side)) != at:
        photo = cv2.resize(photo, small, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return {
        "at": [x0, y0, *at],
        "photo": base64.b64encode(jpeg.tobytes()).decode("ascii"),
        "size": list(size),
        "masks": counts,
    }


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

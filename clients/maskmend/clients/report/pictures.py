"""Pictures of an instance before and after, side by side: for a README, and for the demo's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle, as_rle

RED, GREEN = (235, 60, 50), (40, 200, 90)
TILE = 360


@dataclass(frozen=True)
class Shown:
    """One instance to show: its photograph uint8 [H, W, 3] RGB, both masks, and what to write under it."""

    image: NDArray[np.uint8]
    coarse: Rle
    refined: Rle
    caption: str
    details: str = ""


def before_after(shown: Shown, *, tile: int = TILE) -> NDArray[np.uint8]:
    """The instance cut out twice, coarse outline left in red, refined right in green: uint8 [h, 2w + 6, 3] RGB."""
    x0, y0, x1, y1 = _window(shown)
    crop = shown.image[y0:y1, x0:x1]
    # Never enlarged beyond four times: the edge stays believable.
    scale = min(4.0, tile / max(crop.shape[:2]))
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    large = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    halves = [
        _outlined(large, mask.crop(x0, y0, x1, y1), colour)
        for mask, colour in ((shown.coarse, RED), (shown.refined, GREEN))
    ]
    gap = np.full((size[1], 6, 3), 255, np.uint8)
    return np.hstack([halves[0], gap, halves[1]])


def _window(shown: Shown) -> tuple[int, int, int, int]:
    boxes = [rle.bbox for rle in (shown.coarse, shown.refined) if rle.area]
    height, width = shown.image.shape[:2]
    if not boxes:
        return 0, 0, width, height
    x0, y0 = min(b[0] for b in boxes), min(b[1] for b in boxes)
    x1, y1 = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    margin = max(8, (x1 - x0 + y1 - y0) // 16)
    return max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, width), min(y1 + margin, height)


def _outlined(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    out = picture.copy()
    large = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    tint = np.zeros_like(out)
    tint[:] = colour
    out = np.where(large[:, :, None] > 0, cv2.addWeighted(out, 0.72, tint, 0.28, 0), out)
    cv2.drawContours(out, contours, -1, colour, 2, cv2.LINE_AA)
    return np.asarray(out, np.uint8)


def montage(items: Sequence[Shown], columns: int = 2, *, tile: int = TILE) -> NDArray[np.uint8]:
    """Several instances in a grid on white, uint8 [H, W, 3] RGB."""
    pictures = [before_after(item, tile=tile) for item in items]
    width, rows = 2 * tile + 6, []
    for start in range(0, len(pictures), columns):
        part = pictures[start : start + columns]
        height = max(p.shape[0] for p in part)
        cells = [_padded(p, height, width) for p in part]
        cells += [np.full((height, width, 3), 255, np.uint8)] * (columns - len(part))
        rows.append(np.hstack([np.pad(c, ((8, 8), (8, 8), (0, 0)), constant_values=255) for c in cells]))
    return np.vstack(rows)


def _padded(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    out = np.full((height, width, 3), 255, np.uint8)
    out[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return out


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, uint8 [H, W, 3] RGB."""
    path.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())


def shown_instance(image: NDArray[np.uint8], coarse: Any, refined: Any, caption: str, details: str = "") -> Shown:
    """Build a `Shown` from masks in any form `as_rle` takes."""
    height, width = image.shape[:2]
    masks = [as_rle(mask, height=height, width=width) for mask in (coarse, refined)]
    return Shown(image, masks[0], masks[1], caption, details)

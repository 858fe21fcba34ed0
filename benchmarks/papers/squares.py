"""Masks of a COCO file as squares: what a network that looks at one instance in a fixed size gets to see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.clients.coco import read_coco
from maskmend.patcher import Rle, as_rle, polygons_to_rle


@dataclass(frozen=True)
class Square:
    """One instance: bool [S, S], and the area of the square over that of the object's own box."""

    mask: NDArray[np.bool_]
    expansion: float


def resized(crop: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """A mask of 0 and 1 stretched to bool [side, side], one axis after the other."""
    values = crop.astype(np.float32)
    for shape in ((values.shape[1], side), (side, side)):
        shrinks = shape[0] < values.shape[1] or shape[1] < values.shape[0]
        values = cv2.resize(values, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(values >= 0.5)


def drawn(polygons: list[list[float]], box: tuple[int, int, int, int], side: int) -> NDArray[np.bool_]:
    """Polygons rasterised where the box (x0, y0, x1, y1) is a square, bool [side, side]."""
    x0, y0, x1, y1 = box
    origin, scale = np.array([x0, y0]), side / np.array([x1 - x0, y1 - y0])
    moved = [((np.reshape(polygon, (-1, 2)) - origin) * scale).ravel().tolist() for polygon in polygons]
    return polygons_to_rle(moved, side, side).to_dense()


def expanded(mask: Rle, factor: float) -> tuple[int, int, int, int]:
    """The mask's box (x0, y0, x1, y1), grown about its centre; it may leave the frame."""
    x, y, w, h = mask.bbox
    dx, dy = (factor - 1) * w / 2, (factor - 1) * h / 2
    return math.floor(x - dx), math.floor(y - dy), math.ceil(x + w + dx), math.ceil(y + h + dy)


def squares(gt: Path, factor: float, side: int, draw: bool) -> Iterator[Square]:
    """The instances of a COCO file."""
    coco = read_coco(gt)
    for record in coco.records:
        if record.get("iscrowd"):
            continue
        image, given = coco.images[record["image_id"]], record["segmentation"]
        mask = as_rle(given, height=image["height"], width=image["width"])
        if not mask.area or (draw and not isinstance(given, list)):
            continue
        box = expanded(mask, factor)
        x0, y0, x1, y1 = box
        own = mask.bbox[2] * mask.bbox[3]
        pixels = drawn(given, box, side) if draw else resized(mask.crop(*box), side)
        yield Square(pixels, (x1 - x0) * (y1 - y0) / own)

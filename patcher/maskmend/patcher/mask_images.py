"""Masks that come, or go, as pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._headers import read_header
from maskmend.patcher.errors import ImageError, MaskError
from maskmend.patcher.images import check_image_size
from maskmend.patcher.rle import MAX_PIXELS, Rle

_PALETTE = 3
"""PNG's colour type of pixels that are indices."""


def read_mask(data: bytes, *, field: str = "mask", max_pixels: int = MAX_PIXELS) -> Rle:
    """Read a mask from an encoded picture: a pixel is foreground unless it is black. Alpha is passed over.

    Raises:
        ImageError: not a picture, truncated, animated, or beyond the limits of a mask.
    """
    pixels = _decode(data, field, cv2.IMREAD_UNCHANGED, max_pixels)
    coloured = pixels[..., :3].any(axis=2) if pixels.ndim == 3 else np.not_equal(pixels, 0)
    return Rle.from_dense(np.asarray(coloured), field=field)


def read_index_mask(
    data: bytes, *, field: str = "index_mask", most: int = 65_535, max_pixels: int = MAX_PIXELS
) -> Iterator[Rle]:
    """Read all instances from one PNG whose pixel values are indices: grey of 8 or 16 bits, or a palette.

    Args:
        data: the PNG.
        field: how error messages name it.
        most: instances that it may hold.
        max_pixels: largest height * width.

    Yields:
        One mask per value other than 0, in ascending order of the values.

    Raises:
        ImageError: not a PNG, truncated, animated, or beyond the limits of a mask.
        MaskError: its pixels are colours, or there are more values than `most`.
    """
    if read_header(data, field).format != "PNG":
        raise ImageError(f"{field} must be a PNG; other formats change values, or have no indices", field=field)
    if data[25] == _PALETTE:
        indices = _palette_indices(data, field, max_pixels)
    else:
        indices = _decode(data, field, cv2.IMREAD_UNCHANGED, max_pixels)
    if indices.ndim != 2:
        raise MaskError(f"{field} has colours; send indices, as grey values or with a palette", field=field)
    values = np.unique(indices)
    values = values[values > 0]
    if len(values) > most:
        raise MaskError(f"{field} holds {len(values)} values; at most {most} instances are read", field=field)
    for value in values:
        yield Rle.from_dense(indices == value, field=field)


def write_mask(mask: Rle) -> bytes:
    """A mask as a grey PNG of 0 and 255."""
    return _png(mask.to_dense().view(np.uint8) * np.uint8(255))


def write_index_mask(masks: Sequence[Rle], height: int, width: int) -> bytes:
    """Masks as one grey PNG, of 16 bits from 256 on: value i + 1 is mask i, the first on top where they overlap."""
    indices = np.zeros((height, width), np.uint8 if len(masks) < 256 else np.uint16)
    for number in reversed(range(len(masks))):
        x, y, w, h = masks[number].bbox
        view = indices[y : y + h, x : x + w]
        view[masks[number].crop(x, y, x + w, y + h) > 0] = number + 1
    return _png(indices)


def _png(pixels: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def _decode(data: bytes, field: str, flags: int, max_pixels: int) -> NDArray[Any]:
    header = read_header(data, field)
    check_image_size(header.height, header.width, max_pixels, field)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{field} cannot be decoded as {header.format}", field=field) from error
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise ImageError(f"{field} cannot be decoded as {header.format}; it may be truncated", field=field)
    return np.asarray(pixels)


def _palette_indices(data: bytes, field: str, max_pixels: int) -> NDArray[np.uint8]:
    """Indices of a PNG with a palette: OpenCV resolves them to colours, and the palette tells which colour was which."""
    weights = np.array([1 << 16, 1 << 8, 1])
    # Palettes often end in a row of unused black entries: of several entries of one colour the first is meant.
    known, first = np.unique(_palette(data, field).astype(np.int64) @ weights, return_index=True)
    bgr = _decode(data, field, cv2.IMREAD_COLOR, max_pixels)
    indices = np.empty(bgr.shape[:2], np.uint8)
    # A few rows at a time: the whole picture as integers would be many times the picture.
    for rows in range(0, len(bgr), 64):
        colours = bgr[rows : rows + 64, :, ::-1].astype(np.int64) @ weights
        indices[rows : rows + 64] = first[np.searchsorted(known, colours).clip(0, len(known) - 1)]
    return indices


def _palette(data: bytes, field: str) -> NDArray[np.uint8]:
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"PLTE" and length % 3 == 0 and 0 < length <= 768:
            return np.frombuffer(data, np.uint8, length, at + 8).reshape(-1, 3)
        at += 12 + length
    raise ImageError(f"{field} has a colour type that needs a palette, and none; save it again", field=field)

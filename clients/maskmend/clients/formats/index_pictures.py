"""PNGs whose pixel values are indices: read exactly, and written as they came, palette and all."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._headers import read_header
from maskmend.patcher.errors import ImageError, MaskError
from maskmend.patcher.images import check_image_size
from maskmend.patcher.rle import MAX_PIXELS

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_KEPT = (b"PLTE", b"tRNS", b"pHYs", b"gAMA", b"sRGB", b"iCCP", b"cHRM", b"tEXt")


@dataclass(frozen=True, slots=True, eq=False)
class IndexPicture:
    """A picture of indices.

    Attributes:
        indices: uint8 or uint16 [H, W].
        chunks: of the PNG, kept when it is written again: palette, transparency, text.
    """

    indices: NDArray[Any]
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def palette(self) -> NDArray[np.uint8] | None:
        """RGB of each index, uint8 [P, 3]; None for grey pictures."""
        for kind, body in self.chunks:
            if kind == b"PLTE":
                return np.frombuffer(body, np.uint8).reshape(-1, 3)
        return None


def read_indices(data: bytes, *, field: str, max_pixels: int = MAX_PIXELS) -> IndexPicture:
    """Read a grey PNG, of up to 16 bits, or one with a palette.

    Args:
        data: the PNG.
        field: how error messages name it.
        max_pixels: largest height * width.

    Raises:
        ImageError: not a PNG, truncated, animated, or beyond the limits.
        MaskError: its pixels are colours.
    """
    header = read_header(data, field)
    if header.format != "PNG":
        raise ImageError(f"{field} must be a PNG; other formats change values, or have no indices", field=field)
    check_image_size(header.height, header.width, max_pixels, field)
    depth, colour = data[24], data[25]
    if colour not in (_GREY, _PALETTE):
        raise MaskError(f"{field} has colours or alpha; save it as indices, grey or with a palette", field=field)
    found = _chunks(data)
    # The bare pixels, taken for grey: of a palette the decoder would give colours, of transparency a channel more.
    start = data[16:25] + bytes([_GREY]) + data[26:29]
    body = b"".join(part for kind, part in found if kind == b"IDAT")
    plain = _SIGNATURE + _chunk(b"IHDR", start) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    try:
        pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{field} cannot be decoded as PNG", field=field) from error
    if pixels is None or pixels.shape != (header.height, header.width):
        raise ImageError(f"{field} cannot be decoded as PNG; it may be truncated", field=field)
    if depth < 8:
        # Grey of fewer bits comes spread over 0 to 255.
        pixels = np.asarray(pixels // (255 // (2**depth - 1)), np.uint8)
    kept = tuple((kind, part) for kind, part in found if kind in _KEPT)
    if colour == _PALETTE:
        _check_palette([part for kind, part in kept if kind == b"PLTE"], field)
    return IndexPicture(np.asarray(pixels), kept)


def write_indices(picture: IndexPicture) -> bytes:
    """A picture of indices as PNG: with its palette, if it has one, else grey of 8 or 16 bits.

    Raises:
        MaskError: an index has no place in the palette.
    """
    height, width = picture.indices.shape
    palette = picture.palette
    if palette is not None and picture.indices.size and int(picture.indices.max()) >= len(palette):
        raise MaskError(f"the palette has {len(palette)} colours, too few for the indices", field="palette")
    pixels = picture.indices.astype(np.uint8 if picture.indices.dtype == np.uint8 else ">u2")
    depth = 8 * pixels.dtype.itemsize
    rows = np.zeros((height, 1 + width * pixels.dtype.itemsize), np.uint8)
    rows[:, 1:] = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    colour = _GREY if palette is None else _PALETTE
    start = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    # A tRNS of a grey picture names a value of the depth it had.
    kept = [(kind, body) for kind, body in picture.chunks if kind != b"tRNS" or palette is not None]
    parts = [(b"IHDR", start), *kept, (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in parts)


def values_of(picture: IndexPicture) -> list[int]:
    """The indices that a picture has, ascending."""
    present = np.zeros(65_536, bool)
    # Some rows at a time: numpy makes int64 of what it is indexed with.
    for rows in range(0, len(picture.indices), 64):
        present[picture.indices[rows : rows + 64]] = True
    return [int(value) for value in np.flatnonzero(present)]


def voc_palette() -> bytes:
    """The 256 colours of Pascal VOC, RGB, 768 bytes: the bits of an index dealt out to red, green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    index = np.arange(256)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> channel) & 1) << (7 - place)).astype(np.uint8)
        index >>= 3
    return colours.tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """All chunks up to the end; the header was checked before, and says that there is one."""
    found, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
        if kind == b"IEND":
            break
    return found


def _check_palette(palettes: list[bytes], field: str) -> None:
    if len(palettes) != 1 or len(palettes[0]) % 3 or not 0 < len(palettes[0]) <= 768:
        raise ImageError(f"{field} has a colour type that needs one palette; save it again", field=field)

"""Format and size of an encoded image from its first bytes, without decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from maskmend.patcher.errors import ImageError, UnsupportedImageError

_MOST_SCANS = 100
_MOST_FILLS = 1000


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image say: its format, height and width in px before any rotation, a TIFF's orientation."""

    format: str
    height: int
    width: int
    orientation: int = 1


def read_header(data: bytes, field: str) -> Header:
    """Read the header of a PNG, JPEG, WebP, BMP or TIFF.

    Raises:
        ImageError: unknown format, truncated, or more than one picture.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data, field)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data, field)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data, field)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return Header("BMP", abs(height), width)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data, field)
    except (struct.error, IndexError) as error:
        raise ImageError(f"{field} is cut off in its header; send the whole file", field=field) from error
    raise UnsupportedImageError(
        f"{field} is not a PNG, JPEG, WebP, BMP or TIFF; convert it to one of these", field=field
    )


def _png(data: bytes, field: str) -> Header:
    if data[12:16] != b"IHDR":
        raise ImageError(f"{field} is a damaged PNG: it does not begin with its header", field=field)
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        # The decoder takes a chunk's length at its word: gigabytes, for a file of fifty bytes.
        if at + 12 + length > len(data) and (length, kind) != (0, b"IEND"):
            break
        if kind == b"acTL":
            raise ImageError(f"{field} is an animated PNG; send one frame", field=field)
        if kind == b"IEND":
            return Header("PNG", height, width)
        at += 12 + length
    raise ImageError(f"{field} is a truncated PNG; send the whole file", field=field)


def _jpeg(data: bytes, field: str) -> Header:
    at, size, fills = 2, None, 0
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError(f"{field} is a damaged JPEG: no marker where one must be", field=field)
        marker = data[at + 1]
        if marker == 0xFF:
            at, fills = at + 1, fills + 1
            if fills > _MOST_FILLS:
                raise ImageError(f"{field} is a damaged JPEG: filled up between its markers", field=field)
            continue
        if marker == 0xDA:
            break
        length = struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = Header("JPEG", height, width)
        at += 2 + length
    # Decoders fill in grey for what is missing; the end marker tells a whole file from a cut one.
    end = data.find(b"\xff\xd9", at)
    if size is not None and data.count(b"\xff\xda", at, max(end, at)) > _MOST_SCANS:
        # Each of them costs the decoder a walk over the whole picture.
        raise ImageError(f"{field} is a JPEG of more than {_MOST_SCANS} scans; save it again", field=field)
    if size is None or end < 0:
        raise ImageError(f"{field} is a truncated JPEG; send the whole file", field=field)
    return size


def _webp(data: bytes, field: str) -> Header:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        raise ImageError(f"{field} is a truncated WebP; send the whole file", field=field)
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & 2:
            raise ImageError(f"{field} is an animated WebP; send one frame", field=field)
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    return Header("WebP", height, width)


def _tiff(data: bytes, field: str) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, at)[0]
    tags = {}
    for n in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * n)
        if tag in (256, 257, 274) and kind in (3, 4):
            tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 2 + 12 * n + 8)[0]
    if struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]:
        raise ImageError(f"{field} is a TIFF of several pages; send one page", field=field)
    if not {256, 257} <= set(tags):
        raise ImageError(f"{field} is a TIFF without a size", field=field)
    return Header("TIFF", tags[257], tags[256], tags.get(274, 1))

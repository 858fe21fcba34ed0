"""Height and width of a photograph as `load_image` would give it, from the header where that says enough."""

from __future__ import annotations

import struct
from pathlib import Path

from maskmend.patcher._headers import read_header
from maskmend.patcher.images import MAX_PIXELS, ExifPolicy, check_image_size, load_image, read_image_file

_ORIENTATION = 0x0112
_TURNED = range(5, 9)


def image_size(source: Path | bytes, *, exif_policy: ExifPolicy = "apply", field: str = "image") -> tuple[int, int]:
    """Height and width in px, after the EXIF policy.

    A JPEG is not decoded. Other formats are only where they carry an orientation, or may.

    Args:
        source: path, or encoded bytes.
        exif_policy: see `load_image`.
        field: what to call the image in error messages.

    Raises:
        ImageError: see `load_image`.
    """
    data = source if isinstance(source, bytes) else read_image_file(source, field)
    header = read_header(data, field)
    check_image_size(header.height, header.width, MAX_PIXELS, field)
    if exif_policy == "ignore" or header.height == header.width:
        return header.height, header.width
    if header.format == "JPEG":
        turned = _jpeg_orientation(data) in _TURNED
        return (header.width, header.height) if turned else (header.height, header.width)
    marked = {"PNG": b"eXIf" in data, "WebP": b"EXIF" in data, "TIFF": True}
    if marked.get(header.format, False):
        height, width = load_image(data, exif_policy=exif_policy, field=field).shape[:2]
        return int(height), int(width)
    return header.height, header.width


def _jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 where it says none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xE1 and body.startswith(b"Exif\0\0"):
            return _tiff_orientation(body[6:])
        at += 2 + length
    return 1


def _tiff_orientation(data: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    try:
        at = struct.unpack_from(order + "I", data, 4)[0]
        for n in range(struct.unpack_from(order + "H", data, at)[0]):
            tag, _, _, value = struct.unpack_from(order + "HHIH", data, at + 2 + 12 * n)
            if order and tag == _ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1

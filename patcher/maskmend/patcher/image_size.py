"""Height and width of a photograph as `load_image` would give it, from the header where that says enough."""

from __future__ import annotations

import struct
from pathlib import Path

from maskmend.patcher._headers import read_header
from maskmend.patcher.images import MAX_PIXELS, ExifPolicy, check_image_size, load_image, read_image_file

_ORIENTATION = 0x0112
_SHORT = 3
_TURNED = range(5, 9)


def image_size(source: Path | bytes, *, exif_policy: ExifPolicy = "apply", field: str = "image") -> tuple[int, int]:
    """Height and width in px, after the EXIF policy.

    A JPEG is not decoded, unless its EXIF block is out of the ordinary. Other formats are only where they carry an
    orientation, or may.

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
    turned = _jpeg_is_turned(data) if header.format == "JPEG" else False
    marked = {"PNG": b"eXIf" in data, "WebP": b"EXIF" in data, "TIFF": True, "JPEG": turned is None}
    if marked.get(header.format, False):
        height, width = load_image(data, exif_policy=exif_policy, field=field).shape[:2]
        return int(height), int(width)
    return (header.width, header.height) if turned else (header.height, header.width)


def _jpeg_is_turned(data: bytes) -> bool | None:
    """Whether the EXIF orientation of a JPEG swaps its sides; None where only the decoder knows what it makes of it."""
    blocks = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        # The other use of this marker that there is: a text about the picture.
        if data[at + 1] == 0xE1 and not body.startswith(b"http"):
            blocks.append(body)
        at += 2 + length
    if not blocks:
        return False
    orientation = _orientation(blocks[0]) if len(blocks) == 1 else None
    return None if orientation is None else orientation in _TURNED


def _orientation(block: bytes) -> int | None:
    """The orientation that an EXIF block says, 1 where it says none; None where anything about it is out of the ordinary."""
    order = {b"Exif\0\0II*\0": "<", b"Exif\0\0MM\0*": ">"}.get(block[:10])
    if order is None:
        return None
    data, found = block[6:], []
    try:
        at = struct.unpack_from(order + "I", data, 4)[0]
        for n in range(struct.unpack_from(order + "H", data, at)[0]):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", data, at + 2 + 12 * n)
            if tag == _ORIENTATION:
                found.append(value if (kind, count) == (_SHORT, 1) and 1 <= value <= 8 else None)
    except struct.error:
        return None
    return found[0] if len(found) == 1 else (None if found else 1)

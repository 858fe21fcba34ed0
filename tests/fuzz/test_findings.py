"""What campaigns have found, made small, and by name."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from maskmend.patcher import image_size, images
from maskmend.patcher.errors import ImageError
from maskmend.patcher.images import load_image
from maskmend.patcher.mask_images import read_index_mask, read_mask


@pytest.mark.parametrize("kind", [b"IEND", b"IDAT", b"tEXt", b"PLTE"])
def test_a_png_chunk_longer_than_the_file_does_not_reach_the_decoder(
    kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV makes room for as much as the chunk says: 3 GB and ten seconds, for a file of 49 bytes."""
    good = bytes(cv2.imencode(".png", np.zeros((24, 30, 3), np.uint8))[1])
    # The header of a palette or grey picture, then the chunk.
    data = good[:33] + struct.pack(">I", 0xCE00006E) + kind + good[33:]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    for read in (load_image, read_mask, lambda data: list(read_index_mask(data))):
        with pytest.raises(ImageError, match="truncated"):
            read(data)


EXIF = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
ODD = {
    "plain": [EXIF],
    "not turned": [],
    "byte order of one kind and another": [EXIF.replace(b"MM", b"M\1")],
    "no TIFF": [EXIF.replace(b"MM\0*", b"MM\0%")],
    "an empty one first": [b"Exif\0\0MM\0*\0\0\xff\xd8" + bytes(20), EXIF],
    "another use of the marker first": [b"http://ns.adobe.com/xap/1.0/\0<x/>", EXIF],
    "twice, and not the same": [EXIF, EXIF.replace(b"\0\6\0\0", b"\0\1\0\0")],
    "of another type": [EXIF.replace(b"\x12\0\3", b"\x12\0#")],
    "cut short": [EXIF[:20]],
}


@pytest.mark.parametrize("name", ODD)
def test_a_jpeg_is_turned_by_its_header_as_by_the_decoder(name: str) -> None:
    """With `--server` the size comes from the header here, and from the decoder there."""
    out = io.BytesIO()
    Image.new("RGB", (60, 40)).save(out, "JPEG")
    data = out.getvalue()
    blocks = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in ODD[name])
    data = data[:2] + blocks + data[2:]
    for policy in ("apply", "ignore"):
        assert image_size.image_size(data, exif_policy=policy) == images.load_image(data, exif_policy=policy).shape[:2]

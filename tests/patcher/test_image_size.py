from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmend.patcher import image_size as module
from maskmend.patcher.errors import ImageError
from maskmend.patcher.image_size import image_size
from maskmend.patcher.images import ExifPolicy, load_image


def saved(path: Path, kind: str, orientation: int | None) -> Path:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, kind, **({"exif": exif} if orientation is not None else {}))
    return path


@pytest.mark.parametrize("policy", ["apply", "ignore"])
@pytest.mark.parametrize(
    ("kind", "orientation"),
    [("BMP", None), *((kind, n) for kind in ("JPEG", "PNG", "WEBP", "TIFF") for n in (None, *range(10)))],
)
def test_it_is_what_the_decoder_gives(tmp_path: Path, kind: str, orientation: int | None, policy: ExifPolicy) -> None:
    path = saved(tmp_path / "a", kind, orientation)
    assert image_size(path, exif_policy=policy) == load_image(path, exif_policy=policy).shape[:2]


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_no_decoding_of_jpegs(tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    Image.new("RGB", (60, 40)).save(out, "JPEG")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\0\0" + tiff
    data = out.getvalue()
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    assert load_image(tmp_path / "a.jpg").shape[:2] == (60, 40)
    monkeypatch.setattr(module, "load_image", lambda *a, **k: pytest.fail("decoded"))
    assert image_size(tmp_path / "a.jpg") == (60, 40)
    assert image_size(tmp_path / "a.jpg", exif_policy="ignore") == (40, 60)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe1\xff\xff" + bytes(50))
    for path in (tmp_path / "a.jpg", tmp_path / "none.jpg", tmp_path):
        with pytest.raises(ImageError):
            image_size(path)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def exif(*tags: tuple[int, int], order: str = "<", start: bytes = b"II*\0", at: int = 8) -> bytes:
    body = start + struct.pack(order + "I", at) + bytes(at - 8) + struct.pack(order + "H", len(tags))
    return b"Exif\0\0" + body + b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)


def plain_jpeg(width: int = 60, height: int = 40) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "JPEG")
    return out.getvalue()


def test_the_orientation_is_looked_for_among_other_segments() -> None:
    rest = plain_jpeg()[2:]
    turned = segment(0xE1, exif((0x010F, 2), (0x0112, 8), (0x0128, 1)))
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"Exif\0\0")
    for parts in (turned, xmp + turned, segment(0xE0, b"JFIF\0") + turned, b"\xff\xff" + turned):
        assert image_size(b"\xff\xd8" + parts + rest) == (60, 40)
    # The first one counts; one within the pixels is none.
    upright = segment(0xE1, exif((0x0112, 1)))
    assert image_size(b"\xff\xd8" + upright + turned + rest) == (40, 60)
    scan = rest.index(b"\xff\xda")
    assert image_size(b"\xff\xd8" + rest[: scan + 20] + turned + rest[scan + 20 :]) == (40, 60)
    assert image_size(b"\xff\xd8" + segment(0xE2, exif((0x0112, 6))) + rest) == (40, 60)


@pytest.mark.parametrize("value", range(11))
def test_orientations_from_5_to_8_turn_it(value: int) -> None:
    data = plain_jpeg()
    for order, start in (("<", b"II*\0"), (">", b"MM\0*")):
        body = exif((0x0112, value), order=order, start=start, at=12)
        assert image_size(data[:2] + segment(0xE1, body) + data[2:]) == ((60, 40) if 5 <= value <= 8 else (40, 60))


@pytest.mark.parametrize(
    "body",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        exif((0x0112, 6))[:-3],
        exif((0x0112, 6), start=b"XX*\0"),
        exif((0x0113, 6)),
        b"Exif\0\0II*\0" + struct.pack("<I", 10**9),
        b"exif" + exif((0x0112, 6))[4:],
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_a_damaged_orientation_is_none(body: bytes) -> None:
    data = plain_jpeg()
    assert image_size(data[:2] + segment(0xE1, body) + data[2:]) == (40, 60)


def test_a_square_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_jpeg_is_turned", lambda _: pytest.fail("looked"))
    assert image_size(plain_jpeg(50, 50)) == (50, 50)
    assert image_size(plain_jpeg(), exif_policy="ignore") == (40, 60)


@pytest.mark.parametrize(("kind", "decoded"), [("PNG", False), ("WEBP", False), ("BMP", False), ("TIFF", True)])
def test_only_what_may_be_turned_is_decoded(
    tmp_path: Path, kind: str, decoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a", kind, None)
    asked = []
    monkeypatch.setattr(module, "load_image", lambda *a, **k: asked.append(k) or np.zeros((40, 60, 3)))
    assert image_size(path, field="photo") == (40, 60)
    assert asked == ([{"exif_policy": "apply", "field": "photo"}] if decoded else [])
    if kind in ("PNG", "WEBP"):
        asked.clear()
        assert image_size(saved(tmp_path / "b", kind, 6)) == (40, 60)
        assert len(asked) == 1


def test_a_picture_beyond_the_limits_is_refused() -> None:
    data = bytearray(plain_jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65_535, 65_535)
    with pytest.raises(ImageError, match="65535x65535") as caught:
        image_size(bytes(data), field="photo")
    assert caught.value.field == "photo"

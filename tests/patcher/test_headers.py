from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from maskmend.patcher._headers import Header, read_header
from maskmend.patcher.errors import ImageError, UnsupportedImageError


def header(data: bytes) -> Header:
    return read_header(data, "photo")


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        header(data)
    assert caught.value.field == "photo"
    assert str(caught.value).startswith("photo ")
    return str(caught.value)


def encoded(suffix: str, height: int = 5, width: int = 7, *options: int) -> bytes:
    return cv2.imencode(suffix, np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + bytes(4)


PNG = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">II", 3, 70_000) + bytes(5))


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def frame(marker: int, height: int = 300, width: int = 400) -> bytes:
    return segment(marker, b"\x08" + struct.pack(">HH", height, width) + b"\x01")


SCAN = segment(0xDA, b"\x01")
END = b"\xff\xd9"


def jpeg(*parts: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(parts)


def webp(kind: bytes, body: bytes) -> bytes:
    data = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(data)) + data


def tiff(order: str, *entries: tuple[int, int, int], following: int = 0, filler: int = 0) -> bytes:
    """A TIFF of nothing but a directory, `filler` bytes behind its start; entries are (tag, kind, value)."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    data = start + struct.pack(order + "I", 8 + filler) + bytes(filler) + struct.pack(order + "H", len(entries))
    for tag, kind, value in entries:
        shown = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        data += struct.pack(order + "HHI", tag, kind, 1) + shown
    return data + struct.pack(order + "I", following)


@pytest.mark.parametrize(
    ("suffix", "name"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WebP"), (".bmp", "BMP"), (".tiff", "TIFF")]
)
@pytest.mark.parametrize(("height", "width"), [(5, 7), (301, 1), (1, 300)])
def test_what_encoders_write(suffix: str, name: str, height: int, width: int) -> None:
    assert header(encoded(suffix, height, width)) == Header(name, height, width, 1)


def test_a_png_is_read_to_its_end() -> None:
    whole = PNG + chunk(b"IDAT", b"12345") + chunk(b"IEND")
    assert header(whole) == Header("PNG", 70_000, 3)
    # The checksum of the last part is not needed, all else is.
    assert header(whole[:-4]) == Header("PNG", 70_000, 3)
    for length in range(33, len(whole) - 4):
        assert "truncated PNG" in refused(whole[:length])
    for length in range(8, 24):
        assert "cut off" in refused(whole[:length]) or "damaged" in refused(whole[:length])
    assert "damaged PNG" in refused(whole.replace(b"IHDR", b"IDAT"))
    assert "animated PNG" in refused(PNG + chunk(b"acTL", bytes(8)) + chunk(b"IEND"))
    # Behind the end anything may stand.
    assert header(whole + chunk(b"acTL", bytes(8))) == Header("PNG", 70_000, 3)


def test_a_bmp_may_stand_on_its_head() -> None:
    data = b"BM" + bytes(16) + struct.pack("<ii", 40, -30)
    assert header(data) == Header("BMP", 30, 40)
    assert header(data[:18] + struct.pack("<ii", 40, 30)) == Header("BMP", 30, 40)
    assert "cut off" in refused(data[:-1])


@pytest.mark.parametrize("marker", [n for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC)])
def test_every_kind_of_jpeg_frame_has_the_size(marker: int) -> None:
    assert header(jpeg(segment(0xE0, b"JFIF"), frame(marker), SCAN, END)) == Header("JPEG", 300, 400)


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC, 0xBF, 0xD0, 0xE1, 0xFE])
def test_other_segments_of_a_jpeg_are_passed_over(marker: int) -> None:
    other = frame(marker, 1, 1)
    for parts in ((other, frame(0xC0)), (frame(0xC0), other)):
        assert header(jpeg(*parts, SCAN, END)) == Header("JPEG", 300, 400)
    assert "truncated JPEG" in refused(jpeg(other, SCAN, END))


def test_a_jpeg_without_its_end_or_with_rubbish_is_refused() -> None:
    whole = jpeg(segment(0xE0, b"JFIF"), frame(0xC0), SCAN, b"pixels", END)
    assert header(whole) == Header("JPEG", 300, 400)
    for length in range(3, len(whole)):
        assert "JPEG" in refused(whole[:length]) or "cut off" in refused(whole[:length])
    assert "no marker" in refused(jpeg(segment(0xE0, b"JFIF"), b"\0" + frame(0xC0), SCAN, END))
    # An end marker within a segment is not the end.
    assert "truncated" in refused(jpeg(segment(0xE0, END), frame(0xC0), SCAN, b"pixels"))


def test_fillers_and_scans_of_a_jpeg_are_counted() -> None:
    assert header(jpeg(b"\xff" * 1000, frame(0xC0), SCAN, END)) == Header("JPEG", 300, 400)
    assert "filled up" in refused(jpeg(b"\xff" * 1001, frame(0xC0), SCAN, END))
    # Fillers count wherever they stand.
    assert "filled up" in refused(jpeg(b"\xff" * 600, segment(0xE0), b"\xff" * 401, frame(0xC0), SCAN, END))
    assert header(jpeg(frame(0xC2), SCAN * 100, END)) == Header("JPEG", 300, 400)
    assert "100 scans" in refused(jpeg(frame(0xC2), SCAN * 101, END))
    # What stands behind the end is no scan.
    assert header(jpeg(frame(0xC2), SCAN, END, SCAN * 200)) == Header("JPEG", 300, 400)


def test_the_three_kinds_of_webp() -> None:
    lossy = webp(b"VP8 ", bytes(6) + struct.pack("<HH", 0x4000 | 9000, 0x8000 | 16_383))
    assert header(lossy) == Header("WebP", 16_383, 9000)
    assert header(encoded(".webp", 5, 300, cv2.IMWRITE_WEBP_QUALITY, 50)) == Header("WebP", 5, 300)
    lossless = webp(b"VP8L", b"\x2f" + struct.pack("<I", 8999 | (16_382 << 14) | (0xF << 28)))
    assert header(lossless) == Header("WebP", 16_383, 9000)
    assert header(encoded(".webp", 5, 300, cv2.IMWRITE_WEBP_QUALITY, 101)) == Header("WebP", 5, 300)
    size = (70_000).to_bytes(3, "little") + (299).to_bytes(3, "little")
    assert header(webp(b"VP8X", b"\x10\0\0\0" + size)) == Header("WebP", 300, 70_001)
    # Every flag but that of the animation may be set.
    assert header(webp(b"VP8X", b"\xfd\0\0\0" + size)) == Header("WebP", 300, 70_001)
    assert "animated WebP" in refused(webp(b"VP8X", b"\x02\0\0\0" + size))


def test_a_webp_is_as_long_as_it_says_or_a_byte_shorter() -> None:
    data = webp(b"VP8X", b"\0\0\0\0" + bytes(6) + b"more")
    assert header(data) == header(data[:-1]) == header(data + b"and more") == Header("WebP", 1, 1)
    assert "truncated WebP" in refused(data[:-2])
    assert "cut off" in refused(b"RIFF\x08\0\0\0WEBPVP8L")


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_directory_of_a_tiff(order: str) -> None:
    size = (256, 3, 640), (257, 4, 100_000)
    assert header(tiff(order, *size)) == Header("TIFF", 100_000, 640, 1)
    assert header(tiff(order, *size, (274, 3, 6), filler=6)) == Header("TIFF", 100_000, 640, 6)
    assert header(tiff(order, (254, 4, 1), (256, 4, 70_000), (257, 3, 1), (258, 3, 9))) == Header("TIFF", 1, 70_000, 1)
    assert "several pages" in refused(tiff(order, *size, following=8))
    for missing in (size[:1], size[1:], (), ((256, 5, 1), size[1]), (size[0], (257, 2, 1))):
        assert "without a size" in refused(tiff(order, *missing))
    whole = tiff(order, *size)
    for length in range(8, len(whole)):
        assert "cut off" in refused(whole[:length])


def test_a_tiff_of_two_pages_as_pillow_writes_it() -> None:
    out = io.BytesIO()
    pages = [Image.new("RGB", (7, 5)) for _ in range(2)]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    assert "several pages" in refused(out.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a" + bytes(20),
        b"\x89PNG",
        b"RIFF\0\0\0\0WAVE" + bytes(40),
        b"XXXX\0\0\0\0WEBP" + bytes(40),
        b"\xff\xd8\0",
        b"II+\0" + bytes(8),
        b"MM*\0" + bytes(8),
        b"B",
    ],
)
def test_other_bytes_are_of_no_format_we_read(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="photo is not a PNG, JPEG, WebP, BMP or TIFF") as caught:
        header(data)
    assert caught.value.code == "unsupported_image"
    assert caught.value.field == "photo"

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskmend.patcher.errors import ImageError
from maskmend.patcher.images import load_image

FORMATS = [".png", ".jpg", ".webp", ".bmp", ".tiff"]


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.stack([rows * 5, columns * 4, np.full_like(rows, 90)], -1).astype(np.uint8)


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    rgb = picture() if image is None else image
    bgr = rgb[:, :, ::-1] if rgb.ndim == 3 and rgb.shape[2] == 3 else rgb
    return cv2.imencode(suffix, bgr)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats_load_as_rgb(suffix: str, tmp_path: Path) -> None:
    data = encoded(suffix)
    (tmp_path / f"a{suffix}").write_bytes(data)
    for source in (data, tmp_path / f"a{suffix}", str(tmp_path / f"a{suffix}")):
        image = load_image(source)
        assert image.shape == (40, 60, 3)
        assert np.abs(image.astype(int) - picture()).mean() < 6


def test_arrays_and_pil_images_are_taken_as_they_are() -> None:
    from PIL import Image

    assert np.array_equal(load_image(picture()), picture())
    assert np.array_equal(load_image(Image.fromarray(picture())), picture())
    grey = picture()[..., 0]
    assert np.array_equal(load_image(grey), np.repeat(grey[:, :, None], 3, 2))


@pytest.mark.parametrize(
    "image",
    [
        np.full((5, 6), 40_000, np.uint16),
        np.full((5, 6, 3), 40_000, np.uint16),
        np.full((5, 6, 4), 100, np.uint8),
        np.full((5, 6), 100, np.uint8),
    ],
)
def test_deep_grey_and_transparent_pngs_become_rgb(image: np.ndarray) -> None:
    assert load_image(encoded(".png", image)).shape == (5, 6, 3)


def test_exif_rotation_is_applied_or_ignored() -> None:
    data = with_orientation(encoded(".jpg"), 6)
    assert load_image(data).shape == (60, 40, 3)
    assert load_image(data, exif_policy="ignore").shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files_never_give_partial_pixels(suffix: str, part: float) -> None:
    data = encoded(suffix)
    with pytest.raises(ImageError, match="image"):
        load_image(data[: int(len(data) * part)])


def test_a_tiny_file_that_claims_to_be_huge_is_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="100000x100000"):
        load_image(bomb)
    with pytest.raises(ImageError, match="60x40"):
        load_image(encoded(".png"), max_pixels=2399)


def test_what_is_not_one_picture_is_refused() -> None:
    animated = encoded(".png")
    animated = animated[:33] + png_chunk(b"acTL", struct.pack(">II", 2, 0)) + animated[33:]
    for data in (animated, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"", b"\x89PNG", b"GIF89a...."):
        with pytest.raises(ImageError, match="image"):
            load_image(data)


def test_bytes_after_the_picture_are_ignored() -> None:
    assert load_image(encoded(".jpg") + b"PK\x03\x04 and more").shape == (40, 60, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 60_000)])
def test_narrow_pictures_load(height: int, width: int) -> None:
    assert load_image(encoded(".png", np.zeros((height, width, 3), np.uint8))).shape == (height, width, 3)


def test_wrong_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="int"):
        load_image(5)
    with pytest.raises(ImageError, match="float64"):
        load_image(np.zeros((4, 4, 3)))
    with pytest.raises(ImageError, match="exif_policy"):
        load_image(picture(), exif_policy="rotate")  # type: ignore[arg-type]


def test_jpegs_that_keep_a_decoder_busy_are_refused() -> None:
    jpeg = encoded(".jpg")
    start = jpeg.index(b"\xff\xda")
    scan = jpeg[start : start + 2 + struct.unpack_from(">H", jpeg, start + 2)[0]]
    with pytest.raises(ImageError, match="scans"):
        load_image(jpeg[:start] + scan * 200 + jpeg[start:])
    with pytest.raises(ImageError, match="filled up"):
        load_image(jpeg[:2] + b"\xff" * 100_000 + jpeg[2:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_only_if_asked(orientation: int) -> None:
    pil = pytest.importorskip("PIL.Image", reason="writing a TIFF's orientation needs Pillow")
    ops = pytest.importorskip("PIL.ImageOps", reason="writing a TIFF's orientation needs Pillow")
    stored = np.random.default_rng(orientation).integers(0, 255, (5, 7, 3), np.uint8)
    buffer = io.BytesIO()
    pil.fromarray(stored).save(buffer, "TIFF", tiffinfo={274: orientation})
    turned = np.asarray(ops.exif_transpose(pil.open(io.BytesIO(buffer.getvalue()))))
    assert np.array_equal(load_image(buffer.getvalue(), exif_policy="ignore"), stored)
    assert np.array_equal(load_image(buffer.getvalue(), exif_policy="apply"), turned)

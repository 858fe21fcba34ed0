from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskmend.patcher import images
from maskmend.patcher.errors import ImageError
from maskmend.patcher.images import check_image_size, load_image

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


@pytest.mark.parametrize("image", [picture(), picture()[..., :1], picture()[..., 0]])
def test_arrays_become_three_contiguous_channels(image: np.ndarray) -> None:
    found = load_image(image)
    assert found.flags.c_contiguous
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.broadcast_to(image.reshape(40, 60, -1), (40, 60, 3)))
    turned = np.asfortranarray(picture())
    assert load_image(turned).flags.c_contiguous
    assert np.array_equal(load_image(turned), picture())


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (4, 4, 4), (4, 4, 3, 1), (0, 4, 3), (4, 0)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(np.zeros(shape, np.uint8), field="photo")
    assert caught.value.field == "photo"


def test_pngs_keep_their_values() -> None:
    rng = np.random.default_rng(4)
    colours = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert np.array_equal(load_image(encoded(".png", colours)), colours)
    assert np.array_equal(load_image(encoded(".bmp", colours)), colours)
    for kind in (bytearray, memoryview):
        assert np.array_equal(load_image(kind(encoded(".png", colours))), colours)
    grey = colours[..., 0]
    assert np.array_equal(load_image(encoded(".png", grey)), grey[..., None].repeat(3, 2))
    deep = rng.integers(0, 256, (9, 7)).astype(np.uint16) * 257
    assert np.array_equal(load_image(encoded(".png", deep))[..., 1], deep // 257)
    transparent = np.dstack([colours[..., ::-1], rng.integers(0, 256, (9, 7), np.uint8)])
    assert np.array_equal(load_image(encoded(".png", transparent)), colours)


def test_the_limits_of_a_size_are_allowed_and_not_a_pixel_more() -> None:
    check_image_size(65_535, 1, 65_535, "photo")
    check_image_size(1, 65_535, 65_535, "photo")
    check_image_size(30, 40, 1200, "photo")
    for height, width, most in (
        (65_536, 1, 10**6),
        (1, 65_536, 10**6),
        (30, 40, 1199),
        (0, 5, 9),
        (5, 0, 9),
        (-5, -5, 99),
    ):
        with pytest.raises(ImageError, match=f"photo is {width}x{height} px") as caught:
            check_image_size(height, width, most, "photo")
        assert caught.value.field == "photo"
    assert load_image(encoded(".png"), max_pixels=2400).shape == (40, 60, 3)
    assert load_image(picture(), max_pixels=2400).shape == (40, 60, 3)
    pil = pytest.importorskip("PIL.Image", reason="takes images of Pillow").fromarray(picture())
    for source in (picture(), pil):
        with pytest.raises(ImageError, match="60x40"):
            load_image(source, max_pixels=2399)


def test_files_are_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ("n" * 120 + ".png")
    path.write_bytes(b"12345")
    monkeypatch.setattr(images, "MAX_BYTES", 5)
    assert images.read_image_file(path) == b"12345"
    monkeypatch.setattr(images, "MAX_BYTES", 4)
    with pytest.raises(ImageError, match="has 5 bytes; at most 4") as caught:
        images.read_image_file(path, "photo")
    assert caught.value.field == "photo"
    # Names are cut off, and no folder is told.
    assert "n" * 100 in str(caught.value)
    assert "n" * 101 not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ImageError, match="cannot be read") as caught:
        images.read_image_file(tmp_path / "gone.png", "photo")
    assert caught.value.field == "photo"
    assert str(tmp_path) not in str(caught.value)


def test_a_decoder_that_fails_or_lies_is_no_news_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(".png")

    def failing(*_: object) -> None:
        raise cv2.error("broken")

    for answer, word in (
        (failing, "cannot be decoded as PNG"),
        (lambda *_: None, "may be truncated"),
        (lambda *_: np.zeros((41, 60, 3), np.uint8), "another size"),
    ):
        monkeypatch.setattr(images.cv2, "imdecode", answer)
        with pytest.raises(ImageError, match=word) as caught:
            load_image(data, field="photo")
        assert caught.value.field == "photo"


def test_kinds_and_policies_are_named() -> None:
    with pytest.raises(ImageError, match="photo is a dict") as caught:
        load_image({}, field="photo")
    assert caught.value.field == "photo"
    with pytest.raises(ImageError, match="'rotate'") as caught:
        load_image(picture(), exif_policy="rotate")  # type: ignore[arg-type]
    assert caught.value.field == "exif_policy"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_pillow_turns_it(orientation: int) -> None:
    pil = pytest.importorskip("PIL.Image", reason="compares with Pillow")
    ops = pytest.importorskip("PIL.ImageOps", reason="compares with Pillow")
    data = with_orientation(encoded(".jpg"), orientation)
    turned = np.asarray(ops.exif_transpose(pil.open(io.BytesIO(data)))).astype(int)
    found = load_image(data)
    assert found.shape == turned.shape
    assert np.abs(found - turned).mean() < 3
    assert np.array_equal(load_image(data, exif_policy="ignore"), load_image(encoded(".jpg")))


def test_the_limits_that_the_docs_name(tmp_path: Path) -> None:
    assert (images.MAX_PIXELS, images.MAX_BYTES) == (2**28, 512 * 2**20)
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        # Nothing but its length.
        file.truncate(512 * 2**20 + 1)
    with pytest.raises(ImageError, match="536870913 bytes"):
        load_image(path)

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, MaskError, UnsupportedImageError
from maskmend.patcher.mask_images import read_index_mask, read_mask, write_index_mask, write_mask

SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))


def list_index_mask(data: bytes, **options: Any) -> list[Rle]:
    return list(read_index_mask(data, **options))


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@settings(deadline=None)
@given(arrays(bool, SIZES))
def test_a_mask_goes_through_a_png_unchanged(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    data = write_mask(mask)
    assert read_mask(data) == mask
    assert set(np.unique(np.asarray(Image.open(io.BytesIO(data))))) <= {0, 255}


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "LA"])
def test_whatever_is_not_black_is_foreground(mode: str) -> None:
    dense = np.zeros((12, 9), bool)
    dense[3:8, 2:6] = True
    picture = Image.fromarray(dense.astype(np.uint8) * 255)
    assert np.array_equal(read_mask(saved(picture.convert(mode))).to_dense(), dense)


@settings(deadline=None)
@given(arrays(np.uint8, SIZES, elements=st.sampled_from([0, 0, 1, 7, 200])))
def test_an_index_png_holds_its_instances_in_order(indices: np.ndarray) -> None:
    wanted = [Rle.from_dense(indices == value) for value in np.unique(indices) if value]
    assert list_index_mask(saved(Image.fromarray(indices))) == wanted
    assert list_index_mask(saved(Image.fromarray(indices.astype(np.uint16)))) == wanted
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([value for n in range(256) for value in (n, 255 - n, (n * 7) % 256)])
    assert list_index_mask(saved(picture)) == wanted


def test_index_pngs_are_written_with_the_first_on_top_and_with_16_bits_when_needed() -> None:
    masks = []
    for n in range(300):
        dense = np.zeros((20, 320), bool)
        dense[:, n : n + 5] = True
        masks.append(Rle.from_dense(dense))
    indices = cv2.imdecode(np.frombuffer(write_index_mask(masks, 20, 320), np.uint8), cv2.IMREAD_UNCHANGED)
    assert indices.dtype == np.uint16
    assert indices[0, 0] == 1
    assert indices[5, 7] == 4
    assert indices[0, 303] == 300
    few = write_index_mask(masks[:3], 20, 320)
    assert cv2.imdecode(np.frombuffer(few, np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint8


def test_what_has_no_indices_is_refused() -> None:
    colours = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    with pytest.raises(MaskError, match="colours"):
        list_index_mask(saved(colours))
    with pytest.raises(ImageError, match="PNG"):
        list_index_mask(saved(colours, "JPEG"))
    with pytest.raises(UnsupportedImageError):
        list_index_mask(b"<svg/>")
    many = Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20))
    with pytest.raises(MaskError, match="199"):
        list_index_mask(saved(many), most=100)
    with pytest.raises(ImageError, match="at most 50"):
        read_mask(saved(many), max_pixels=50)
    with pytest.raises(ImageError, match="truncated"):
        read_mask(saved(many)[:-30])


def test_damaged_pngs_are_refused_in_our_words() -> None:
    picture = Image.fromarray(np.zeros((4, 4), np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    data = saved(picture)
    place = data.index(b"PLTE")
    broken = data[: place - 4] + b"\0\0\0\4" + data[place : place + 8] + data[place + 10 :]
    for damaged in (broken, data[:8] + b"\0\0\0\0IEND" + data[16:24], data[:30]):
        with pytest.raises((ImageError, MaskError)):
            list_index_mask(damaged)


@pytest.mark.parametrize("height", [63, 64, 65, 128, 130])
def test_palettes_of_tall_pictures_are_resolved_row_by_row(height: int) -> None:
    rng = np.random.default_rng(height)
    indices = rng.integers(0, 4, (height, 5)).astype(np.uint8)
    picture = Image.fromarray(indices, mode="P")
    # Colours that differ in one channel each, and in no order.
    picture.putpalette([9, 9, 9, 9, 9, 8, 9, 8, 9, 8, 9, 9])
    found = list_index_mask(saved(picture))
    assert found == [Rle.from_dense(indices == value) for value in (1, 2, 3)]


def test_of_several_entries_of_one_colour_the_first_is_meant() -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255, 255, 0, 0])
    assert list_index_mask(saved(picture)) == [Rle.from_dense(indices % 2 == 1), Rle.from_dense(indices == 2)]


def chunk_of(data: bytes, kind: bytes) -> tuple[int, int]:
    """Where a chunk of a PNG begins and ends."""
    begin = data.index(kind) - 4
    return begin, begin + 12 + int.from_bytes(data[begin : begin + 4], "big")


def test_a_palette_must_be_one() -> None:
    picture = Image.fromarray(np.zeros((4, 4), np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    data = saved(picture)
    begin, end = chunk_of(data, b"PLTE")
    for wrong in (b"", b"\0\0\0\0PLTE\0\0\0\0", b"\0\0\0\4PLTE" + bytes(8), b"\0\0\3\3PLTE" + bytes(775)):
        with pytest.raises(ImageError, match="needs a palette, and none") as caught:
            list_index_mask(data[:begin] + wrong + data[end:], field="index")
        assert caught.value.field == "index"
    full = Image.fromarray(np.full((4, 4), 255, np.uint8), mode="P")
    full.putpalette([value for n in range(256) for value in (n, n, n)])
    assert [mask.area for mask in list_index_mask(saved(full))] == [16]


def test_as_many_instances_as_allowed_and_not_one_more() -> None:
    data = saved(Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)))
    assert len(list_index_mask(data, most=11)) == 11
    with pytest.raises(MaskError, match="holds 11 values; at most 10") as caught:
        list_index_mask(data, most=10, field="index")
    assert caught.value.field == "index"
    assert len(list_index_mask(data, max_pixels=12)) == 11
    with pytest.raises(ImageError, match="at most 11"):
        list_index_mask(data, max_pixels=11)
    assert read_mask(data, max_pixels=12).area == 11


@pytest.mark.parametrize(("count", "kind"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_bits_enough_for_every_index(count: int, kind: type) -> None:
    masks = []
    for n in range(count):
        dense = np.zeros((2, 300), bool)
        dense[1, n] = True
        masks.append(Rle.from_dense(dense))
    data = write_index_mask(masks, 2, 300)
    indices = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert indices.dtype == kind
    assert indices[1, :count].tolist() == list(range(1, count + 1))
    assert not indices[0].any()
    assert list_index_mask(data) == masks


def test_alpha_alone_is_not_foreground() -> None:
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[1, 2, 0], pixels[2, 3, 1], pixels[3, 4, 2] = 1, 1, 1
    found = read_mask(saved(Image.fromarray(pixels))).to_dense()
    assert np.argwhere(found).tolist() == [[1, 2], [2, 3], [3, 4]]


def test_a_decoder_that_fails_or_lies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.fromarray(np.ones((3, 4), np.uint8)))

    def failing(*_: object) -> None:
        raise cv2.error("broken")

    for answer, word in (
        (failing, "as PNG$"),
        (lambda *_: None, "truncated"),
        (lambda *_: np.ones((4, 3)), "truncated"),
    ):
        monkeypatch.setattr(cv2, "imdecode", answer)
        with pytest.raises(ImageError, match=word) as caught:
            read_mask(data, field="picture")
        assert caught.value.field == "picture"

from __future__ import annotations

import io

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


def list_index_mask(data: bytes, **options: int) -> list[Rle]:
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

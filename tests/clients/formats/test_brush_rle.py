from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.clients.formats.brush_rle import read_brush, write_brush
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError

FIXTURES = Path(__file__).parent / "fixtures" / "label-studio"
SHAPES = st.tuples(st.integers(1, 30), st.integers(1, 30))
MASKS = st.one_of(arrays(bool, SHAPES), arrays(bool, SHAPES, elements=st.sampled_from([True, True, True, False])))


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_what_is_written_is_read_again(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    assert read_brush(write_brush(mask), *dense.shape) == mask


def test_label_studios_own_brushes_are_read() -> None:
    vectors = json.loads((FIXTURES / "brushes.json").read_text())
    assert len(vectors) == 6
    for vector in vectors:
        height, width = vector["height"], vector["width"]
        flat = np.repeat(np.arange(len(vector["counts"])) % 2 == 1, vector["counts"])
        found = read_brush(vector["rle"], height, width)
        assert np.array_equal(found.to_dense(), flat.reshape(height, width))
        if height in (1, 60, 260):
            # Drawn in one shade, white: then ours is the same, byte for byte.
            assert write_brush(found) == vector["rle"]


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_the_bytes_are_those_of_label_studios_encoder(dense: np.ndarray) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    written = write_brush(Rle.from_dense(dense))
    assert written == brush.mask2rle(dense.astype(np.uint8) * 255)
    assert np.array_equal(brush.decode_rle(written).reshape(*dense.shape, 4)[..., 3] > 0, dense)


@settings(max_examples=100, deadline=None)
@given(
    arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4)), elements=st.sampled_from([0, 0, 7, 255])
    )
)
def test_every_picture_of_its_encoder_is_read(shades: np.ndarray) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    height, width, _ = shades.shape
    assert np.array_equal(read_brush(brush.encode_rle(shades.ravel()), height, width).to_dense(), shades[..., 3] > 0)


def test_long_runs_are_cut_and_joined() -> None:
    dense = np.zeros((400, 500), bool)
    dense[100:390] = True
    dense[200, 3] = False
    mask = Rle.from_dense(dense)
    written = write_brush(mask)
    assert len(written) < 100
    assert read_brush(written, 400, 500) == mask
    for shade in (False, True):
        whole = Rle.from_dense(np.full((700, 300), shade))
        assert read_brush(write_brush(whole), 700, 300) == whole


@settings(max_examples=300, deadline=None)
@given(MASKS, st.data())
def test_damaged_bytes_are_refused_or_read_as_some_mask(dense: np.ndarray, data: st.DataObject) -> None:
    height, width = dense.shape
    rle = write_brush(Rle.from_dense(dense))
    at = data.draw(st.integers(0, len(rle) - 1))
    damaged = rle[:at] + data.draw(st.lists(st.integers(0, 255), max_size=4)) + rle[at + data.draw(st.integers(0, 4)) :]
    try:
        found = read_brush(damaged, height, width)
    except MaskError:
        return
    assert (found.height, found.width) == (height, width)


def test_hostile_input_is_refused_before_anything_large_is_made() -> None:
    good = write_brush(Rle.from_dense(np.eye(20, dtype=bool)))
    with pytest.raises(MaskError, match="cut short"):
        read_brush(good[:-8], 20, 20)
    with pytest.raises(MaskError, match="original_width"):
        read_brush(good, 20, 21)
    with pytest.raises(MaskError, match="65535"):
        read_brush([255] * 4 + good[4:], 60_000, 70_000)
    # Says that it holds 2**30 values, and ends.
    with pytest.raises(MaskError, match="cut short"):
        read_brush([64, 0, 0, 0, *good[4:8]], 16_384, 16_384)
    for wrong in (None, "AAAA", [1, 2], [300] * 9, [1.5] * 9, {"a": 1}, [None] * 9):
        with pytest.raises(MaskError, match="rle"):
            read_brush(wrong, 2, 2)
    # One run that goes beyond the picture: 16 bits of length.
    header = [0, 0, 0, 16, 57, 27, 255]
    with pytest.raises(MaskError, match="beyond its own size"):
        read_brush([*header, 0b10000111, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], 2, 2)

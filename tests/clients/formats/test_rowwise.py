from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maskmend.clients.formats.one_ring import ring_of
from maskmend.clients.formats.rowwise import counts, from_counts, from_row_runs, row_runs
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import MaskError

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
MASKS = st.one_of(arrays(bool, SHAPES), arrays(bool, SHAPES, elements=st.sampled_from([True, True, True, False])))


@settings(max_examples=300, deadline=None)
@given(MASKS, st.booleans())
def test_runs_along_rows_are_the_mask(dense: np.ndarray, tight: bool) -> None:
    mask = Rle.from_dense(dense)
    height, width = dense.shape
    box = mask.bbox if tight and mask.area else (0, 0, width, height)
    starts, ends = row_runs(mask, box)
    x, y, w, h = box
    flat = np.zeros(w * h, bool)
    for start, end in zip(starts, ends, strict=True):
        assert not flat[start:end].any()
        flat[start:end] = True
    assert np.array_equal(flat.reshape(h, w), dense[y : y + h, x : x + w])
    assert np.all(starts[1:] > ends[:-1])
    assert from_row_runs((starts, ends), box, height, width, "mask") == mask


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_counts_are_those_of_the_picture(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    height, width = dense.shape
    box = (0, 0, width, height)
    lengths = counts(row_runs(mask, box), dense.size)
    assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths), dense.ravel())
    assert all(lengths[1:])
    runs = from_counts(np.array(lengths), dense.size, "rle")
    assert from_row_runs(runs, box, height, width, "mask") == mask


def test_empty_runs_inside_are_merged_and_wrong_sums_refused() -> None:
    starts, ends = from_counts(np.array([0, 2, 0, 3, 1, 0, 4]), 10, "rle")
    assert (starts.tolist(), ends.tolist()) == ([0], [5])
    for wrong in ([3, 3], [3, 8], [-1, 11], [], [2**62, 2**62, 2**62, 2**62, 10]):
        with pytest.raises(MaskError, match="exactly"):
            from_counts(np.array(wrong, np.int64), 10, "rle")
    for box in ((8, 0, 3, 2), (0, 0, 0, 1), (-1, 0, 2, 2), (0, 9, 1, 2)):
        with pytest.raises(MaskError, match="leaves the image"):
            from_row_runs((np.array([0]), np.array([1])), box, 10, 10, "mask")


@settings(max_examples=400, deadline=None)
@given(MASKS)
def test_one_ring_is_the_same_mask_whatever_its_parts_and_holes(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    if not mask.area:
        with pytest.raises(MaskError, match="empty"):
            ring_of(mask, 0, "polygon")
        return
    ring = ring_of(mask, 0, "polygon")
    assert polygons_to_rle([ring], *dense.shape) == mask


def test_larger_masks_too() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        dense = ndimage.gaussian_filter(rng.random((90, 120)), rng.uniform(1, 5)) > 0.5
        mask = Rle.from_dense(dense)
        assert polygons_to_rle([ring_of(mask, 0, "polygon")], 90, 120) == mask


def test_parts_are_joined_where_their_corners_are_nearest() -> None:
    dense = np.zeros((12, 16), bool)
    dense[1:9, 1:4] = True
    dense[5:7, 6:9] = True
    dense[10, 6] = True
    ring = np.reshape(ring_of(Rle.from_dense(dense), 0, "polygon"), (-1, 2))
    cuts = np.hypot(*(np.roll(ring, -1, 0) - ring).T)
    # There and back again: from the first part to the second, and to the third from whatever is nearest to it.
    for length in (np.hypot(2, 2), 3.0):
        assert np.count_nonzero(np.isclose(cuts, length)) >= 2, (length, ring)

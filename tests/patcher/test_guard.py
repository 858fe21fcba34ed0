from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from maskmend.patcher import Rle
from maskmend.patcher.guard import (
    ALREADY_RIGHT,
    EMPTY,
    TOO_FAR,
    change_certainty,
    edge_confidence,
    from_crop,
    guard,
    hold,
)

# Patches that are certain of a change of every pixel.
SURE = (np.ones((1, 4, 4), np.float32), -np.ones((1, 4, 4), np.float32))


def square(x0: int, y0: int, x1: int, y1: int, size: int = 120) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_small_change_passes_untouched() -> None:
    coarse, refined = Rle.from_dense(square(30, 30, 80, 80)), Rle.from_dense(square(32, 28, 83, 80))
    result = guard(coarse, refined, *SURE)
    assert result.mask == refined
    assert result.abstained is None


def test_changes_beyond_the_reach_are_undone_and_nearer_ones_kept() -> None:
    before, after = square(30, 30, 80, 80), square(30, 30, 110, 80)
    result = guard(Rle.from_dense(before), Rle.from_dense(after), *SURE, reach=10)
    distance = ndimage.distance_transform_edt(~before)
    assert np.array_equal(result.mask.to_dense(), before | (after & (distance <= 10)))


def test_a_slight_change_along_the_whole_edge_is_not_believed() -> None:
    before = square(30, 30, 80, 80)
    after = before.copy()
    after[29, 30:80:3] = True
    coarse, refined = Rle.from_dense(before), Rle.from_dense(after)
    result = guard(coarse, refined, *SURE)
    assert result.mask == coarse
    assert result.abstained == ALREADY_RIGHT
    assert guard(coarse, refined, *SURE, least_shift=0.05).mask == refined


def test_a_doubtful_change_needs_to_be_larger() -> None:
    coarse, refined = Rle.from_dense(square(30, 30, 80, 80)), Rle.from_dense(square(30, 30, 82, 80))
    doubtful = np.full((1, 4, 4), 0.71, np.float32), SURE[1]
    assert guard(coarse, refined, *SURE, least_shift=0.4).mask == refined
    assert guard(coarse, refined, *doubtful, least_shift=0.4).mask == coarse


def test_a_small_object_needs_a_larger_shift() -> None:
    """One pixel all along an edge is believed of a large object and not of one 8 px wide."""
    large, small = square(20, 20, 100, 100), square(40, 40, 48, 48)
    for before, after, kept in (
        (large, square(19, 19, 101, 101), False),
        (small, square(39, 39, 49, 49), True),
    ):
        result = guard(Rle.from_dense(before), Rle.from_dense(after), *SURE)
        assert (result.abstained == ALREADY_RIGHT) is kept


def test_a_slight_shift_of_a_small_object_passes_when_it_is_sure() -> None:
    before = square(40, 40, 48, 48)
    after = before | square(39, 40, 40, 48)
    coarse, refined = Rle.from_dense(before), Rle.from_dense(after)
    less_sure = np.full((1, 4, 4), 0.88, np.float32), SURE[1]
    assert guard(coarse, refined, *SURE).mask == refined
    assert guard(coarse, refined, *less_sure).abstained == ALREADY_RIGHT


def test_certainty_of_changes() -> None:
    sides = np.array([[[-1, -1, 1, 1]]], np.float32)
    assert change_certainty(np.array([[[0.9, 0.1, 0.2, 0.9]]], np.float32), sides) == pytest.approx((0.8 + 0.6) / 2)
    assert change_certainty(np.array([[[0.6, 0.1, 0.4, 0.9]]], np.float32), sides) == 0


def test_nothing_changed_is_the_coarse_mask_being_right() -> None:
    coarse = Rle.from_dense(square(30, 30, 80, 80))
    result = guard(coarse, coarse, *SURE)
    assert (result.mask, result.abstained) == (coarse, ALREADY_RIGHT)


def test_an_empty_refinement_gives_the_coarse_mask_back() -> None:
    coarse = Rle.from_dense(square(30, 30, 40, 40))
    result = guard(coarse, Rle.from_dense(np.zeros((120, 120), bool)), *SURE)
    assert result.mask == coarse
    assert result.abstained == EMPTY


def test_a_refinement_that_shares_too_little_gives_the_coarse_mask_back() -> None:
    coarse, refined = Rle.from_dense(square(30, 30, 50, 50)), Rle.from_dense(square(44, 30, 64, 50))
    result = guard(coarse, refined, *SURE)
    assert result.mask == coarse
    assert result.abstained == TOO_FAR


@given(
    hnp.arrays(np.float32, (3, 6, 6), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.bool_, (6, 6)),
    st.floats(0, 0.5),
)
@settings(max_examples=200, deadline=None)
def test_hold_shifts_the_mean_by_its_strength(p: np.ndarray, coarse: np.ndarray, strength: float) -> None:
    sides = np.broadcast_to(np.where(coarse, 1, -1).astype(np.float32), p.shape)
    held = hold(p, sides, strength)
    assert held.dtype == np.float32
    assert held.min() >= 0
    assert held.max() <= 1
    wanted = (p.astype(np.float64) - 0.5).sum(0) + len(p) * strength * sides[0]
    got = (held.astype(np.float64) - 0.5).sum(0)
    decided = np.abs(wanted) > 1e-5
    assert np.array_equal((got > 0)[decided], (wanted > 0)[decided])


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)))
@settings(max_examples=200, deadline=None)
def test_from_crop_is_the_dense_encoding(crop: np.ndarray) -> None:
    frame = np.zeros((20, 17), np.uint8)
    h, w = crop.shape
    frame[3 : 3 + h, 5 : 5 + w] = crop
    assert from_crop(crop, 20, 17, 5, 3) == Rle.from_dense(frame)


@pytest.mark.parametrize(("value", "confidence"), [(1.0, 1.0), (0.5, 0.0), (0.75, 0.5)])
def test_confidence_is_the_distance_from_one_half(value: float, confidence: float) -> None:
    assert edge_confidence(np.full((2, 3, 3), value, np.float32)) == pytest.approx(confidence)


def test_fragments_apart_from_the_object_are_dropped() -> None:
    before = square(30, 30, 80, 80)
    after = before | square(80, 40, 83, 60) | square(30, 83, 50, 88)
    result = guard(Rle.from_dense(before), Rle.from_dense(after), *SURE, least_shift=0.0)
    assert np.array_equal(result.mask.to_dense(), before | square(80, 40, 83, 60))

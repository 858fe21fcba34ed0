from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from maskmend.patcher import Rle
from maskmend.patcher.errors import OptionError
from maskmend.patcher.guard import (
    ALREADY_RIGHT,
    EMPTY,
    TOO_FAR,
    GuardOptions,
    GuardResult,
    changed_pixels,
    edge_confidence,
    guard,
    hold,
)

LENIENT = GuardOptions(caution=0.0)


def square(x0: int, y0: int, x1: int, y1: int, size: int = 120) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def judged(
    before: np.ndarray, after: np.ndarray, options: GuardOptions | None = None, certainty: float = 1.0
) -> GuardResult:
    """The guard's verdict on an image that shows `after`, by one patch as certain of it as told."""
    image = np.where(after[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2)
    size = before.shape[0]
    boxes = np.array([[0, 0, size, size]], np.int32)
    probabilities = np.where(after, 0.5 + certainty / 2, 0.5 - certainty / 2).astype(np.float32)[None]
    return guard(image, Rle.from_dense(before), Rle.from_dense(after), [(boxes, probabilities)], options)


def test_a_certain_change_passes_untouched() -> None:
    after = square(34, 26, 85, 80)
    result = judged(square(30, 30, 80, 80), after)
    assert np.array_equal(result.mask.to_dense(), after)
    assert (result.abstained, result.undone) == (None, {})
    assert result.score > 0.5


def test_changes_beyond_the_reach_are_undone_and_nearer_ones_kept() -> None:
    before, after = square(30, 30, 80, 80), square(30, 30, 110, 80)
    result = judged(before, after, GuardOptions(caution=0.0, reach=10))
    distance = ndimage.distance_transform_edt(~before)
    wanted = before | (after & (distance <= 10))
    assert np.array_equal(result.mask.to_dense(), wanted)
    assert result.undone == {"reach": int((after & ~wanted).sum())}


def test_an_unsure_change_is_undone_and_a_sure_one_beside_it_kept() -> None:
    before = square(30, 30, 80, 80)
    sure, unsure = square(80, 40, 86, 60), square(24, 40, 30, 60)
    image = np.where((before | sure)[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2)
    p = np.where(before | sure, 1.0, np.where(unsure, 0.66, 0.0)).astype(np.float32)
    votes = [(np.array([[0, 0, 120, 120]], np.int32), p[None])]
    result = guard(image, Rle.from_dense(before), Rle.from_dense(before | sure | unsure), votes)
    assert np.array_equal(result.mask.to_dense(), before | sure)
    assert result.undone == {"evidence": 120}


def test_an_unsure_refinement_gives_the_coarse_mask_back_with_its_score() -> None:
    before = square(30, 30, 80, 80)
    result = judged(before, square(29, 29, 81, 81), certainty=0.32)
    assert result.mask == Rle.from_dense(before)
    assert result.abstained == ALREADY_RIGHT


def test_more_caution_never_lets_more_through() -> None:
    before, after = square(30, 30, 80, 80), square(32, 30, 83, 80)
    for certainty in (0.35, 0.5, 0.7, 0.9):
        passed = [
            changed_pixels(judged(before, after, GuardOptions(caution=c), certainty).mask, Rle.from_dense(before))
            for c in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert passed == sorted(passed, reverse=True)
        assert passed[0] > 0
        assert passed[-1] == 0


def test_nothing_changed_is_the_coarse_mask_being_right() -> None:
    before = square(30, 30, 80, 80)
    result = judged(before, before)
    assert (result.mask, result.abstained, result.score) == (Rle.from_dense(before), ALREADY_RIGHT, 1.0)


def test_a_later_pass_replaces_what_an_earlier_one_said() -> None:
    before, after = square(30, 30, 80, 80), square(30, 30, 84, 80)
    image = np.where(after[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2)
    box = np.array([[0, 0, 120, 120]], np.int32)
    unsure = np.full((1, 120, 120), 0.5, np.float32)
    sure = after.astype(np.float32)[None]
    last_sure = guard(image, Rle.from_dense(before), Rle.from_dense(after), [(box, unsure), (box, sure)])
    last_unsure = guard(image, Rle.from_dense(before), Rle.from_dense(after), [(box, sure), (box, unsure)])
    assert last_sure.mask == Rle.from_dense(after)
    assert last_unsure.mask == Rle.from_dense(before)


@pytest.mark.parametrize("options", [{"caution": 1.1}, {"caution": -0.1}, {"reach": -1}, {"reach": 2000}])
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        GuardOptions(**options)  # type: ignore[arg-type]


def test_an_empty_refinement_gives_the_coarse_mask_back() -> None:
    before = square(30, 30, 40, 40)
    result = judged(before, np.zeros((120, 120), bool), LENIENT)
    assert (result.mask, result.abstained) == (Rle.from_dense(before), EMPTY)


def test_a_refinement_that_shares_too_little_gives_the_coarse_mask_back() -> None:
    before = square(30, 30, 50, 50)
    result = judged(before, square(44, 30, 64, 50), LENIENT)
    assert (result.mask, result.abstained) == (Rle.from_dense(before), TOO_FAR)


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
    assert Rle.from_crop(crop, 20, 17, 5, 3) == Rle.from_dense(frame)


@pytest.mark.parametrize(("value", "confidence"), [(1.0, 1.0), (0.5, 0.0), (0.75, 0.5)])
def test_confidence_is_the_distance_from_one_half(value: float, confidence: float) -> None:
    assert edge_confidence([(np.zeros((2, 4), np.int32), np.full((2, 3, 3), value, np.float32))]) == pytest.approx(
        confidence
    )


def test_fragments_apart_from_the_object_are_dropped_unless_told_otherwise() -> None:
    before = square(30, 30, 80, 80)
    after = before | square(80, 40, 83, 60) | square(30, 83, 50, 88)
    tidied = judged(before, after, LENIENT)
    assert np.array_equal(tidied.mask.to_dense(), before | square(80, 40, 83, 60))
    assert tidied.undone == {"topology": 100}
    assert judged(before, after, GuardOptions(caution=0.0, topology=False)).mask == Rle.from_dense(after)

"""The guard's thresholds, each from both sides."""

from __future__ import annotations

import numpy as np
import pytest
from dense_doors import columns_of, field_at, without_cuts, without_fragments, without_pinholes

from maskmend.patcher import Rle
from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import CHANGE_WEIGHTS, INSTANCE_WEIGHTS, Calibration
from maskmend.patcher.field import RAMP, fade, probability_field, window
from maskmend.patcher.guard import (
    ALREADY_RIGHT,
    EMPTY,
    TOO_FAR,
    GuardOptions,
    GuardResult,
    changed_pixels,
    distance_to_edge,
    edge_confidence,
    edge_length,
    examine,
    guard,
    hold,
)
from maskmend.patcher.topology import PINHOLE, connected_to, tidy

LENIENT = GuardOptions(caution=0.0)
BOLD = dict(INSTANCE_WEIGHTS, constant=50.0)


def box(x0: int, y0: int, x1: int, y1: int, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def judged(before: np.ndarray, after: np.ndarray, options: GuardOptions, votes: object = ()) -> GuardResult:
    image = np.zeros((*before.shape, 3), np.uint8)
    return guard(image, Rle.from_dense(before), Rle.from_dense(after), votes, options)  # type: ignore[arg-type]


def test_the_ends_of_the_options_are_allowed() -> None:
    for options in ({"caution": 0}, {"caution": 1}, {"reach": 0}, {"reach": 1024}):
        GuardOptions(**options)
    for options in ({"caution": 1.001}, {"caution": -0.001}, {"reach": 1025}, {"reach": -1}, {"caution": float("nan")}):
        with pytest.raises(OptionError) as caught:
            GuardOptions(**options)
        assert caught.value.field == next(iter(options))
    assert (GuardOptions().caution, GuardOptions().reach, GuardOptions().topology) == (0.5, 16, True)


def test_half_of_the_area_must_be_shared() -> None:
    before = box(20, 20, 40, 40)
    half = judged(before, box(20, 20, 40, 30), LENIENT)
    assert (half.abstained, half.mask.area) == (None, 200)
    less = box(20, 20, 40, 30)
    less[29, 39] = 0
    found = judged(before, less, LENIENT)
    assert (found.abstained, found.mask) == (TOO_FAR, Rle.from_dense(before))


@pytest.mark.parametrize("reach", [0, 1, 5, 16])
def test_the_reach_is_inclusive(reach: int) -> None:
    before, after = box(20, 20, 40, 40), box(20, 20, 60, 40)
    found = judged(before, after, GuardOptions(caution=0.0, reach=reach))
    assert np.array_equal(found.mask.to_dense(), box(20, 20, 40 + reach, 40) > 0)
    assert found.undone == {"reach": 20 * (20 - reach)}
    assert found.abstained == (None if reach else ALREADY_RIGHT)


def test_what_is_examined_lies_within_the_reach_and_a_pixel_more() -> None:
    coarse, refined = box(20, 20, 40, 30), box(20, 20, 42, 30)
    image = np.zeros((60, 70, 3), np.uint8)
    for reach, region in ((3, (16, 16, 44, 34)), (25, (0, 0, 66, 56)), (40, (0, 0, 70, 60))):
        seen = examine(image, Rle.from_dense(coarse), Rle.from_dense(refined), (), GuardOptions(reach=reach))
        assert seen.region == region
        assert np.asarray(seen.evidence.before).shape == (region[3] - region[1], region[2] - region[0])
        assert seen.undone == {"reach": 0, "topology": 0}
        assert seen.evidence.edge == edge_length(coarse) == 64
        assert seen.evidence.changes.depth.tolist() == [2.0]


def test_confidence_counts_where_an_edge_may_run() -> None:
    def confidence(*values: float) -> float:
        return edge_confidence([(np.zeros((1, 4), np.int32), np.array([[values]], np.float32))])

    assert confidence(0.0, 1.0, 0.01, 0.99) == 1.0
    assert confidence(0.02, 0.98) == 1.0
    assert confidence(0.03, 1.0) == pytest.approx(0.94)
    assert confidence(0.97, 0.0) == pytest.approx(0.94)
    assert confidence(0.5, 0.75, 0.25, 1.0) == pytest.approx(1 / 3)
    assert edge_confidence([]) == 1.0
    two = [(np.zeros((1, 4), np.int32), np.full((1, 1, 1), value, np.float32)) for value in (0.5, 0.75)]
    assert edge_confidence(two) == pytest.approx(0.25)


def test_distances_and_lengths_of_an_edge() -> None:
    mask = box(2, 1, 5, 4, (6, 8))
    assert edge_length(mask) == 16
    assert edge_length(box(0, 0, 3, 3, (6, 8))) == 7
    assert edge_length(np.zeros((6, 8), np.uint8)) == 0
    found = distance_to_edge(mask)
    assert found.dtype == np.float32
    assert found[2, 3] == 2.0
    assert found[1, 2] == 1.0
    assert found[0, 1] == pytest.approx(np.sqrt(2), abs=1e-5)
    assert found[2, 7] == 3.0


def test_changed_pixels_on_runs() -> None:
    rng = np.random.default_rng(5)
    for shape in ((1, 1), (9, 7), (70, 3)):
        for _ in range(10):
            a, b = (rng.random(shape) < rng.random() for _ in range(2))
            assert changed_pixels(Rle.from_dense(a), Rle.from_dense(b)) == np.count_nonzero(a != b)
    same = Rle.from_dense(box(1, 1, 5, 5))
    assert changed_pixels(same, same) == 0


def test_hold_in_numbers() -> None:
    p, coarse = np.array([[[0.0, 0.5, 1.0, 0.65]]], np.float32), np.array([[[-1, 1, 1, -1]]], np.float32)
    assert hold(p, coarse, 0.0).tolist() == p.tolist()
    assert hold(p, coarse, 0.5)[0, 0] == pytest.approx([0.0, 0.75, 1.0, 0.325])
    # A background pixel changes above 0.5 + 0.15, which is what it is by default.
    assert hold(p, coarse)[0, 0] == pytest.approx([0.0, 0.5 + 0.15 / 1.3, 1.0, 0.5])
    # What lies outside by rounding is cut off.
    over = hold(np.array([[[1.1, -0.1]]], np.float32), np.array([[[1, -1]]], np.float32), 0.5)
    assert over.tolist() == [[[1.0, 0.0]]]


def test_the_window_in_numbers() -> None:
    weights = window(64)
    assert weights.dtype == np.float32
    ramp = np.minimum((np.arange(32) + 0.5) / RAMP, 1)
    np.testing.assert_allclose(weights[30, :32], ramp, rtol=1e-6)
    np.testing.assert_allclose(weights[:32, 0], ramp / 32, rtol=1e-6)
    assert window(1).tolist() == [[pytest.approx(1 / 1024)]]
    faded = fade(np.full((2, 64, 64), 0.9, np.float32))
    assert faded.dtype == np.float32
    np.testing.assert_allclose(faded[1], 0.5 + 0.4 * weights, rtol=1e-6)


def test_the_field_at_pixels_is_that_of_the_region_and_of_the_last_look() -> None:
    rng = np.random.default_rng(8)
    passes = []
    for _ in range(2):
        corners = rng.integers(-4, 14, (4, 2))
        boxes = np.concatenate([corners, corners + 8], 1).astype(np.int32)
        passes.append((boxes, rng.random((4, 8, 8), np.float32)))
    region = (-3, 2, 17, 24)
    places = np.nonzero(rng.random((22, 20)) < 0.5)
    found = field_at(passes, places, region)
    mean, spread = np.full((2, 22, 20), np.nan, np.float32)
    for boxes, probabilities in passes:
        seen = probability_field(boxes, probabilities, region)
        known = ~np.isnan(seen.mean)
        mean[known], spread[known] = seen.mean[known], seen.spread[known]
    np.testing.assert_allclose(found.mean, mean[places], atol=1e-6)
    np.testing.assert_allclose(found.spread, spread[places], atol=1e-3)
    assert np.isnan(found.mean).any()
    assert not np.isnan(found.mean).all()


@pytest.mark.parametrize(("size", "filled"), [(PINHOLE - 1, True), (PINHOLE, True), (PINHOLE + 1, False)])
def test_the_largest_pinhole_and_the_largest_speck(size: int, filled: bool) -> None:
    before = box(5, 5, 60, 50)
    after = before.copy()
    after[20, 20 : 20 + size] = 0
    assert np.array_equal(without_pinholes(after, before), before if filled else after)
    # A hole that the coarse mask has in part is its own.
    mixed = before.copy()
    mixed[20, 20] = 0
    assert np.array_equal(without_pinholes(after, mixed), after)
    # A speck of the coarse mask that was cut off from it.
    cut = np.zeros_like(before)
    cut[5:50, 5:30] = 1
    cut[20, 40 : 40 + size] = 1
    found = without_fragments(cut, before)
    assert found[20, 40 : 40 + size].any() != filled
    assert np.array_equal(found[:, :35], cut[:, :35])


def test_what_touches_the_border_of_a_region_is_no_hole() -> None:
    before = np.ones((8, 9), np.uint8)
    for y, x in ((0, 4), (7, 4), (3, 0), (3, 8)):
        after = before.copy()
        after[y, x] = 0
        assert np.array_equal(without_pinholes(after, before), after)
    after = before.copy()
    after[1, 1] = after[6, 7] = 0
    assert np.array_equal(without_pinholes(after, before), before)
    # Pixels that touch by a corner alone are two holes.
    after = before.copy()
    after[1, 1] = after[0, 0] = 0
    assert without_pinholes(after, before).tolist() == np.where(np.arange(72).reshape(8, 9) == 0, 0, 1).tolist()


@pytest.mark.parametrize(("height", "joined"), [(5, True), (6, True), (7, False), (8, False)])
def test_thin_is_up_to_six_pixels(height: int, joined: bool) -> None:
    before = np.zeros((40, 80), np.uint8)
    before[8:32, 4:28] = before[8:32, 52:76] = 1
    before[16 : 16 + height, 28:52] = 1
    after = before.copy()
    after[:, 38:42] = 0
    found = without_cuts(after, before, distance_to_edge(before))
    assert np.array_equal(found, before if joined else after)


def test_parts_that_share_a_pixel_with_a_core() -> None:
    mask = box(1, 1, 3, 3, (8, 9)) | box(3, 3, 4, 4, (8, 9)) | box(6, 1, 8, 3, (8, 9))

    # By a corner is connected.
    def connected(core: np.ndarray) -> np.ndarray:
        return np.asarray(connected_to(columns_of(mask), columns_of(core)))

    assert np.array_equal(connected(box(1, 1, 2, 2, (8, 9))), box(1, 1, 3, 3, (8, 9)) | box(3, 3, 4, 4, (8, 9)))
    assert not connected(box(4, 5, 9, 8, (8, 9))).any()
    assert np.array_equal(connected(np.full((8, 9), 7, np.uint8)), mask)


def test_an_instance_may_be_unlikely_though_each_change_is_likely() -> None:
    bold, shy = dict(CHANGE_WEIGHTS, constant=50.0), dict(INSTANCE_WEIGHTS, constant=-50.0)
    before, after = box(20, 20, 40, 40), box(20, 20, 42, 40)
    unlikely = Calibration(bold, shy)
    found = judged(before, after, GuardOptions(caution=0.5, calibration=unlikely))
    assert (found.mask, found.abstained, found.undone) == (Rle.from_dense(before), ALREADY_RIGHT, {})
    assert found.score < 1e-9
    likely = Calibration(bold, BOLD)
    for options in (GuardOptions(caution=0.0, calibration=unlikely), GuardOptions(calibration=likely)):
        passed = judged(before, after, options)
        assert (passed.mask, passed.abstained, passed.undone) == (Rle.from_dense(after), None, {})
    # A chance that is just the caution asked for is enough.
    usual = Calibration(bold, INSTANCE_WEIGHTS)
    exact = judged(before, after, GuardOptions(caution=0.0, calibration=usual)).score
    assert judged(before, after, GuardOptions(caution=exact, calibration=usual)).abstained is None


def test_without_an_edge_everything_is_too_far() -> None:
    full, empty = box(0, 0, 70, 60), box(0, 0, 0, 0)
    found = judged(full, full - box(20, 20, 40, 40), LENIENT)
    assert (found.mask, found.abstained, found.undone) == (Rle.from_dense(full), ALREADY_RIGHT, {"reach": 400})
    found = judged(empty, box(0, 0, 3, 3), LENIENT)
    assert (found.mask, found.abstained, found.undone) == (Rle.from_dense(empty), EMPTY, {"reach": 9})


def test_where_there_is_nothing_to_tidy_nothing_is_copied() -> None:
    before = box(20, 20, 40, 40) | box(50, 50, 51, 52)
    after = box(20, 20, 42, 40) | box(50, 50, 51, 52)
    new = columns_of(after)
    assert tidy(new, columns_of(before)) is new
    for same in (without_fragments(after, before), without_pinholes(after, before), without_cuts(after, before)):
        assert np.array_equal(same, after)

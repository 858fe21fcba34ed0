"""The guard's kernels, which look at runs and changed pixels alone, against whole maps: equal bit for bit."""

from __future__ import annotations

import cv2
import dense_doors as doors
import numpy as np
import pytest
import reference_guard as plain
from dense_doors import field_at, find_changes, tidy, without_cuts, without_fragments, without_pinholes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from maskmend.patcher import Rle
from maskmend.patcher.evidence import DEFAULT_CALIBRATION
from maskmend.patcher.field import probability_field
from maskmend.patcher.guard import GuardOptions, changed_pixels, edge_confidence, examine
from maskmend.patcher.rle import region_bits
from maskmend.patcher.topology import PINHOLE, THIN

SEEDS = st.integers(0, 2**31)


def ragged(rng: np.random.Generator, shape: tuple[int, int], noise: float) -> np.ndarray:
    """A few blobs with holes, specks and thin parts, uint8 of 0 and 1."""
    coarse = rng.random((int(rng.integers(2, 9)), int(rng.integers(2, 9))))
    blobs = ndimage.zoom(coarse, (shape[0] / coarse.shape[0], shape[1] / coarse.shape[1]), order=1) > 0.5
    flips = rng.random(blobs.shape) < noise
    return (blobs ^ flips).astype(np.uint8)


def pair(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(9, 150)), int(rng.integers(9, 90))
    before = ragged(rng, shape, float(rng.choice([0, 0.02])))
    thin = rng.random() < 0.5
    if thin:
        y = int(rng.integers(0, shape[0]))
        before[y : y + 4] = 1
    after = before.copy()
    if thin:
        x = int(rng.integers(0, shape[1]))
        after[:, x : x + 3] = 0
    after[rng.random(after.shape) < rng.choice([0, 0.02, 0.2])] ^= 1
    for _ in range(rng.integers(0, 5)):
        y, x = rng.integers(0, after.shape[0]), rng.integers(0, after.shape[1])
        after[y : y + rng.integers(1, 6), x : x + rng.integers(1, 40)] ^= 1
    return rng, before, after


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_tidying_is_that_of_labelled_pixels(seed: int) -> None:
    _, before, after = pair(seed)
    distance = plain.distances(before)
    cuts = plain.without_cuts(after, before, distance, PINHOLE, THIN)
    assert np.array_equal(without_cuts(after, before, distance), cuts)
    assert np.array_equal(without_fragments(after, before), plain.without_fragments(after, before, PINHOLE))
    assert np.array_equal(without_pinholes(after, before), plain.without_pinholes(after, before, PINHOLE))
    whole = plain.without_pinholes(plain.without_fragments(cuts, before, PINHOLE), before, PINHOLE)
    assert np.array_equal(tidy(after, before, distance), whole)


def test_the_pairs_have_something_to_tidy() -> None:
    tidied = np.zeros(3, int)
    for seed in range(60):
        _, before, after = pair(seed)
        found = (
            without_cuts(after, before, plain.distances(before)),
            without_fragments(after, before),
            without_pinholes(after, before),
        )
        tidied += [int((each != after).any()) for each in found]
    assert (tidied >= 5).all(), tidied
    assert (tidied < 60).all(), tidied


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_changes_are_those_of_whole_maps(seed: int) -> None:
    rng, before, after = pair(seed)
    image = rng.integers(0, 256, (*before.shape, 3)).astype(np.uint8)
    mean, spread = rng.random(before.shape, np.float32), rng.random(before.shape, np.float32)
    mean[: len(mean) // 3] = spread[: len(mean) // 3] = np.nan
    distance = plain.distances(before)
    differs = before != after
    found = find_changes(before, after, distance, mean[differs], spread[differs], image)
    expected = plain.changes(before, after, distance, mean, spread, plain.edge_strength(image))
    for name, values in expected.items():
        assert np.array_equal(getattr(found, name), values), name


def test_the_strength_is_that_of_opencv_but_for_the_last_bit() -> None:
    image = np.random.default_rng(3).integers(0, 256, (50, 60, 3)).astype(np.uint8)
    strongest = np.zeros(image.shape[:2], np.float32)
    for channel in cv2.split(image):
        smooth = cv2.GaussianBlur(channel, (3, 3), 0)
        steps = (cv2.Sobel(smooth, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
        strongest = np.maximum(strongest, cv2.magnitude(*steps))
    assert plain.edge_strength(image) == pytest.approx(strongest, rel=3e-7)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 30), (30, 2), (1, 1)])
def test_changes_at_the_border_of_a_narrow_region(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    before, after = (rng.integers(0, 2, shape).astype(np.uint8) for _ in range(2))
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    blank = np.zeros(shape, np.float32)
    none = np.zeros(np.count_nonzero(before != after), np.float32)
    found = find_changes(before, after, blank, none, none, image)
    expected = plain.changes(before, after, blank, blank, blank, plain.edge_strength(image))
    assert np.array_equal(found.support, expected["support"])


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_distances_are_those_of_the_whole_map(seed: int) -> None:
    rng, before, _ = pair(seed)
    if before.min() == before.max():
        before[0, 0] ^= 1
    height, width = before.shape
    rows, columns = np.nonzero(rng.random(before.shape) < 0.2)
    out = np.full(before.shape, -1, np.float32)
    doors.edge_distance(region_bits(Rle.from_dense(before), 0, 0, width, height), height, rows, columns, out)
    assert np.array_equal(out[rows, columns], plain.distances(before)[rows, columns])
    out[rows, columns] = -1
    assert (out == -1).all()


def test_distances_far_from_any_edge() -> None:
    mask = np.zeros((300, 700), np.uint8)
    mask[299, 0] = 1
    rows, columns = np.array([0, 0, 299, 299]), np.array([0, 699, 0, 699])
    out = np.zeros(mask.shape, np.float32)
    doors.edge_distance(region_bits(Rle.from_dense(mask), 0, 0, 700, 300), 300, rows, columns, out)
    assert np.array_equal(out[rows, columns], plain.distances(mask)[rows, columns])


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_field_at_some_pixels_is_the_field_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x0, y0, width, height = (int(v) for v in (*rng.integers(-20, 60, 2), *rng.integers(1, 90, 2)))
    region = (x0, y0, x0 + width, y0 + height)
    places = np.nonzero(rng.random((height, width)) < 0.1)
    votes = []
    mean, spread = np.full((2, height, width), np.nan, np.float32)
    for side in (16, 32):
        corners = rng.integers(-30, 120, (int(rng.integers(0, 9)), 2))
        boxes = np.concatenate([corners, corners + side], 1).astype(np.int32)
        votes.append((boxes, rng.random((len(boxes), side, side), np.float32)))
        latest = probability_field(*votes[-1], region)
        known = ~np.isnan(latest.mean)
        mean[known], spread[known] = latest.mean[known], latest.spread[known]
    found = field_at(votes, places, region)
    assert np.array_equal(found.mean, mean[places], equal_nan=True)
    assert np.array_equal(found.spread, spread[places], equal_nan=True)
    certain = [p[(p > 0.02) & (p < 0.98)].astype(np.float64) for _, p in votes]
    count = sum(len(p) for p in certain)
    total = sum(float(np.abs(2 * p - 1).sum()) for p in certain)
    assert edge_confidence(votes) == (total / count if count else 1.0)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_changed_pixels_and_their_places(seed: int) -> None:
    _, before, after = pair(seed)
    differs = before ^ after
    assert changed_pixels(Rle.from_dense(before), Rle.from_dense(after)) == np.count_nonzero(differs)
    assert all(map(np.array_equal, doors.places_of(differs), np.nonzero(differs)))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_an_examination_is_that_of_whole_maps(seed: int, topology: bool) -> None:
    rng, before, after = pair(seed)
    if before.min() == before.max():
        before[0, 0] ^= 1
    options = GuardOptions(reach=int(rng.integers(0, 9)), topology=topology)
    image = rng.integers(0, 256, (*before.shape, 3)).astype(np.uint8)
    boxes = np.array([[0, 0, 16, 16], [4, 6, 20, 22]], np.int32)
    votes = [(boxes, rng.random((2, 16, 16), np.float32))]
    found = examine(image, Rle.from_dense(before), Rle.from_dense(after), votes, options)

    x0, y0, x1, y1 = region = found.region
    inner = np.s_[y0:y1, x0:x1]
    distance = plain.distances(before[inner])
    near = np.where(distance > options.reach, before[inner], after[inner])
    wanted = near
    if topology:
        wanted = plain.without_cuts(near, before[inner], distance, PINHOLE, THIN)
        wanted = plain.without_fragments(wanted, before[inner], PINHOLE)
        wanted = plain.without_pinholes(wanted, before[inner], PINHOLE)
    assert np.array_equal(found.evidence.after, wanted)
    assert found.undone["topology"] == np.count_nonzero(wanted != near)
    assert found.undone["reach"] == np.count_nonzero(before != after) - np.count_nonzero(near != before[inner])
    field = probability_field(*votes[0], region)
    strength = plain.edge_strength(np.ascontiguousarray(image[inner]))
    expected = plain.changes(before[inner], wanted, distance, field.mean, field.spread, strength)
    for name, values in expected.items():
        assert np.array_equal(getattr(found.evidence.changes, name), values), name
    caution = float(rng.uniform(0.2, 0.8))
    chances = DEFAULT_CALIBRATION.change_chances(found.evidence.change_features())
    doubtful = np.concatenate([[False], chances < caution])
    kept = np.where(doubtful[expected["labels"]], before[inner], wanted)
    assert np.array_equal(found.evidence.without_doubtful(caution), kept)

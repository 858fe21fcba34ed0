from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import OptionError
from maskmend.patcher.outlines import outlines
from maskmend.patcher.simplify import _area, _chords, check_tolerance, flat, joined, rings, simplified

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
DENSE = st.one_of(arrays(bool, SHAPES), arrays(bool, SHAPES, elements=st.sampled_from([True, True, True, False])))
TOLERANCES = st.one_of(st.sampled_from([0.3, 0.5, 1.0, 2.0]), st.floats(0.01, 6))


def sampled(loop: np.ndarray, step: float = 0.1) -> np.ndarray:
    """Points along a closed loop, none farther from the next than `step`."""
    parts = []
    for a, b in zip(loop, np.roll(loop, -1, 0), strict=True):
        count = max(math.ceil(np.linalg.norm(b - a) / step), 1)
        parts.append(a + (b - a) * np.linspace(0, 1, count, endpoint=False)[:, None])
    return np.concatenate(parts)


def farthest(points: np.ndarray, loop: np.ndarray) -> float:
    """Largest distance of a point from the line of a loop."""
    a, b = loop, np.roll(loop, -1, 0)
    d = b - a
    squares = np.maximum((d**2).sum(1), 1e-30)
    t = np.clip(((points[:, None] - a) * d).sum(2) / squares, 0, 1)
    return float(np.sqrt((((a + t[..., None] * d) - points[:, None]) ** 2).sum(2)).min(1).max())


def hausdorff(one: np.ndarray, other: np.ndarray) -> float:
    return max(farthest(sampled(one), other), farthest(sampled(other), one))


def blob(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.random((height, width)), rng.uniform(2, 6)) > 0.5


@settings(max_examples=80, deadline=None)
@given(DENSE, TOLERANCES)
def test_no_loop_is_farther_from_the_exact_one_than_the_tolerance(dense: np.ndarray, tolerance: float) -> None:
    mask = Rle.from_dense(dense)
    exact, simple = rings(mask, 0), rings(mask, tolerance)
    assert [len(part) for part in exact] == [len(part) for part in simple]
    for part, other in zip(exact, simple, strict=True):
        for loop, fewer in zip(part, other, strict=True):
            assert len(fewer) <= len(loop)
            assert hausdorff(loop, fewer) <= tolerance + 1e-6


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0, 4.0])
def test_the_same_for_larger_masks_of_which_few_corners_are_left(tolerance: float) -> None:
    before = after = 0
    mask = Rle.from_dense(blob(1))
    for part, other in zip(rings(mask, 0), rings(mask, tolerance), strict=True):
        for loop, fewer in zip(part, other, strict=True):
            assert hausdorff(loop, fewer) <= tolerance + 1e-6
            before, after = before + len(loop), after + len(fewer)
    assert after < before * (0.7 if tolerance < 1 else 0.4)


@settings(max_examples=200, deadline=None)
@given(DENSE)
def test_rings_are_the_parts_and_their_holes(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    parts = rings(mask, 0)
    assert len(parts) == ndimage.label(dense)[1]
    if parts:
        # Even-odd over all loops of a part, however they are joined.
        again = [joined(part).ravel().tolist() for part in parts]
        assert polygons_to_rle(again, *dense.shape) == mask
        assert (
            polygons_to_rle([joined([loop for part in parts for loop in part]).ravel().tolist()], *dense.shape) == mask
        )


@pytest.mark.parametrize(("tolerance", "least"), [(0.5, 0.95), (1.0, 0.9), (2.0, 0.8)])
def test_the_mask_comes_back_nearly(tolerance: float, least: float) -> None:
    for seed in range(8):
        dense = blob(seed)
        again = polygons_to_rle(simplified(Rle.from_dense(dense), tolerance), *dense.shape).to_dense()
        assert (again & dense).sum() / (again | dense).sum() > least


def test_thin_parts_stay() -> None:
    dense = np.zeros((30, 60), bool)
    dense[10, 5:50] = True
    dense[12:29, 7] = True
    for tolerance in (0.5, 1.0, 3.0):
        polygons = simplified(Rle.from_dense(dense), tolerance)
        assert np.array_equal(polygons_to_rle(polygons, 30, 60).to_dense(), dense)


def test_zero_is_the_exact_outline_and_nothing_has_none() -> None:
    mask = Rle.from_dense(blob(3))
    assert simplified(mask, 0) == outlines(mask)
    assert simplified(Rle.from_dense(np.zeros((3, 3), bool)), 1) == []
    # In place, with any offset.
    shifted = Rle.from_crop(blob(3), 200, 300, 40, 50)
    moved = [np.array(polygon).reshape(-1, 2) - (40, 50) for polygon in simplified(shifted, 1.0)]
    assert [p.ravel().tolist() for p in moved] == simplified(mask, 1.0)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), True, "1", None, 101])
def test_other_tolerances_are_refused(tolerance: object) -> None:
    with pytest.raises(OptionError):
        simplified(Rle.from_dense(blob(0)), tolerance)  # type: ignore[arg-type]


def test_tolerances_at_the_ends_of_their_range() -> None:
    for tolerance in (0, 0.0, 100, 100.0, 0.5):
        found = check_tolerance(tolerance)
        assert (type(found), found) == (float, float(tolerance))
    for tolerance in (100.001, -0.001, True, False):
        with pytest.raises(OptionError, match="0 to 100 px") as caught:
            check_tolerance(tolerance)
        assert caught.value.field == "tolerance"


def plain_distance(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Of a point from a chord."""
    along = b - a
    t = 0.0 if not along.any() else min(max(float((point - a) @ along) / float(along @ along), 0.0), 1.0)
    return float(np.hypot(*(a + t * along - point)))


def plain_chords(points: np.ndarray, tolerance: float) -> list[int]:
    """From each point on: twice as far while it goes, then halfway between what goes and what does not."""

    def near(first: int, last: int) -> bool:
        return all(plain_distance(points[n], points[first], points[last]) <= tolerance for n in range(first + 1, last))

    kept, at, last = [], 0, len(points) - 1
    while at < last:
        kept.append(at)
        reached = [at + 1]
        steps = [at + 2**k for k in range(1, 12) if at + 2**k <= last]
        while steps and near(at, steps[0]):
            reached.append(steps.pop(0))
        good, bad = reached[-1], steps[0] if steps else last + 1
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if near(at, middle) else (good, middle)
        at = good
    return kept


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([0.3, 0.75, 1.5, 4.0]))
def test_chords_are_those_of_the_plain_search(seed: int, count: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.integers(-1, 3, (count, 2)), 0) * rng.choice([0.25, 0.5, 1.0])
    if rng.random() < 0.3:
        points[-1] = points[0]
    # A hair less than where a distance of quarters and halves may fall.
    assert _chords(points, tolerance * (1 - 1e-9)).tolist() == plain_chords(points, tolerance * (1 - 1e-9))


def test_straight_sides_keep_their_ends_only() -> None:
    for corners in ([(3, 2), (30, 2), (30, 12), (3, 12)], [(0, 0), (8, 0), (8, 8), (0, 8)]):
        (x0, y0), (x1, y1) = corners[0], corners[2]
        dense = np.zeros((20, 40), bool)
        dense[y0:y1, x0:x1] = True
        ((loop,),) = rings(Rle.from_dense(dense), 1.0)
        assert len(loop) == 4
        assert {tuple(corner) for corner in loop.tolist()} == {tuple(map(float, corner)) for corner in corners}
        # The same way round as the exact one: the area keeps its sign.
        assert _area(loop) == (x1 - x0) * (y1 - y0)


def test_holes_belong_to_the_part_round_them() -> None:
    dense = np.zeros((40, 60), bool)
    dense[2:38, 2:30] = True
    dense[6:34, 6:26] = False
    dense[10:30, 10:22] = True
    dense[14:20, 13:19] = False
    dense[24:26, 13:19] = False
    dense[5:20, 40:55] = True
    dense[8:10, 42:44] = False
    mask = Rle.from_crop(dense, 100, 100, 7, 9)
    for tolerance in (0, 0.5):
        parts = rings(mask, tolerance)
        areas = [[_area(loop) for loop in part] for part in parts]
        assert areas == [[36 * 28, -28 * 20], [15 * 15, -4], [20 * 12, -36, -12]]
        assert [part[0].min(0).tolist() for part in parts] == [[9, 11], [47, 14], [17, 19]]
        assert [part[0].max(0).tolist() for part in parts] == [[37, 47], [62, 29], [29, 39]]
        assert all(loop.dtype == np.float64 for part in parts for loop in part)


def test_loops_are_joined_at_their_nearest_corners() -> None:
    outer = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float64)
    inner = np.array([[5, 5], [5, 9], [8, 9], [8, 5]], np.float64)
    other = np.array([[1, 1], [1, 2], [2, 2]], np.float64)
    assert joined([outer]).tolist() == outer.tolist()
    cut = [[8, 9], [8, 5], [5, 5], [5, 9], [8, 9]]
    assert joined([outer, inner]).tolist() == [[0, 0], [10, 0], [10, 10], *cut, [10, 10], [0, 10]]
    again = [[0, 0], [1, 1], [1, 2], [2, 2], [1, 1], [0, 0]]
    assert joined([outer, inner, other]).tolist() == [*again, [10, 0], [10, 10], *cut, [10, 10], [0, 10]]
    assert flat(other) == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert all(type(value) is float for value in flat(other))

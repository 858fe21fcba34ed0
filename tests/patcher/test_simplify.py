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
from maskmend.patcher.simplify import joined, rings, simplified

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

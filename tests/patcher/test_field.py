from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import reassemble
from maskmend.patcher.field import RAMP, fade, probability_field, window


def plain_field(boxes: np.ndarray, probabilities: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    """Mean and spread, pixel by pixel."""
    x0, y0, x1, y1 = region
    out = np.full((2, y1 - y0, x1 - x0), np.nan)
    weights = window(probabilities.shape[1])
    for y in range(y0, y1):
        for x in range(x0, x1):
            inside = [n for n, (a, b, c, d) in enumerate(boxes) if a <= x < c and b <= y < d]
            if inside:
                values = np.array([probabilities[n, y - boxes[n, 1], x - boxes[n, 0]] for n in inside], np.float64)
                w = np.array([weights[y - boxes[n, 1], x - boxes[n, 0]] for n in inside], np.float64)
                mean = (w * values).sum() / w.sum()
                out[:, y - y0, x - x0] = mean, np.sqrt((w * (values - mean) ** 2).sum() / w.sum())
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 6), st.sampled_from([4, 8, 40]))
def test_parity_with_the_plain_mean(seed: int, count: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(-5, 30, (count, 2))
    boxes = np.concatenate([corners, corners + side], 1).astype(np.int32)
    probabilities = rng.random((count, side, side), np.float32)
    found = probability_field(boxes, probabilities, (-2, 3, 20, 26))
    wanted = plain_field(boxes, probabilities, (-2, 3, 20, 26))
    assert np.array_equal(np.isnan(found.mean), np.isnan(wanted[0]))
    assert np.allclose(found.mean, wanted[0], atol=2e-6, equal_nan=True)
    assert np.allclose(found.spread, wanted[1], atol=2e-3, equal_nan=True)


def test_fading_makes_the_plain_mean_a_weighted_one() -> None:
    rng = np.random.default_rng(5)
    corners = rng.integers(0, 60, (9, 2))
    boxes = np.concatenate([corners, corners + 64], 1).astype(np.int32)
    probabilities = rng.random((9, 64, 64), np.float32)
    mask = np.zeros((140, 140), bool)
    refined = reassemble(mask, boxes, fade(probabilities))
    mean = probability_field(boxes, probabilities, (0, 0, 140, 140)).mean
    clear = np.abs(mean - 0.5) > 1e-5
    assert np.array_equal(refined[clear], (mean > 0.5)[clear])
    assert not refined[np.isnan(mean)].any()


def test_the_window_is_one_within_and_never_zero() -> None:
    weights = window(64)
    assert weights.shape == (64, 64)
    assert (weights[RAMP:-RAMP, RAMP:-RAMP] == 1).all()
    assert weights.min() > 0
    assert np.array_equal(weights, weights.T)
    assert np.array_equal(weights, weights[::-1])

from __future__ import annotations

import numpy as np
import pytest
from dense_doors import find_changes
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_guard import edge_strength
from scipy import ndimage

from maskmend.patcher.guard import distance_to_edge

EIGHT = np.ones((3, 3))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_parity_with_region_by_region(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (ndimage.zoom(rng.random((5, 6)), 5, order=1) > 0.5 for _ in range(2))
    mean = rng.random(before.shape, np.float32)
    spread = rng.random(before.shape, np.float32) * 20
    image = rng.integers(0, 256, (*before.shape, 3)).astype(np.uint8)
    strength = edge_strength(image)
    mean[0], spread[0] = np.nan, np.nan
    coarse, refined = before.astype(np.uint8), after.astype(np.uint8)
    distance = distance_to_edge(coarse)
    differs = before != after
    found = find_changes(coarse, refined, distance, mean[differs], spread[differs], image)

    labels, count = ndimage.label(before != after, EIGHT)
    assert len(found.size) == count
    outlines = [
        ndimage.binary_dilation(m, EIGHT) != ndimage.binary_erosion(m, EIGHT, border_value=1) for m in (before, after)
    ]
    for n in range(1, count + 1):
        where = labels == n
        (own,) = np.unique(found.labels[where])
        region = own - 1
        known = np.nan_to_num(mean[where], nan=0.5).astype(float)
        towards = np.where(before[where], 1 - known, known)
        assert found.size[region] == where.sum()
        assert found.depth[region] == pytest.approx(distance[where].max())
        assert found.certainty[region] == pytest.approx((2 * towards - 1).mean(), abs=1e-6)
        assert found.spread[region] == pytest.approx(np.nan_to_num(spread[where]).mean(), rel=1e-5)
        assert found.growth[region] == pytest.approx((after[where].astype(float) - before[where]).mean())
        others = ndimage.binary_dilation((labels > 0) & ~where, EIGHT)
        around = ndimage.binary_dilation(where, EIGHT)
        if not (others & around).any():
            old, new = (strength[line & around] for line in outlines)
            ratio = (new.mean() + 2 if new.size else 2) / (old.mean() + 2 if old.size else 2)
            assert found.support[region] == pytest.approx(np.log(ratio), abs=1e-5)


def test_no_change_is_no_region() -> None:
    mask = np.zeros((8, 9), np.uint8)
    mask[2:5, 2:6] = 1
    none, image = np.zeros(0, np.float32), np.zeros((*mask.shape, 3), np.uint8)
    found = find_changes(mask, mask, distance_to_edge(mask), none, none, image)
    assert len(found.size) == len(found.support) == 0
    assert not found.labels.any()


def test_edge_strength_is_the_step_per_pixel_of_the_strongest_channel() -> None:
    image = np.full((20, 20, 3), 50, np.uint8)
    image[:, 10:, 1] = 90
    strength = edge_strength(image)
    assert strength.shape == (20, 20)
    assert strength[:, :7].max() == 0
    # A step of 40 levels, smoothed over about three pixels.
    assert strength[10].max() == pytest.approx(15, abs=1)
    assert strength[10].sum() == pytest.approx(40, abs=1)


def test_support_is_positive_where_the_edge_moves_onto_an_edge() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    image = np.where(truth[..., None] > 0, np.uint8(180), np.uint8(60)).repeat(3, 2)
    coarse = np.roll(truth, 5, 1)
    sure = np.full(np.count_nonzero(truth != coarse), 0.9, np.float32)
    onto = find_changes(coarse, truth, distance_to_edge(coarse), sure, sure, image)
    away = find_changes(truth, coarse, distance_to_edge(truth), sure, sure, image)
    assert (onto.support > 0.5).all()
    assert (away.support < -0.5).all()

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher import Rle
from maskmend.patcher.displacement import changed_within, max_displacement


def plain(coarse: np.ndarray, refined: np.ndarray) -> float:
    inside, outside = np.argwhere(coarse), np.argwhere(~coarse)
    farthest = 0.0
    for pixel in np.argwhere(coarse != refined):
        others = outside if coarse[tuple(pixel)] else inside
        if not len(others):
            return float(np.hypot(*coarse.shape))
        farthest = max(farthest, float(np.sqrt(((others - pixel) ** 2).sum(1).min())))
    return farthest


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 12))
def test_it_is_the_farthest_of_all_distances(data: st.DataObject, height: int, width: int) -> None:
    coarse, refined = (data.draw(arrays(bool, (height, width))) for _ in range(2))
    found = max_displacement(Rle.from_dense(coarse), Rle.from_dense(refined))
    assert found == pytest.approx(plain(coarse, refined), abs=1e-3)


def filled(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (30, 40)) -> Rle:
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return Rle.from_dense(mask)


def test_without_an_edge_it_is_the_diagonal() -> None:
    empty, full = filled(), filled((0, 0, 40, 30))
    assert max_displacement(empty, filled((3, 3, 4, 4))) == 50.0
    assert max_displacement(full, filled((3, 3, 4, 4))) == 50.0
    assert max_displacement(empty, empty) == max_displacement(full, full) == 0.0
    # With an edge, never so much by accident.
    assert max_displacement(filled((0, 0, 1, 1)), filled((0, 0, 1, 1), (39, 29, 40, 30))) == pytest.approx(
        np.hypot(39, 29), abs=1e-3
    )


def test_added_and_removed_pixels_alike() -> None:
    coarse = filled((10, 10, 20, 20))
    assert max_displacement(coarse, filled((10, 10, 20, 20), (22, 23, 23, 24))) == pytest.approx(5.0, abs=1e-4)
    assert max_displacement(coarse, filled((10, 10, 13, 20))) == pytest.approx(5.0, abs=1e-4)
    assert max_displacement(coarse, filled()) == pytest.approx(5.0, abs=1e-4)
    # The larger of both, whichever it is.
    both = filled((12, 10, 20, 20), (24, 10, 25, 11))
    assert max_displacement(coarse, both) == pytest.approx(5.0, abs=1e-4)
    both = filled((14, 10, 20, 20), (20, 10, 22, 11))
    assert max_displacement(coarse, both) == pytest.approx(4.0, abs=1e-4)


def test_what_lies_beyond_the_frame_is_outside_of_nothing() -> None:
    # The whole left half: its pixels at the frame are far from the only edge there is.
    coarse = filled((0, 0, 20, 30))
    assert max_displacement(coarse, filled((1, 0, 20, 30))) == pytest.approx(20.0, abs=1e-4)
    below = filled((0, 10, 40, 30))
    assert max_displacement(below, filled((0, 10, 40, 29))) == pytest.approx(20.0, abs=1e-4)
    right = filled((25, 0, 40, 30))
    assert max_displacement(right, filled((25, 0, 39, 30))) == pytest.approx(15.0, abs=1e-4)
    above = filled((0, 0, 40, 12))
    assert max_displacement(above, filled((0, 1, 40, 12))) == pytest.approx(12.0, abs=1e-4)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 80), st.integers(1, 80))
def test_changes_are_counted_box_by_box(data: st.DataObject, height: int, width: int) -> None:
    seed = data.draw(st.integers(0, 2**16))
    before, after = np.random.default_rng(seed).random((2, height, width)) < np.array([0.5, 0.4])[:, None, None]
    corners = data.draw(st.lists(st.tuples(st.integers(-30, 100), st.integers(-30, 100)), max_size=5))
    side = data.draw(st.sampled_from([2, 16, 70]))
    boxes = np.array([(x, y, x + side, y + side) for x, y in corners], np.int32).reshape(-1, 4)
    frame = np.pad(before ^ after, 200)
    expected = [int(frame[y0 + 200 : y1 + 200, x0 + 200 : x1 + 200].sum()) for x0, y0, x1, y1 in boxes]
    assert changed_within(Rle.from_dense(before), Rle.from_dense(after), boxes).tolist() == expected

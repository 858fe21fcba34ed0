from __future__ import annotations

import cv2
import numpy as np
from dense_doors import tidy, without_cuts, without_fragments, without_pinholes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher.guard import distance_to_edge
from maskmend.patcher.topology import PINHOLE


def bar_and_blocks() -> np.ndarray:
    """Two blocks joined by a bar 4 px wide."""
    mask = np.zeros((40, 80), np.uint8)
    mask[8:32, 4:28] = mask[8:32, 52:76] = mask[18:22, 28:52] = 1
    return mask


def pieces(mask: np.ndarray) -> int:
    return int(cv2.connectedComponents(mask, connectivity=8)[0]) - 1


def test_a_thin_part_is_not_cut() -> None:
    before = bar_and_blocks()
    after = before.copy()
    after[:, 38:42] = 0
    after[10, 4:10] = 0
    found = without_cuts(after, before, distance_to_edge(before))
    assert pieces(found) == 1
    assert not found[10, 4:10].any(), "a change elsewhere was undone too"


def test_a_thick_part_may_be_cut() -> None:
    before = np.ones((40, 80), np.uint8)
    before[0] = 0
    after = before.copy()
    after[:, 30:45] = 0
    assert np.array_equal(without_cuts(after, before, distance_to_edge(before)), after)


def test_a_pinhole_is_filled_and_a_window_stays_open() -> None:
    before = np.zeros((40, 40), np.uint8)
    before[5:35, 5:35] = 1
    after = before.copy()
    after[10:13, 10:13] = 0
    after[20:28, 20:28] = 0
    found = without_pinholes(after, before)
    assert found[10:13, 10:13].all()
    assert not found[20:28, 20:28].any()


def test_a_hole_of_the_coarse_mask_stays() -> None:
    before = np.ones((20, 20), np.uint8)
    before[8:10, 8:10] = 0
    after = before.copy()
    after[7, 8] = 0
    assert np.array_equal(without_pinholes(after, before), after)


def test_fragments_and_specks_go_and_own_small_parts_stay() -> None:
    before = np.zeros((40, 60), np.uint8)
    before[5:30, 5:30] = 1
    before[5:7, 50:52] = 1
    after = before.copy()
    after[33:39, 40:50] = 1  # new, apart
    after[5:30, 20:30] = 0
    after[27:30, 27:30] = 1  # cut off from the block
    found = without_fragments(after, before)
    assert not found[33:39].any()
    assert not found[27:30, 27:30].any()
    assert found[5:7, 50:52].all()
    assert found[5:30, 5:20].all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.uint8, (14, 17), elements=st.integers(0, 1)), arrays(np.uint8, (14, 17), elements=st.integers(0, 1)))
def test_nothing_is_invented(before: np.ndarray, after: np.ndarray) -> None:
    found = tidy(after, before, distance_to_edge(before))
    assert found.dtype == np.uint8
    assert (found <= (after | before)).all()
    # Of what both masks have, only specks may go.
    gone = (after & before & (1 - found)).astype(np.uint8)
    sizes = cv2.connectedComponentsWithStats(gone, connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    assert (sizes <= PINHOLE).all()
    assert np.array_equal(tidy(before, before, distance_to_edge(before)), before)

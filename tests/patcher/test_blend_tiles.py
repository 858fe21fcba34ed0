"""The reassembly's tiles of 64 x 64 px: boxes within one, across several, and beyond the region."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from maskmend.patcher import OptionError, Rle, _blend, reassemble
from maskmend.patcher.field import window


@pytest.mark.parametrize("shape", [(140, 70), (70, 140), (64, 129), (128, 64), (65, 65), (9, 200), (200, 9)])
def test_votes_across_tiles_agree_with_the_plain_implementation(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    mask = rng.random(shape) < 0.3
    for side, count in ((7, 9), (40, 4)):
        corners = np.stack([rng.integers(-side, shape[1], count), rng.integers(-side, shape[0], count)], 1)
        boxes = np.hstack([corners, corners + side])
        probabilities = rng.random((count, side, side), dtype=np.float32)
        for mean in ("probability", "logit"):
            expected = reference.reassembled(mask, boxes, probabilities, mean)
            found = reassemble(Rle.from_dense(mask), boxes, probabilities, mean=mean)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found.to_dense(), expected)


@pytest.mark.parametrize("corner", [(0, 0), (63, 0), (64, 0), (0, 63), (0, 64), (60, 61), (120, 3), (3, 120)])
def test_one_box_changes_what_it_covers_and_nothing_else(corner: tuple[int, int]) -> None:
    x, y = corner
    boxes = np.array([[x, y, x + 8, y + 8]])
    inside = np.zeros((130, 131), bool)
    inside[y : y + 8, x : x + 8] = True
    full, empty = np.ones((130, 131), bool), np.zeros((130, 131), bool)
    ones, zeros = np.ones((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    assert np.array_equal(reassemble(full, boxes, zeros), ~inside)
    assert np.array_equal(reassemble(empty, boxes, ones), inside)
    assert reassemble(full, boxes, ones).all()
    assert not reassemble(empty, boxes, zeros).any()


def test_logits_are_clipped_a_millionth_from_the_ends() -> None:
    boxes, empty = np.array([[0, 0, 1, 1]] * 3), np.zeros((1, 1), bool)

    def foreground(*values: float) -> bool:
        return bool(reassemble(empty, boxes, np.array(values, np.float32).reshape(3, 1, 1), mean="logit")[0, 0])

    # Certainty counts as one part in a million from the end: two votes at 0.002 do not outweigh it, two at 0.0005 do.
    assert foreground(1.0, 0.002, 0.002)
    assert not foreground(1.0, 0.0005, 0.0005)
    assert not foreground(0.0, 0.998, 0.998)
    assert foreground(0.0, 0.9995, 0.9995)
    assert not foreground(0.0, 1.0, 0.5)


def test_sums_over_a_region_in_numbers() -> None:
    boxes = np.array([[1, 1, 3, 3], [2, 2, 4, 4], [-9, -9, -7, -7]], np.int32)
    probabilities = np.array([[[0.5, 1], [0.25, 0.5]], [[1, 0], [0, 0]], [[9, 9], [9, 9]]], np.float32)
    weights = window(2)
    w = float(weights[0, 0])
    sums = np.zeros((3, 3, 4), np.float32)
    _blend.gather(boxes, probabilities, weights, 0, 0, sums)
    assert (sums[0] / w).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, 1]]
    assert (sums[1] / w).tolist() == [[0, 0, 0, 0], [0, 0.5, 1, 0], [0, 0.25, 1.5, 0]]
    assert (sums[2] / w).tolist() == [[0, 0, 0, 0], [0, 0.25, 1, 0], [0, 0.0625, 1.25, 0]]


def test_boxes_are_surveyed() -> None:
    boxes = np.array([[5, 9, 8, 12], [-4, 20, -1, 23], [30, 1, 33, 4]], np.int32)
    assert _blend.survey(boxes) == (True, -4, 1, 33, 23)
    for column in range(4):
        other = boxes.copy()
        other[1, column] += 1
        assert not _blend.survey(other)[0]


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(OptionError, match="probabilities are 3 x 5 px but boxes are 4 x 4 px") as caught:
        reassemble(np.ones((9, 9), bool), np.array([[0, 0, 4, 4]]), np.zeros((1, 3, 5), np.float32))
    assert caught.value.field == "probabilities"


@pytest.mark.parametrize("corner", [(-8, 3), (20, 3), (3, -8), (3, 20), (40, 3), (3, 40), (-30, 3), (40, -9)])
def test_boxes_beside_the_frame_leave_an_empty_mask_empty(corner: tuple[int, int]) -> None:
    boxes = np.array([[*corner, corner[0] + 8, corner[1] + 8]])
    ones = np.ones((1, 8, 8), np.float32)
    assert not reassemble(np.zeros((20, 20), bool), boxes, ones).any()
    empty = Rle.from_dense(np.zeros((20, 20), bool))
    assert reassemble(empty, boxes, ones) == empty

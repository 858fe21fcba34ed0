from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import MaskError, OptionError, Rle, boundary_boxes, reassemble


@pytest.mark.parametrize("block", range(10))
def test_a_thousand_random_masks_agree_with_the_plain_implementation(block):
    rng = np.random.default_rng((12, block))
    for i in range(100):
        mask = reference.random_mask(rng)
        side = int(rng.choice([64, 64, 64, 20, 90]))
        boxes = boundary_boxes(mask, patch=side, nms=0.5)
        if i % 5 == 0:
            # Anywhere, in part or wholly outside the frame, and far apart.
            boxes = rng.integers(-150, 350, (len(boxes), 2)).astype(np.int32)
            boxes = np.hstack([boxes, boxes + side])
        probabilities = rng.random((len(boxes), side, side), dtype=np.float32)
        if i % 3 == 0:
            # Exact halves and saturated values, where ties happen.
            probabilities = np.round(probabilities * 4) / np.float32(4)
        rle = Rle.from_dense(mask)
        expected = reference.reassembled(mask, boxes, probabilities, "probability")
        dense = reassemble(mask, boxes, probabilities)
        assert dense.dtype == np.bool_
        np.testing.assert_array_equal(dense, expected)
        assert reassemble(rle, boxes, probabilities) == Rle.from_dense(expected)
        assert reassemble(rle.to_coco(), boxes, probabilities) == Rle.from_dense(expected).to_coco()
        if i % 3:
            by_logit = reference.reassembled(mask, boxes, probabilities, "logit")
            np.testing.assert_array_equal(reassemble(mask, boxes, probabilities, mean="logit"), by_logit)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_boxes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    mask = reference.random_mask(rng, 120)
    boxes = boundary_boxes(mask, nms=0.6)
    probabilities = rng.random((len(boxes), 64, 64), dtype=np.float32)
    order = rng.permutation(len(boxes))
    shuffled = reassemble(mask, boxes[order], probabilities[order])
    np.testing.assert_array_equal(reassemble(mask, boxes, probabilities), shuffled)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_coarse_mask_as_probability_changes_nothing(seed):
    mask = reference.random_mask(np.random.default_rng(seed), 150)
    boxes = boundary_boxes(mask)
    rle = Rle.from_dense(mask)
    same = np.array([rle.crop(*box) for box in boxes.tolist()], np.float32).reshape(-1, 64, 64)
    for mean in ("probability", "logit"):
        assert reassemble(rle, boxes, same, mean=mean) == rle


def test_one_half_is_background():
    mask = np.ones((64, 64), bool)
    boxes = np.array([[0, 0, 64, 64], [0, 0, 64, 64]])
    for first, second, foreground in ((0.5, 0.5, False), (0.25, 0.75, False), (0.25, 0.75 + 2**-20, True)):
        probabilities = np.stack([np.full((64, 64), p, np.float32) for p in (first, second)])
        assert reassemble(mask, boxes, probabilities).all() == foreground
        assert reassemble(mask, boxes, probabilities).any() == foreground
    halves = np.full((2, 64, 64), 0.5, np.float32)
    assert not reassemble(mask, boxes, halves, mean="logit").any()


def test_the_two_means_differ_as_they_should():
    # Mean of 0.99, 0.3 and 0.3 is above one half either way; of 0.999, 0.2 and 0.2 only in logits.
    boxes = np.array([[0, 0, 64, 64]] * 3)
    values = np.ones((3, 64, 64), np.float32) * np.array([0.999, 0.2, 0.2], np.float32)[:, None, None]
    coarse = np.zeros((64, 64), bool)
    assert not reassemble(coarse, boxes, values).any()
    assert reassemble(coarse, boxes, values, mean="logit").all()


def test_no_boxes_keep_the_mask():
    nothing = np.zeros((0, 4), np.int32), np.zeros((0, 64, 64), np.float32)
    mask = np.eye(9, dtype=np.uint8) * 7
    np.testing.assert_array_equal(reassemble(mask, *nothing), mask != 0)
    rle = Rle.from_dense(mask)
    assert reassemble(rle, *nothing) == rle
    assert reassemble(rle.to_coco(), *nothing) == rle.to_coco()


def test_input_is_not_written_to():
    mask = np.zeros((80, 80), bool)
    mask[20:60, 20:60] = True
    boxes = boundary_boxes(mask)
    before = mask.copy()
    reassemble(mask, boxes, np.ones((len(boxes), 64, 64), np.float32))
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_values_that_are_no_probability_are_refused(value):
    probabilities = np.full((1, 64, 64), 0.5, np.float32)
    probabilities[0, 63, 63] = value
    with pytest.raises(OptionError, match="probabilities") as caught:
        reassemble(np.ones((90, 90), bool), np.array([[0, 0, 64, 64]]), probabilities)
    assert caught.value.field == "probabilities"


@pytest.mark.parametrize(
    "probabilities", [np.zeros((2, 64, 64)), np.zeros((1, 32, 32)), np.zeros((1, 64, 64), int), np.zeros((64, 64))]
)
def test_probabilities_that_do_not_fit_are_refused(probabilities):
    with pytest.raises(OptionError) as caught:
        reassemble(np.ones((90, 90), bool), np.array([[0, 0, 64, 64]]), probabilities)
    assert caught.value.field == "probabilities"


def test_other_refusals():
    good = np.array([[0, 0, 64, 64]]), np.zeros((1, 64, 64), np.float32)
    with pytest.raises(OptionError, match="mean"):
        reassemble(np.ones((9, 9), bool), *good, mean="median")
    with pytest.raises(MaskError):
        reassemble({"size": [9, 9], "counts": "x"}, *good)


def test_far_apart_objects_on_the_largest_frame():
    rle = Rle.from_coco({"size": [2**14, 2**14], "counts": [0, 1, 2**28 - 2, 1]})
    boxes = boundary_boxes(rle)
    assert sorted(boxes.tolist()) == [[0, 0, 64, 64], [2**14 - 64, 2**14 - 64, 2**14, 2**14]]
    assert reassemble(rle, boxes, np.ones((2, 64, 64), np.float32)).area == 2 * 64 * 64

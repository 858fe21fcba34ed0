from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference

from maskmend.patcher import ImageError, MaskError, OptionError, Rle, boundary_boxes, extract_patches


@pytest.mark.parametrize(
    ("patch", "size", "padding"),
    [(64, 128, 0), (64, 64, 0), (64, 256, 0), (64, 128, 16), (64, 96, 16), (64, 100, 7), (32, 32, 8), (64, 33, 0)],
)
def test_patches_agree_with_opencv(patch, size, padding):
    rng = np.random.default_rng((3, size, padding))
    for _ in range(25):
        mask = reference.random_mask(rng, 150)
        image = rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
        boxes = boundary_boxes(mask, patch=patch)[:12]
        found = extract_patches(image, Rle.from_dense(mask).to_coco(), boxes, size=size, padding=padding)
        expected = reference.patches(image, mask, boxes, size, padding)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found[:, 3], expected[:, 3])
        # One grey level is 1/58 here; float32 interpolation stays a thousandth of that away.
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_patches_stay_within_a_grey_level_of_opencv_on_bytes():
    rng = np.random.default_rng(8)
    image = rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    found = extract_patches(image, np.ones((90, 120), bool), np.array([[10, 20, 74, 84]]))
    colours = found[0, :3].transpose(1, 2, 0) * reference.STD + reference.MEAN
    expected = cv2.resize(image[20:84, 10:74], (128, 128), interpolation=cv2.INTER_LINEAR)
    assert np.abs(colours - expected).max() <= 1.0


def test_boxes_far_outside_repeat_the_border():
    image = np.zeros((5, 7, 3), np.uint8)
    image[0, 0] = 255
    found = extract_patches(image, np.ones((5, 7), bool), np.array([[-500, -500, -436, -436]]), size=64)
    np.testing.assert_allclose(found[0, :3, 9, 9], (255 - reference.MEAN) / reference.STD, rtol=1e-5)
    assert (found[0, :3] == found[0, :3, :1, :1]).all()
    assert (found[0, 3] == -1).all()


def test_a_view_of_an_image_is_read_as_its_copy():
    rng = np.random.default_rng(9)
    wide = rng.integers(0, 256, (100, 300, 3)).astype(np.uint8)
    view = wide[:, ::2, ::-1]
    mask = np.zeros((100, 150), bool)
    mask[30:60, 40:90] = True
    boxes = boundary_boxes(mask).astype(np.int64)
    np.testing.assert_array_equal(extract_patches(view, mask, boxes), extract_patches(view.copy(), mask, boxes))


def test_no_boxes_give_no_patches():
    mask = np.zeros((9, 9), bool)
    assert extract_patches(np.zeros((9, 9, 3), np.uint8), mask, boundary_boxes(mask)).shape == (0, 4, 128, 128)


@pytest.mark.parametrize(
    "image", [None, np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ImageError):
        extract_patches(image, np.ones((9, 9), bool), np.zeros((0, 4), np.int32))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(MaskError, match="8 x 9"):
        extract_patches(np.zeros((9, 9, 3), np.uint8), np.ones((8, 9), bool), np.zeros((0, 4), np.int32))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        *[("size", {"size": v}) for v in (0, -1, 64.0, True, 5000)],
        *[("padding", {"padding": v}) for v in (-1, 0.5, True, 5000)],
        ("boxes", {"boxes": np.zeros((2, 4))}),
        ("boxes", {"boxes": np.zeros((4,), np.int32)}),
        ("boxes", {"boxes": np.array([[0, 0, 64, 32]])}),
        ("boxes", {"boxes": np.array([[0, 0, 64, 64], [0, 0, 32, 32]])}),
        ("boxes", {"boxes": np.array([[0, 0, 0, 0]])}),
        ("boxes", {"boxes": np.array([[64, 64, 0, 0]])}),
        ("boxes", {"boxes": np.array([[2**31, 0, 2**31 + 64, 64]])}),
        ("boxes", {"boxes": np.array([[2**30, 0, 2**30 + 64, 64]], np.int32)}),
        ("boxes", {"boxes": np.array([[-(2**31), 0, 2**31 - 1, 64]], np.int32)}),
    ],
)
def test_options_out_of_range_name_themselves(field, change):
    arguments = {"boxes": np.array([[0, 0, 64, 64]]), **change}
    with pytest.raises(OptionError) as caught:
        extract_patches(np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), bool), **arguments)
    assert caught.value.field == field

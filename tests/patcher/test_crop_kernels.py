from __future__ import annotations

import numpy as np
import pytest
import reference

from maskmend.patcher import ImageError, MaskError, OptionError, extract_patches
from maskmend.patcher.crops import FARTHEST, check_boxes

SIZES = [(6, 6, 0), (6, 12, 0), (6, 4, 0), (6, 9, 0), (6, 17, 0), (6, 1, 0), (1, 1, 0), (1, 2, 0), (1, 5, 0), (2, 6, 3)]
TALL = [(66, 66, 0), (64, 8, 1), (62, 13, 3), (130, 7, 0)]


@pytest.mark.parametrize(("patch", "size", "padding"), [*SIZES, *TALL])
def test_small_patches_are_those_of_opencv(patch: int, size: int, padding: int) -> None:
    rng = np.random.default_rng((patch, size, padding))
    for height, width in ((5, 7), (150, 3), (1, 1)):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        mask = rng.random((height, width)) < 0.5
        mask[: height // 3] = False
        corners = np.array(
            [[-2, -3], [1, 2], [width - 2, height - 3], [-patch - padding - 1, 0], [0, height + padding]]
        )
        boxes = np.hstack([corners, corners + patch])
        found = extract_patches(image, mask, boxes, size=size, padding=padding)
        expected = reference.patches(image, mask, boxes, size, padding)
        np.testing.assert_array_equal(found[:, 3], expected[:, 3])
        np.testing.assert_allclose(found[:, :3], expected[:, :3], rtol=0, atol=2e-5)


def test_the_result_may_be_written_where_it_is_wanted() -> None:
    image = np.random.default_rng(1).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    mask, boxes = np.eye(9, dtype=bool), np.array([[1, 1, 5, 5], [3, 2, 7, 6]])
    expected = extract_patches(image, mask, boxes, size=4)
    room = np.full((2, 4, 4, 4), np.nan, np.float32)
    assert extract_patches(image, mask, boxes, size=4, out=room) is room
    assert np.array_equal(room, expected)
    frozen = room.copy()
    frozen.flags.writeable = False
    gaps = np.empty((2, 4, 8, 4), np.float32)[:, :, ::2]
    for wrong in (room[:1], room.astype(np.float64), np.asfortranarray(room), frozen, gaps):
        with pytest.raises(OptionError, match=r"\(2, 4, 4, 4\)") as caught:
            extract_patches(image, mask, boxes, size=4, out=wrong)
        assert caught.value.field == "out"


def test_options_at_the_ends_of_their_range() -> None:
    image, mask, none = np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), bool), np.zeros((0, 4))
    assert extract_patches(image, mask, none, size=1, padding=0).shape == (0, 4, 1, 1)
    assert extract_patches(image, mask, none, size=2048, padding=512).shape == (0, 4, 2048, 2048)
    for options, field in (({"size": 2049}, "size"), ({"padding": 513}, "padding")):
        with pytest.raises(OptionError, match=str(next(iter(options.values())))) as caught:
            extract_patches(image, mask, none, **options)
        assert caught.value.field == field
    with pytest.raises(ImageError, match="uint8") as caught:
        extract_patches(image[..., :2], mask, none)
    assert caught.value.field == "image"
    for wrong in (np.ones((9, 8), bool), np.ones((8, 9), bool)):
        with pytest.raises(MaskError, match="9 x 9"):
            extract_patches(image, wrong, none)


def test_boxes_are_measured_when_they_are_checked() -> None:
    found = check_boxes(np.array([[5, 9, 8, 12], [-4, 20, -1, 23], [30, 1, 33, 4]]))
    assert (found.side, found.left, found.top, found.right, found.bottom) == (3, -4, 1, 33, 23)
    assert found.boxes.dtype == np.int32
    empty = check_boxes(np.zeros((0, 4)))
    assert (empty.boxes.shape, empty[1:]) == ((0, 4), (0, 0, 0, 0, 0))


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64, np.uint32])
def test_the_largest_and_the_farthest_boxes(kind: type) -> None:
    assert check_boxes(np.array([[0, 0, 1, 1]], kind)).side == 1
    assert check_boxes(np.array([[0, 0, 2048, 2048]], kind)).side == 2048
    first = [0, 0, 4, 4]
    for wrong in ([[0, 0, 2049, 2049]], [[1, 1, 1, 1]], [[0, 0, 4, 5]], [first, [0, 0, 5, 5]], [first, [0, 0, 4, 5]]):
        with pytest.raises(OptionError, match="squares of one size") as caught:
            check_boxes(np.array(wrong, kind))
        assert caught.value.field == "boxes"
    if kind is np.int16:
        return
    assert check_boxes(np.array([[FARTHEST - 5, 0, FARTHEST, 5]], kind)).right == FARTHEST
    assert check_boxes(np.array([[0, FARTHEST - 5, 5, FARTHEST]], kind)).bottom == FARTHEST
    far = [[FARTHEST - 4, 0, FARTHEST + 1, 5]], [[0, FARTHEST - 4, 5, FARTHEST + 1]]
    if kind is not np.uint32:
        assert check_boxes(np.array([[-FARTHEST, 0, 5 - FARTHEST, 5]], kind)).left == -FARTHEST
        assert check_boxes(np.array([[0, -FARTHEST, 5, 5 - FARTHEST]], kind)).top == -FARTHEST
        far = *far, [[-FARTHEST - 1, 0, 4 - FARTHEST, 5]], [[0, -FARTHEST - 1, 5, 4 - FARTHEST]]
    for wrong in far:
        with pytest.raises(OptionError, match="2\\*\\*20"):
            check_boxes(np.array(wrong, kind))


@pytest.mark.parametrize("boxes", [np.zeros((2, 5), int), np.zeros((2, 2, 4), int), np.ones((1, 4)), [["a"] * 4], None])
def test_what_are_no_boxes(boxes: object) -> None:
    with pytest.raises(OptionError, match=r"integers \[N, 4\]") as caught:
        check_boxes(boxes)  # type: ignore[arg-type]
    assert caught.value.field == "boxes"

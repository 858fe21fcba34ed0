from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskmend.patcher import MaskError, Rle, polygons_to_rle
from maskmend.patcher import outlines as module
from maskmend.patcher.outlines import outlines, trace

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))


@settings(max_examples=300, deadline=None)
@given(st.one_of(arrays(bool, SHAPES), arrays(bool, SHAPES, elements=st.sampled_from([True, True, True, False]))))
def test_outlines_rasterise_to_the_same_mask(dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    found = outlines(mask)
    assert len(found) == ndimage.label(dense)[1]
    if found:
        assert polygons_to_rle(found, *dense.shape) == mask


def test_coco_itself_makes_the_same_mask_of_them() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        dense = ndimage.gaussian_filter(rng.random((120, 160)), rng.uniform(1, 6)) > 0.5
        found = outlines(Rle.from_dense(dense))
        rles = coco_mask.frPyObjects(found, 120, 160)
        assert np.array_equal(coco_mask.decode(coco_mask.merge(rles)) > 0, dense)


def test_a_hole_is_cut_to_from_above_and_the_corners_are_few() -> None:
    dense = np.zeros((10, 12), bool)
    dense[1:9, 2:11] = True
    dense[4:6, 5:7] = False
    assert outlines(Rle.from_dense(dense)) == [
        [2, 1, 5, 1, 5, 4, 5, 6, 7, 6, 7, 4, 5, 4, 5, 1, 11, 1, 11, 9, 2, 9],
    ]
    assert outlines(Rle.from_dense(np.zeros((3, 3), bool))) == []


def test_as_many_loops_and_corners_as_there_are() -> None:
    # Single pixels: four corners each, and more than there is room for at first.
    for side in (15, 16, 17, 33):
        dense = np.zeros((2 * side + 1, 2 * side + 1), np.uint8)
        dense[1::2, 1::2] = 1
        corners, ends, owner = trace(dense)
        assert len(ends) == side**2
        assert ends.tolist() == list(range(4, 4 * side**2 + 1, 4))
        assert corners[:4].tolist() == [[1, 1], [2, 1], [2, 2], [1, 2]]
        assert corners[-4:].tolist() == [
            [2 * side - 1 + x, 2 * side - 1 + y] for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))
        ]
        # Above each pixel runs its own loop, and on the row below it the same one.
        wanted = np.full((2 * side + 2, 2 * side + 1), -1)
        wanted[1:-2:2, 1::2] = wanted[2:-1:2, 1::2] = np.arange(side**2).reshape(side, side)
        assert np.array_equal(owner, wanted)


def test_pixels_that_touch_by_a_corner_are_two_parts() -> None:
    dense = np.zeros((4, 4), np.uint8)
    dense[1, 1] = dense[2, 2] = 1
    _, ends, _ = trace(dense)
    assert ends.tolist() == [4, 8]
    assert outlines(Rle.from_dense(dense[1:3, 1:3])) == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]


def test_masks_too_ragged_for_polygons_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.zeros((7, 9), bool)
    dense[1:6, 1:8] = True
    dense[3, 3] = dense[3, 5] = False
    # Three loops of twelve corners in all.
    monkeypatch.setattr(module, "MAX_WORK", 36)
    assert len(outlines(Rle.from_dense(dense))) == 1
    monkeypatch.setattr(module, "MAX_WORK", 35)
    with pytest.raises(MaskError, match="3 outlines and holes") as caught:
        outlines(Rle.from_dense(dense))
    assert caught.value.field == "encoding"


def test_holes_below_holes_are_joined_into_one_polygon() -> None:
    dense = np.ones((12, 9), bool)
    for y in (2, 5, 8):
        dense[y, 2:7] = False
    dense[5, 4] = True
    mask = Rle.from_crop(dense, 30, 40, 11, 7)
    (polygon,) = outlines(mask)
    assert polygons_to_rle([polygon], 30, 40) == mask
    corners = np.array(polygon).reshape(-1, 2)
    assert corners.min(0).tolist() == [11, 7]
    assert corners.max(0).tolist() == [20, 19]
    # Four corners of the outline, each hole's corners and its first once more, and the cut's end twice.
    assert len(corners) == 4 + 3 * 4 + 4 + 4 * 3

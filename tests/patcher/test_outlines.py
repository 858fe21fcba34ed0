from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.outlines import outlines

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

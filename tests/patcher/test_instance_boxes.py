from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import Rle, boundary_boxes
from maskmend.patcher.errors import OptionError
from maskmend.patcher.instance_boxes import TILE, instance_boxes


def rectangle(height: int, width: int, x: int, y: int, w: int, h: int) -> Rle:
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    return Rle.from_dense(mask)


@settings(deadline=None, max_examples=60)
@given(st.integers(60, 400), st.integers(60, 400), st.data())
def test_a_small_instance_gets_one_box_with_a_margin(height: int, width: int, data: st.DataObject) -> None:
    w, h = data.draw(st.integers(1, min(160, width))), data.draw(st.integers(1, min(160, height)))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    ((x0, y0, x1, y1),) = instance_boxes(rectangle(height, width, x, y, w, h))
    assert x1 - x0 == y1 - y0 >= 48
    assert x0 <= x <= x + w <= x1
    assert y0 <= y <= y + h <= y1
    for low, high, side, begin, length in ((x0, x1, width, x, w), (y0, y1, height, y, h)):
        # Within the frame where that is large enough; there the margin is cut short by the frame alone.
        assert low >= 0
        assert high <= side or low == 0
        assert begin - low >= 12 or low == 0 or high == side
        assert high - begin - length >= 12 or low == 0 or high >= side


def test_a_large_instance_is_tiled_along_its_boundary() -> None:
    mask = rectangle(900, 1200, 100, 100, 900, 600)
    boxes = instance_boxes(mask)
    assert np.array_equal(boxes, boundary_boxes(mask, patch=TILE))
    whole = instance_boxes(mask, tiled=False)
    assert whole.shape == (1, 4)
    assert whole[0, 2] - whole[0, 0] == 1170


def test_an_empty_mask_has_none() -> None:
    assert instance_boxes(np.zeros((40, 50), bool)).shape == (0, 4)


@pytest.mark.parametrize("tile", [47, 46, 2000, 99, True])
def test_tiles_out_of_range(tile: int) -> None:
    with pytest.raises(OptionError):
        instance_boxes(np.ones((40, 50), bool), tile=tile)

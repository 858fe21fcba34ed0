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


@pytest.mark.parametrize(
    ("longest", "side"),
    # Too small for the least side; the least margin; 15 % of it, rounded; as large as a tile allows.
    [(1, 48), (24, 48), (25, 49), (60, 84), (80, 104), (83, 107), (84, 110), (100, 130), (172, 224)],
)
def test_the_margin_in_numbers(longest: int, side: int) -> None:
    for w, h in ((longest, 1), (1, longest), (longest, longest)):
        assert instance_boxes(rectangle(800, 900, 300, 200, w, h)).tolist() == [
            [300 + (w - side) // 2, 200 + (h - side) // 2, 300 + (w - side) // 2 + side, 200 + (h - side) // 2 + side]
        ]


def test_the_sizes_at_which_it_takes_tiles() -> None:
    assert len(instance_boxes(rectangle(800, 900, 300, 200, 172, 10))) == 1
    larger = rectangle(800, 900, 300, 200, 173, 10)
    assert np.array_equal(instance_boxes(larger), boundary_boxes(larger, patch=224))
    assert np.array_equal(instance_boxes(larger, nms=0.6), boundary_boxes(larger, patch=224, nms=0.6))
    assert instance_boxes(larger, tiled=False)[0].tolist() == [274, 92, 499, 317]
    assert instance_boxes(larger, tile=226)[0].tolist() == [274, 92, 499, 317]
    assert np.array_equal(instance_boxes(larger, tile=48), boundary_boxes(larger, patch=48))
    # Whatever the detail costs, up to 2,048 px.
    long = rectangle(60, 2200, 0, 0, 1576, 10)
    assert instance_boxes(long, tiled=False).tolist() == [[0, 0, 2048, 2048]]
    longer = rectangle(60, 2200, 0, 0, 1577, 10)
    assert np.array_equal(instance_boxes(longer, tiled=False), boundary_boxes(longer, patch=1024))
    assert np.array_equal(instance_boxes(longer, nms=0.6, tiled=False), boundary_boxes(longer, patch=1024, nms=0.6))


def test_a_box_is_shifted_into_the_frame() -> None:
    assert instance_boxes(rectangle(200, 300, 0, 0, 10, 10)).tolist() == [[0, 0, 48, 48]]
    assert instance_boxes(rectangle(200, 300, 290, 190, 10, 10)).tolist() == [[252, 152, 300, 200]]
    # A frame smaller than the box begins where the box does.
    assert instance_boxes(rectangle(30, 40, 5, 5, 20, 20)).tolist() == [[0, 0, 48, 48]]


def test_tiles_at_the_ends_of_their_range() -> None:
    mask = rectangle(200, 300, 100, 100, 10, 10)
    for tile in (48, 1024):
        assert instance_boxes(mask, tile=tile).tolist() == [[81, 81, 129, 129]]
    for tile in (1026, 0, -48, 64.0, None):
        with pytest.raises(OptionError, match="48 to 1024") as caught:
            instance_boxes(mask, tile=tile)  # type: ignore[arg-type]
        assert caught.value.field == "tile"
    empty = instance_boxes(np.zeros((40, 50), bool))
    assert empty.dtype == np.int32

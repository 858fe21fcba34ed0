"""What is measured of an instance, and how it is cut out."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmend.clients.formats.base import Instance
from maskmend.clients.report.crops import MASK_SIDE, cut, window
from maskmend.clients.report.histograms import histogram, steps
from maskmend.clients.report.items import LIMIT, SIDE, About, measure
from maskmend.patcher import Rle


def box(height: int, width: int, x: int, y: int, w: int, h: int) -> Rle:
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    return Rle.from_dense(mask)


masks = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1)).map(
    lambda t: tuple(np.random.default_rng(t[2]).random((2, t[0], t[1])) > 0.5)
)


@given(masks)
def test_figures_are_those_of_the_dense_masks(pair: tuple[np.ndarray, np.ndarray]) -> None:
    before, after = pair
    figures = measure(Rle.from_dense(before), Rle.from_dense(after))
    assert figures.changed == (before != after).sum()
    assert figures.area == after.sum()
    assert (figures.farthest > 0) == (figures.changed > 0)
    if before.any() and figures.changed:
        around = np.pad(before, 1).astype(np.uint8)
        edge = (cv2.dilate(around, np.ones((3, 3), np.uint8)) != around).sum()
        assert figures.shift == pytest.approx((int(after.sum()) - int(before.sum())) / edge)


def test_a_box_that_grows_by_a_pixel_on_each_side_shifts_by_about_one() -> None:
    figures = measure(box(60, 80, 20, 20, 30, 20), box(60, 80, 19, 19, 32, 22))
    assert figures.shift == pytest.approx(1.0)
    assert figures.farthest == pytest.approx(2**0.5)
    assert measure(box(60, 80, 20, 20, 30, 20), box(60, 80, 21, 21, 28, 18)).shift == pytest.approx(-96 / 104)


def test_an_empty_mask_has_figures_too() -> None:
    empty, full = box(10, 12, 0, 0, 0, 0), box(10, 12, 0, 0, 12, 10)
    assert measure(empty, empty).changed == 0
    assert measure(empty, full).shift == 0
    assert window([empty, empty]) == (0, 0, 12, 10)


@given(masks, st.integers(1, 200))
def test_a_crop_holds_its_masks_whole(pair: tuple[np.ndarray, np.ndarray], side: int) -> None:
    height, width = pair[0].shape
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    named = {"before": Rle.from_dense(pair[0]), "after": Rle.from_dense(pair[1])}
    crop = cut(image, named, side)
    x, y, w, h = crop["at"]
    assert crop["size"] == [w, h]
    for name, mask in named.items():
        dense = np.zeros((height, width), bool)
        dense[y : y + h, x : x + w] = Rle.from_coco({"size": [h, w], "counts": crop["masks"][name]}).to_dense()
        np.testing.assert_array_equal(dense, mask.to_dense())
    photo = cv2.imdecode(np.frombuffer(base64.b64decode(crop["photo"]), np.uint8), cv2.IMREAD_COLOR)
    assert max(photo.shape[:2]) == min(side, max(w, h))


def test_a_photograph_keeps_its_colours_and_its_place() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[50:100, 100:180] = (200, 30, 10)
    crop = cut(image, {"before": box(200, 300, 100, 50, 80, 50)}, SIDE)
    assert crop["at"] == [88, 38, 104, 74]
    photo = cv2.imdecode(np.frombuffer(base64.b64decode(crop["photo"]), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(photo[30:50, 30:70].astype(int) - (200, 30, 10)).max() < 12
    assert photo[:8].max() < 30


def test_masks_beyond_the_limit_are_scaled_down_in_shape() -> None:
    crop = cut(np.zeros((200, 5000, 3), np.uint8), {"before": box(200, 5000, 0, 50, 5000, 100)}, 512)
    assert crop["at"] == [0, 0, 5000, 200]
    assert crop["size"] == [MASK_SIDE, 82]
    mask = Rle.from_coco({"size": [82, MASK_SIDE], "counts": crop["masks"]["before"]}).to_dense()
    assert mask.mean() == pytest.approx(0.5, abs=0.01)


@given(st.lists(st.floats(-100, 100), max_size=50))
def test_every_value_is_counted_once(values: list[float]) -> None:
    made = histogram("t", "px", values, steps(-4, 4, 32))
    assert sum(made.counts) == len(values)
    assert len(made.edges) == len(made.counts) + 1
    assert made.counts[0] >= sum(value < -4 for value in values)


def test_bins_hold_their_lower_edge() -> None:
    made = histogram("t", "px", [0.0, 1.0, 1.99, 2.0, 20.0, 99.0], steps(0, 20, 20))
    assert made.counts[:3] == [1, 2, 1]
    assert made.counts[-1] == 2


def test_a_category_without_a_name_has_that_of_its_id() -> None:
    about = About("t", labels={3: "disk"})
    assert about.label(Instance("a.jpg", "cat", fields={"category_id": 3})) == "cat"
    assert about.label(Instance("a.jpg", fields={"category_id": 3})) == "disk"
    assert about.label(Instance("a.jpg", fields={"category_id": 4})) == "category 4"
    assert about.label(Instance("a.jpg")) == ""


def test_the_command_has_the_defaults_of_the_report() -> None:
    import inspect

    from maskmend.clients.cli.view import view

    parameters = inspect.signature(view).parameters
    assert (parameters["limit"].default.default, parameters["side"].default.default) == (LIMIT, SIDE)
    assert parameters["output"].default.default == Path("report")

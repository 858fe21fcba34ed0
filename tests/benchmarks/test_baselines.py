"""The baselines do what their names say: they are only worth comparing with when they work."""

from __future__ import annotations

from types import ModuleType

import cv2
import numpy as np
import pytest
from benchmark_scripts import loader

from maskmend.patcher import Rle
from maskmend.patcher.metrics import iou


@pytest.fixture(scope="module")
def baselines() -> ModuleType:
    return loader("quality")("baselines")


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A bright disk with some noise on dark ground, and its mask."""
    rng = np.random.default_rng(0)
    truth = np.zeros((140, 180), np.uint8)
    cv2.circle(truth, (85, 70), 42, 1, -1)
    image = np.where(truth[..., None] > 0, 190, 50) + rng.normal(0, 6, (140, 180, 3))
    return np.clip(image, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("name", ["grabcut", "densecrf", "guided", "geodesic", "walker"])
def test_those_that_look_at_the_image_find_its_edge(baselines: ModuleType, name: str) -> None:
    if not baselines.available(name):
        pytest.skip(f"{baselines.NEEDS[name]} is not installed (the bench extra)")
    image, truth = scene()
    coarse = cv2.dilate(truth, np.ones((7, 7), np.uint8))
    refined, seconds = baselines.refine(image, Rle.from_dense(coarse), name)
    again, _ = baselines.refine(image, Rle.from_dense(coarse), name)
    assert refined == again
    assert seconds > 0
    assert iou(refined.to_dense(), truth) > iou(coarse, truth) + 0.02


@pytest.mark.parametrize("name", ["smooth", "morph"])
def test_smoothing_removes_specks(baselines: ModuleType, name: str) -> None:
    image, truth = scene()
    coarse = truth.copy()
    coarse[20, 20] = 1
    coarse[70, 85] = 0
    refined = baselines.refine(image, Rle.from_dense(coarse), name)[0].to_dense()
    assert not refined[20, 20]
    assert iou(refined, truth) > 0.98


NAMES = ["grabcut", "densecrf", "guided", "geodesic", "walker", "smooth", "morph"]


def usable(baselines: ModuleType, name: str) -> str:
    if not baselines.available(name):
        pytest.skip(f"{baselines.NEEDS[name]} is not installed (the bench extra)")
    return name


def test_all_are_tested(baselines: ModuleType) -> None:
    assert sorted(baselines.BASELINES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_of_the_same_frame_comes_back_the_same_each_time(baselines: ModuleType, name: str) -> None:
    method = baselines.BASELINES[usable(baselines, name)]
    image, truth = scene()
    given = cv2.dilate(truth, np.ones((9, 9), np.uint8)) > 0
    kept = given.copy()
    found = method(image, given)
    assert found.dtype == np.bool_
    assert found.shape == given.shape
    assert np.array_equal(given, kept)
    assert np.array_equal(found, method(image, given))


@pytest.mark.parametrize("name", NAMES)
def test_masks_with_nothing_to_refine_come_back(baselines: ModuleType, name: str) -> None:
    method = baselines.BASELINES[usable(baselines, name)]
    image, truth = scene()
    speck = np.zeros(truth.shape, np.bool_)
    speck[50, 60:62] = True
    for mask in (np.zeros(truth.shape, np.bool_), np.ones(truth.shape, np.bool_), speck, ~speck):
        assert np.array_equal(method(image, mask), mask)
        assert baselines.refine(image, Rle.from_dense(mask), name)[0] == Rle.from_dense(mask)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [1, 2, 3, 6, 12])
def test_small_and_thin_objects_never_raise(baselines: ModuleType, name: str, side: int) -> None:
    method = baselines.BASELINES[usable(baselines, name)]
    image, truth = scene()
    for box in (np.s_[40 : 40 + side, 60 : 60 + side], np.s_[:, :side], np.s_[:side]):
        mask = np.zeros(truth.shape, np.bool_)
        mask[box] = True
        assert method(image, mask).any()
        assert method(np.zeros_like(image), mask).any()


def test_a_method_that_fails_says_so_and_keeps_the_mask(baselines: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "BASELINES", {})

    @baselines.baseline
    def broken(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise ValueError("no answer")

    image, truth = scene()
    with pytest.warns(RuntimeWarning, match="broken failed, mask kept: no answer"):
        assert np.array_equal(broken(image, truth > 0), truth > 0)

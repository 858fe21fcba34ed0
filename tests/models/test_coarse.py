from __future__ import annotations

import cv2
import numpy as np
import pytest

from maskmend.models.training.coarse import KINDS, degrade
from maskmend.patcher.errors import OptionError


def object_mask(size: int = 300) -> np.ndarray:
    picture = np.zeros((size, size + 60), np.uint8)
    cv2.ellipse(picture, (150, 140), (90, 60), 25, 0, 360, 1, -1)
    cv2.line(picture, (150, 140), (280, 250), 1, 12)
    cv2.circle(picture, (140, 140), 18, 0, -1)
    return picture != 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("kind", [*KINDS, "shift", "swell", "specks"])
def test_each_kind_is_coarse_but_near(kind: str) -> None:
    mask = object_mask()
    scores = [iou(degrade(mask, kind, np.random.default_rng(seed)), mask) for seed in range(8)]
    assert 0.7 < np.mean(scores) < 0.999
    assert len(set(scores)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_mask(kind: str) -> None:
    mask = object_mask()
    first, second = (degrade(mask, kind, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [(slice(0, 1), slice(0, 1)), (slice(0, 40), slice(5, 6)), (slice(None), slice(None))])
def test_odd_masks_survive(kind: str, place: tuple[slice, slice]) -> None:
    mask = np.zeros((40, 30), bool)
    mask[place] = True
    made = degrade(mask, kind, np.random.default_rng(0))
    assert made.shape == mask.shape
    assert made.any()


def test_an_empty_mask_stays_empty() -> None:
    assert not degrade(np.zeros((20, 20), bool), "rcnn28", np.random.default_rng(0)).any()


def test_the_yolo_kind_knows_the_frame() -> None:
    """A quarter of a 640 px input is a cell of 4 px in a 640 px frame and of 12 px in a 1920 px frame."""
    mask = object_mask()
    large = np.zeros((1920, 1920), bool)
    large[:300, :360] = mask
    small = np.zeros((640, 640), bool)
    small[:300, :360] = mask
    fine = np.mean([iou(degrade(small, "yolo", np.random.default_rng(s)), small) for s in range(5)])
    coarse = np.mean([iou(degrade(large, "yolo", np.random.default_rng(s)), large) for s in range(5)])
    assert coarse < fine


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(OptionError, match="blur"):
        degrade(object_mask(), "blur", np.random.default_rng(0))

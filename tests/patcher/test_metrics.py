from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskmend.patcher.metrics import boundary, boundary_f, instance_metrics, iou, mba


def blob(shift: int = 0, size: int = 90) -> np.ndarray:
    rows, columns = np.indices((size, size))
    return (rows - 45) ** 2 + (columns - 45 - shift) ** 2 < 25**2


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def plain_f(mask: np.ndarray, truth: np.ndarray, radius: int) -> float:
    a, b = plain_boundary(mask), plain_boundary(truth)
    near_b = ndimage.distance_transform_edt(~b) <= radius
    near_a = ndimage.distance_transform_edt(~a) <= radius
    precision, recall = (a & near_b).sum() / a.sum(), (b & near_a).sum() / b.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_mba(mask: np.ndarray, truth: np.ndarray, largest: float) -> float:
    scores = []
    for radius in np.linspace(1, largest, 5):
        inside = ndimage.distance_transform_edt(np.pad(truth, 40, mode="edge"))[40:-40, 40:-40]
        outside = ndimage.distance_transform_edt(np.pad(~truth, 40, mode="edge"))[40:-40, 40:-40]
        band = np.where(truth, inside, outside) <= int(radius)
        scores.append((mask == truth)[band].mean())
    return float(np.mean(scores))


@pytest.mark.parametrize("shift", [0, 1, 2, 5, 40])
def test_parity_with_plain_definitions(shift: int) -> None:
    mask, truth = blob(shift), blob()
    assert np.array_equal(boundary(mask) != 0, plain_boundary(mask))
    for radius in (1, 3):
        assert boundary_f(mask, truth, radius) == pytest.approx(plain_f(mask, truth, radius))
    assert iou(mask, truth) == pytest.approx((mask & truth).sum() / (mask | truth).sum())
    assert mba(mask, truth, frame=(600, 900)) == pytest.approx(plain_mba(mask, truth, 5.0))


def test_the_right_mask_scores_one() -> None:
    assert set(instance_metrics(blob(), blob()).values()) == {1.0}


def test_empty_masks() -> None:
    empty = np.zeros((30, 30), bool)
    assert set(instance_metrics(empty, empty).values()) == {1.0}
    assert iou(empty, blob()[:30, :30] | True) == 0
    assert boundary_f(empty, np.ones((30, 30), bool), 1) == 0


def test_a_crop_scores_as_the_frame_does() -> None:
    mask, truth = blob(2), blob()
    whole = instance_metrics(mask, truth)
    crop = instance_metrics(mask[10:80, 10:80], truth[10:80, 10:80], frame=truth.shape)
    assert crop == pytest.approx(whole)

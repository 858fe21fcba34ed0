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


def row(*columns: int) -> np.ndarray:
    mask = np.zeros((30, 40), bool)
    mask[15, list(columns)] = True
    return mask


def test_the_tolerance_of_boundary_f_is_euclidean_and_inclusive() -> None:
    one = row(10)
    for radius in (1, 2, 3):
        for shift in range(1, 5):
            assert boundary_f(one, row(10 + shift), radius) == (1.0 if shift <= radius else 0.0)
    slanted = np.zeros((30, 40), bool)
    slanted[17, 12] = True
    # 2 * sqrt(2) px away.
    assert boundary_f(one, slanted, 2) == 0.0
    assert boundary_f(one, slanted, 3) == 1.0


def test_boundary_f_is_the_harmonic_mean_of_both_shares() -> None:
    # Of three pixels one is right; all of the truth is found: precision 1/3, recall 1.
    assert boundary_f(row(5, 15, 25), row(15), 1) == pytest.approx(0.5)
    assert boundary_f(row(15), row(5, 15, 25), 1) == pytest.approx(0.5)
    # Precision 1/2, recall 1/4.
    assert boundary_f(row(5, 15), row(15, 20, 25, 30), 1) == pytest.approx(1 / 3)
    assert boundary_f(row(5), row(30), 1) == 0.0
    assert boundary_f(row(5), np.zeros((30, 40), bool), 1) == 0.0


def test_f_of_an_instance_is_at_one_and_at_three_pixels() -> None:
    for shift, f1, f3 in ((1, 1.0, 1.0), (2, 0.0, 1.0), (3, 0.0, 1.0), (4, 0.0, 0.0)):
        found = instance_metrics(row(10), row(10 + shift))
        assert list(found) == ["iou", "f1px", "f3px", "mba"]
        assert (found["iou"], found["f1px"], found["f3px"]) == (0.0, f1, f3)


def test_iou_counts_pixels_of_any_value() -> None:
    assert iou(row(1, 2, 3), row(2, 3, 4, 5)) == pytest.approx(2 / 5)
    assert iou(row(1, 2).astype(np.uint8) * 7, row(1, 2)) == 1.0


@pytest.mark.parametrize("frame", [(100, 80), (300, 150), (450, 450), (1200, 900)])
def test_bands_grow_with_the_frame(frame: tuple[int, int]) -> None:
    mask, truth = blob(3), blob()
    largest = max(1.0, sum(frame) / 300)
    assert mba(mask, truth, frame=frame) == pytest.approx(plain_mba(mask, truth, largest))
    wide = np.pad(mask, ((0, frame[0] - 90), (0, 0))) if frame[0] > 90 else mask
    same = np.pad(truth, ((0, frame[0] - 90), (0, 0))) if frame[0] > 90 else truth
    assert mba(wide, same) == pytest.approx(plain_mba(wide, same, max(1.0, (frame[0] + 90) / 300)))


def test_a_truth_without_a_boundary_asks_for_nothing() -> None:
    for truth in (np.zeros((30, 40), bool), np.ones((30, 40), bool)):
        assert mba(row(3), truth) == 1.0


def test_the_frame_is_outside_of_a_mask() -> None:
    assert boundary(np.ones((4, 5), bool)).tolist() == plain_boundary(np.ones((4, 5), bool)).tolist()
    assert boundary(np.ones((4, 5), bool)).dtype == np.uint8
    assert boundary(np.ones((4, 5), np.uint8) * 9).sum() == 14

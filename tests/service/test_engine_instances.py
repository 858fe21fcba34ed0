"""The engine with refiners that look at whole instances, not at patches of one size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from maskmend.patcher import Rle
from maskmend.patcher.evidence import CHANGE_WEIGHTS, DEFAULT_CALIBRATION, INSTANCE_WEIGHTS, Calibration
from maskmend.patcher.instance_boxes import instance_boxes
from maskmend.service import Engine, EngineOptions


class InstanceOracle:
    """Says of each crop what is bright in it, on a grid of half the crop's size."""

    patch, input_size, padding = 112, 224, 0

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.provenance: dict[str, str | int | float] = {"weights": "oracle"}
        self.calibration = DEFAULT_CALIBRATION

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> np.ndarray:
        return instance_boxes(mask, tile=self.input_size, nms=nms, tiled=tiles)

    def forward(self, patches: np.ndarray) -> np.ndarray:
        self.calls.append(len(patches))
        red = patches[:, 0] * 58.395 + 123.675
        return np.stack([cv2.resize(each, (112, 112), interpolation=cv2.INTER_AREA) for each in red]).clip(0, 255) / 255


def scene(size: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]) -> tuple[np.ndarray, Rle, Rle]:
    """An ellipse that is bright in red; the ellipse; and a coarse mask of it, shifted by a few px."""
    rows, columns = np.indices(size)
    truth = ((columns - centre[0]) / axes[0]) ** 2 + ((rows - centre[1]) / axes[1]) ** 2 < 1
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = np.where(truth, 255, 0)
    shift = np.float32([[1, 0, 4], [0, 1, -3]])
    coarse = cv2.warpAffine(truth.astype(np.uint8), shift, size[::-1]) > 0
    return image, Rle.from_dense(truth), Rle.from_dense(coarse)


def iou(one: Rle, other: Rle) -> float:
    a, b = one.to_dense(), other.to_dense()
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    ("size", "centre", "axes"),
    [
        ((300, 400), (200, 150), (60, 40)),
        ((300, 400), (20, 30), (40, 60)),
        ((120, 90), (45, 60), (30, 50)),
        ((40, 60), (30, 20), (12, 9)),
        ((900, 1200), (600, 450), (450, 300)),
        ((200, 900), (450, 100), (400, 60)),
    ],
)
def test_an_oracle_repairs_instances_of_every_size(
    size: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]
) -> None:
    image, truth, coarse = scene(size, centre, axes)
    refiner = InstanceOracle()
    (result,) = Engine(refiner, EngineOptions(passes=1, caution=0.0)).refine_image(image, [coarse])
    # Its grid has two px to the cell where a box is as large as the network's input.
    assert iou(result.mask, truth) > max(0.97, iou(coarse, truth) + 0.5 * (1 - iou(coarse, truth)))
    assert result.patches == sum(refiner.calls)


def test_instances_of_several_sizes_share_a_batch() -> None:
    image, first, coarse = scene((300, 400), (100, 150), (60, 40))
    more, second, other = scene((300, 400), (300, 150), (30, 80))
    refiner = InstanceOracle()
    engine = Engine(refiner, EngineOptions(passes=1, caution=0.0))
    together = engine.refine_image(np.maximum(image, more), [coarse, other])
    assert refiner.calls == [2]
    assert min(iou(together[0].mask, first), iou(together[1].mask, second)) > 0.97
    alone = engine.refine_image(np.maximum(image, more), [other])
    assert alone[0].mask == together[1].mask


def test_the_guard_holds_here_too() -> None:
    image, truth, coarse = scene((300, 400), (200, 150), (60, 40))
    far = image.copy()
    far[200:260, 40:90, 0] = 255
    (result,) = Engine(InstanceOracle(), EngineOptions(caution=0.0, reach=6)).refine_image(far, [coarse])
    assert result.mask.crop(40, 230, 90, 260).sum() == 0
    assert iou(result.mask, truth) > 0.95


def test_a_large_instance_is_seen_whole_when_tiles_are_off() -> None:
    image, truth, coarse = scene((900, 1200), (600, 450), (450, 300))
    results = {}
    for tiles in (True, False):
        oracle = InstanceOracle()
        engine = Engine(oracle, EngineOptions(tiles=tiles, passes=1, guard=False))
        results[tiles] = iou(engine.refine_image(image, [coarse])[0].mask, truth)
        assert (sum(oracle.calls) > 1) is tiles
        assert engine.provenance["tiles"] == int(tiles)
    # Cells of a crop that is made smaller are larger.
    assert results[True] > results[False] > iou(coarse, truth)


@pytest.mark.parametrize(("strength", "moves"), [(0.0, True), (0.3, False)])
def test_how_far_a_refiner_is_held_back_comes_with_its_weights(strength: float, moves: bool) -> None:
    image, _, coarse = scene((300, 400), (200, 150), (60, 40))
    oracle = InstanceOracle()
    oracle.calibration = Calibration(CHANGE_WEIGHTS, INSTANCE_WEIGHTS, strength)
    # Sure of what it says, but not very.
    image[..., 0] = np.where(image[..., 0] > 0, 0.7 * 255, 0.3 * 255)
    result = Engine(oracle, EngineOptions(caution=0.0)).refine_image(image, [coarse])[0]
    assert (result.changed_pixels > 0) is moves

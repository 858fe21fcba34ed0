from __future__ import annotations

import time

import numpy as np
import pytest

from maskmend.models import load_refiner
from maskmend.patcher import Rle, boundary_boxes, extract_patches, reassemble
from maskmend.patcher.errors import ImageError, MaskError, OptionError
from maskmend.patcher.evidence import DEFAULT_CALIBRATION
from maskmend.patcher.field import fade
from maskmend.patcher.guard import ALREADY_RIGHT, changed_pixels
from maskmend.service import Engine, EngineOptions, StageTimes
from maskmend.service.engine import EMPTY_MASK, FULL_MASK


class OracleRefiner:
    """Answers with the true mask, whatever the image."""

    patch, padding = 64, 0

    def __init__(self, truth: np.ndarray, size: int = 64, padding: int = 0) -> None:
        self.truth, self.input_size, self.padding = truth, size, padding
        self.calls: list[int] = []
        self.provenance: dict[str, str | int | float] = {"weights": "oracle"}
        self.calibration = DEFAULT_CALIBRATION

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> np.ndarray:
        return boundary_boxes(mask, patch=self.patch, nms=nms)

    def forward(self, patches: np.ndarray) -> np.ndarray:
        self.calls.append(len(patches))
        # The image is made so that its red channel says which pixel of the frame a patch pixel is.
        step = self.input_size / (self.patch + 2 * self.padding)
        places = ((np.arange(self.patch) + self.padding + 0.5) * step).astype(int)
        red = patches[:, 0][:, places[:, None], places] * 58.395 + 123.675
        return (np.round(red) > 127).astype(np.float32)


def scene(size: tuple[int, int] = (200, 260)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image whose red channel is bright on the object, the object, and a coarse mask of it."""
    rows, columns = np.indices(size)
    truth = (rows - 100) ** 2 / 60**2 + (columns - 120) ** 2 / 80**2 < 1
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = np.where(truth, 250, 5)
    return image, truth, np.roll(truth, (4, -5), (0, 1))


def real_case(count: int = 6) -> tuple[np.ndarray, list[Rle]]:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 255, (240, 320, 3), np.uint8)
    rows, columns = np.indices((240, 320))
    masks = []
    for _ in range(count):
        y, x = rng.uniform(20, 220), rng.uniform(20, 300)
        r = rng.uniform(8, 70)
        disk = (rows - y) ** 2 + (columns - x) ** 2 < r**2
        image[disk] = image[disk] // 3 + rng.integers(0, 160, 3, np.uint8)
        masks.append(Rle.from_dense(np.roll(disk, (2, 3), (0, 1))))
    return image, masks


def test_an_oracle_repairs_the_mask_through_the_whole_pipeline() -> None:
    image, truth, coarse = scene()
    engine = Engine(OracleRefiner(truth), EngineOptions(nms=0.55))
    (result,) = engine.refine_image(image, [Rle.from_dense(coarse)])
    refined = result.mask.to_dense()
    assert (refined & truth).sum() / (refined | truth).sum() > 0.995
    assert result.abstained is None
    assert result.changed_pixels == (refined != coarse).sum()


@pytest.mark.parametrize(("size", "padding"), [(128, 0), (64, 8), (160, 8)])
def test_other_input_sizes_and_context_find_the_same_mask(size: int, padding: int) -> None:
    image, truth, coarse = scene()
    plain = Engine(OracleRefiner(truth)).refine_image(image, [Rle.from_dense(coarse)])[0].mask.to_dense()
    other = Engine(OracleRefiner(truth, size, padding)).refine_image(image, [Rle.from_dense(coarse)])[0].mask.to_dense()
    assert (plain & other).sum() / (plain | other).sum() > 0.99


def test_it_is_boxes_crops_network_and_reassembly() -> None:
    image, masks = real_case(3)
    refiner = load_refiner(threads=1)
    results = Engine(refiner, EngineOptions(guard=False, passes=1, arbitrate=False)).refine_image(image, masks)
    for mask, result in zip(masks, results, strict=True):
        boxes = boundary_boxes(mask)
        patches = extract_patches(image, mask, boxes, size=refiner.input_size, padding=refiner.padding)
        assert result.mask == reassemble(mask, boxes, fade(refiner.forward(patches)))
        assert result.patches == len(boxes)


def test_batch_size_order_and_company_do_not_change_a_mask() -> None:
    image, masks = real_case()
    refiner = load_refiner(threads=1)
    wanted = [r.mask for r in Engine(refiner).refine_image(image, masks)]
    assert any(a != b for a, b in zip(wanted, masks, strict=True))
    for batch_size in (1, 7, 500):
        assert [r.mask for r in Engine(refiner, batch_size=batch_size).refine_image(image, masks)] == wanted
    assert [r.mask for r in Engine(refiner).refine_image(image, masks[::-1])] == wanted[::-1]
    alone = Engine(refiner, EngineOptions(arbitrate=False))
    wanted = [r.mask for r in alone.refine_image(image, masks)]
    assert [alone.refine_image(image, [mask])[0].mask for mask in masks] == wanted


def test_neighbours_never_take_the_same_pixel() -> None:
    rows, columns = np.indices((160, 220))
    truth = (rows > 40) & (rows < 120) & (columns > 40) & (columns < 180)
    image = np.zeros((160, 220, 3), np.uint8)
    image[..., 0] = np.where(truth, 250, 5)
    left, right = truth & (columns < 108), truth & (columns > 112)
    coarse = [Rle.from_dense(np.asarray(mask)) for mask in (left, right)]
    free, settled = (
        Engine(OracleRefiner(truth), EngineOptions(arbitrate=on)).refine_image(image, coarse) for on in (False, True)
    )
    shared = free[0].mask.to_dense() & free[1].mask.to_dense()
    assert shared.any(), "both should want the gap between them"
    assert not (settled[0].mask.to_dense() & settled[1].mask.to_dense()).any()
    assert sum(r.undone.get("arbitrate", 0) for r in settled) == shared.sum()
    assert all(r.changed_pixels == changed_pixels(c, r.mask) for r, c in zip(settled, coarse, strict=True))


def test_many_instances_are_held_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    image, masks = real_case()
    refiner = load_refiner(threads=1)
    wanted = [r.mask for r in Engine(refiner).refine_image(image, masks)]
    monkeypatch.setattr("maskmend.service.engine.GROUP", 10)
    assert [r.mask for r in Engine(refiner).refine_image(image, masks)] == wanted


def test_empty_and_full_masks_abstain_without_network_work() -> None:
    image, truth, _ = scene()
    refiner = OracleRefiner(truth)
    masks = [Rle.from_dense(np.zeros(truth.shape, bool)), Rle.from_dense(np.ones(truth.shape, bool))]
    results = Engine(refiner).refine_image(image, masks)
    assert [r.abstained for r in results] == [EMPTY_MASK, FULL_MASK]
    assert [r.mask for r in results] == masks
    assert refiner.calls == []


def test_a_mask_that_is_right_is_left_alone() -> None:
    image, truth, _ = scene()
    (result,) = Engine(OracleRefiner(truth)).refine_image(image, [Rle.from_dense(truth)])
    assert result.abstained == ALREADY_RIGHT
    assert result.mask == Rle.from_dense(truth)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (40, 30), (63, 200), (64, 64)])
def test_images_smaller_than_a_patch_work(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random(shape) > 0.5
    mask[0, 0] = True
    (result,) = Engine(load_refiner(threads=1)).refine_image(
        rng.integers(0, 255, (*shape, 3), np.uint8), [Rle.from_dense(mask)]
    )
    assert result.mask.to_dense().shape == shape


def test_a_second_pass_goes_on_from_the_first() -> None:
    image, truth, coarse = scene()
    refiner = OracleRefiner(truth)
    (result,) = Engine(refiner, EngineOptions(passes=2)).refine_image(image, [Rle.from_dense(coarse)])
    assert len(refiner.calls) >= 2
    refined = result.mask.to_dense()
    assert (refined & truth).sum() / (refined | truth).sum() > 0.99


def test_patches_of_a_ragged_mask_are_held_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    image, masks = real_case(3)
    refiner = load_refiner(threads=1)
    wanted = [r.mask for r in Engine(refiner, EngineOptions(nms=0.6)).refine_image(image, masks)]
    monkeypatch.setattr("maskmend.service.engine.GROUP", 5)
    sizes = []
    forward = refiner.forward
    monkeypatch.setattr(refiner, "forward", lambda patches: (sizes.append(len(patches)), forward(patches))[1])
    assert [r.mask for r in Engine(refiner, EngineOptions(nms=0.6)).refine_image(image, masks)] == wanted
    assert max(sizes) == 5


def test_stage_times_add_up() -> None:
    image, masks = real_case(2)
    engine = Engine(load_refiner(threads=1))
    engine.refine_image(image, masks)
    assert engine.stages.seconds["network"] > 0
    assert engine.stages.total == pytest.approx(sum(engine.stages.seconds.values()))
    assert sum(engine.stages.share(stage) for stage in engine.stages.seconds) == pytest.approx(1)


def test_stages_that_overlap_are_told_by_the_clock_too() -> None:
    whole = StageTimes()
    parts = [StageTimes(whole) for _ in range(2)]
    with parts[0].measure("network"), parts[1].measure("network"):
        time.sleep(0.02)
    both = sum(part.seconds["network"] for part in parts)
    assert whole.seconds["network"] == pytest.approx(both)
    # The second is within the first.
    assert whole.clock("network") == pytest.approx(parts[0].seconds["network"])
    assert both >= 2 * parts[1].seconds["network"] >= 0.04
    assert whole.clock("guard") == parts[0].clock("guard") == 0
    with pytest.raises(ValueError, match="bad"), parts[0].measure("guard"):
        raise ValueError("bad")
    assert whole.clock("guard") == parts[0].clock("guard") > 0


def test_patches_use_their_memory_again_and_the_check_comes_first() -> None:
    image, masks = real_case(3)
    refiner = load_refiner(threads=1)
    forward, places, checks = refiner.forward, set(), []

    def seen(patches: np.ndarray) -> np.ndarray:
        places.add(patches.base.ctypes.data)
        return forward(patches)

    refiner.forward = seen  # type: ignore[method-assign]
    engine = Engine(refiner)
    engine.check = lambda: checks.append(len(places))
    first, again = (engine.refine_image(image, masks) for _ in range(2))
    assert first == again
    assert len(places) == 1
    assert checks[0] == 0
    assert len(checks) >= 2

    def stop() -> None:
        raise InterruptedError

    engine.check = stop
    with pytest.raises(InterruptedError):
        engine.refine_image(image, masks)


def test_wrong_inputs_are_named() -> None:
    image, truth, _ = scene()
    engine = Engine(OracleRefiner(truth))
    with pytest.raises(MaskError, match=r"masks\[1\].*exif_policy"):
        engine.refine_image(image, [Rle.from_dense(truth), Rle.from_dense(truth.T)])
    with pytest.raises(ImageError, match="float64"):
        engine.refine_image(image.astype(np.float64), [])
    for options in ({"nms": 1.5}, {"passes": 0}, {"caution": -0.1}, {"reach": -1}):
        with pytest.raises(OptionError, match=next(iter(options))):
            EngineOptions(**options)
    with pytest.raises(OptionError, match="batch_size"):
        Engine(OracleRefiner(truth), batch_size=0)


def test_results_come_as_soon_as_no_other_instance_can_change_them() -> None:
    image, masks = real_case(8)
    wanted = Engine(load_refiner(threads=1)).refine_image(image, masks)
    engine = Engine(load_refiner(threads=1))
    found = list(engine.refine_each(image, masks))
    assert sorted(n for n, _ in found) == list(range(8))
    assert all(result == wanted[n] for n, result in found)


def test_an_instance_far_from_the_others_does_not_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((100, 900), bool)
    for x in (40, 60, 700):
        truth[20:80, x : x + 60] = True
    image = np.zeros((*truth.shape, 3), np.uint8)
    image[..., 0] = np.where(truth, 250, 5)
    coarse = []
    for x in (40, 700, 60):
        mask = np.zeros_like(truth)
        mask[22:78, x + 2 : x + 58] = True
        coarse.append(Rle.from_dense(mask))
    monkeypatch.setattr("maskmend.service.engine.GROUP", 1)
    order = [n for n, _ in Engine(OracleRefiner(truth)).refine_each(image, coarse)]
    assert order == [1, 0, 2]


def test_changed_pixels_counts_on_runs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        h, w = rng.integers(1, 20, 2)
        a, b = rng.random((2, h, w)) > rng.random()
        assert changed_pixels(Rle.from_dense(a), Rle.from_dense(b)) == (a != b).sum()

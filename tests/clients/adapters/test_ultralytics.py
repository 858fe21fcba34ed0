"""Results of Ultralytics: what the real library wrote down, and its real objects where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters.shapes import box, dense, others, read

from maskmend.clients.adapters import like, masks_of
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.metrics import iou

CASES = json.loads((Path(__file__).parent / "fixtures" / "ultralytics.json").read_text())["cases"]


class Tensor:
    """`Masks` or `Boxes`: data and the size of the photograph."""

    def __init__(self, data: np.ndarray, orig_shape: tuple[int, int]) -> None:
        self.data, self.orig_shape = data, orig_shape

    def __len__(self) -> int:
        return len(self.data)


class Results:
    """What an adapter touches of `Results`, with NumPy arrays as `Results.numpy()` gives them."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.orig_shape = tuple(case["orig_shape"])
        self.masks = Tensor(
            np.stack([Rle.from_coco(m).to_dense() for m in case["masks"]]).astype(np.uint8), self.orig_shape
        )
        self.boxes = Tensor(np.array(case["boxes"], np.float32), self.orig_shape)
        self.names, self.path, self.probs = {1: "cat"}, "cat.jpg", None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_letterboxed_masks_come_out_as_the_library_scales_them(case: dict[str, Any]) -> None:
    found = masks_of(Results(case))
    height, width = case["orig_shape"]
    for mask, native, drawn in zip(found, case["native"], case["drawn"], strict=True):
        ours, theirs = as_rle(mask).to_dense(), Rle.from_coco(native).to_dense()
        # Two ways to compute the same average may fall on different sides of one half, where it is one half.
        assert np.count_nonzero(ours != theirs) <= 0.002 * max(theirs.sum(), 1000)
        assert ours.shape == (height, width)
        # A shift of a pixel would cost these shapes more.
        assert iou(ours, Rle.from_coco(drawn).to_dense()) > 0.85


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_results_come_back_in_the_size_of_the_photograph(case: dict[str, Any]) -> None:
    value = Results(case)
    height, width = case["orig_shape"]
    refined = others(dense(case["native"], height, width))
    made = like(value, refined)
    assert type(made) is Results
    assert np.array_equal(made.masks.data, dense(refined, height, width))
    assert made.masks.data.dtype == np.uint8
    assert np.array_equal(made.boxes.data[:, 4:], value.boxes.data[:, 4:])
    for mask, row, old in zip(made.masks.data, made.boxes.data, value.boxes.data, strict=True):
        assert row[:4].tolist() == (box(mask) if mask.any() else old[:4].tolist())
    assert (made.names, made.path, made.orig_shape) == (value.names, value.path, value.orig_shape)
    assert value.masks.data.shape[1:] == tuple(case["masks"][0]["size"])
    assert np.array_equal(read(masks_of(made), height, width), dense(refined, height, width))
    (listed,) = like([value], refined)
    assert np.array_equal(listed.masks.data, made.masks.data)


def test_results_without_masks() -> None:
    value = Results(CASES[0])
    value.masks = None
    with pytest.raises(MaskError, match="boxes only"):
        masks_of(value)
    value.boxes = Tensor(np.zeros((0, 6), np.float32), value.orig_shape)
    assert masks_of(value) == []
    assert like(value, []).masks is None


@pytest.fixture
def real() -> Any:
    torch = pytest.importorskip("torch", reason="ultralytics needs torch")
    results = pytest.importorskip("ultralytics.engine.results", reason="needs the package ultralytics")
    case = CASES[0]
    data = torch.from_numpy(np.stack([Rle.from_coco(m).to_dense() for m in case["masks"]]).astype(np.uint8))
    picture = np.zeros((*case["orig_shape"], 3), np.uint8)
    return results.Results(picture, "cat.jpg", {1: "a", 2: "b", 3: "c"}, torch.tensor(case["boxes"]), data)


def test_the_real_results(real: Any) -> None:
    from ultralytics.utils import ops

    height, width = CASES[0]["orig_shape"]
    native = ops.scale_masks(real.masks.data[None].float(), (height, width))[0].numpy() > 0.5
    found = read(masks_of(real), height, width)
    assert np.count_nonzero(found != native) <= 0.002 * native.sum()
    refined = others(native)
    made = like(real, refined)
    assert type(made) is type(real)
    assert (made.masks.data.dtype, made.masks.data.device) == (real.masks.data.dtype, real.masks.data.device)
    assert np.array_equal(made.masks.data.numpy(), dense(refined, height, width))
    assert made.boxes.conf.tolist() == real.boxes.conf.tolist()
    assert made.boxes.cls.tolist() == real.boxes.cls.tolist()
    assert made.boxes.xyxy[0].tolist() == box(dense(refined, height, width)[0])
    # Its own methods go on working: they see masks that need no letterbox.
    assert len(made.masks.xy) == 3
    assert len(made[0]) == 1
    assert made.summary()[0]["name"] == "c"
    assert real.masks.data.shape[1:] == tuple(CASES[0]["masks"][0]["size"])
    assert like(real.numpy(), refined).masks.data.dtype == np.uint8


def test_a_real_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of random weights through the real predictor: its letterbox, its masks, its boxes."""
    pytest.importorskip("torch", reason="ultralytics needs torch")
    ultralytics = pytest.importorskip("ultralytics", reason="needs the package ultralytics")
    import torch

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    model = ultralytics.YOLO("yolo11n-seg.yaml")
    picture = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)
    found = model.predict(picture, imgsz=160, conf=1e-6, max_det=5, verbose=False, device="cpu")
    (result,) = found
    if result.masks is None:
        pytest.skip("these random weights detect nothing")
    assert result.masks.data.shape[1:] != result.orig_shape
    masks = masks_of(found)
    assert len(masks) == len(result.boxes)
    assert all((as_rle(m).height, as_rle(m).width) == (90, 160) for m in masks)
    made = like(found, [as_rle(m).to_coco() for m in masks])
    assert isinstance(made, list)
    assert tuple(made[0].masks.data.shape) == (len(masks), 90, 160)

"""From logits to probabilities, and the check before the first image."""

from __future__ import annotations

import numpy as np
import pytest

from maskmend.models.refiner import BprRefiner, load_refiner, sigmoid
from maskmend.models.zoo import Weights, resolve_weights
from maskmend.patcher.errors import OptionError, WeightsError


class FakeRuntime:
    """Gives what it is told to, whatever the patches."""

    name, version, precision = "onnx", "1.0", "fp32"

    def __init__(self, value: float = 0.5, side: int = 64, error: Exception | None = None) -> None:
        self.value, self.side, self.error = value, side, error

    def run(self, batch: np.ndarray) -> np.ndarray:
        if self.error:
            raise self.error
        return np.full((len(batch), self.side, self.side), self.value, np.float32)


SIDE = resolve_weights("bpr-small").manifest.input_size


@pytest.fixture
def weights() -> Weights:
    return resolve_weights("bpr-small")


def test_the_result_is_the_probability_of_the_margin(weights: Weights) -> None:
    probabilities = BprRefiner(weights, FakeRuntime(-1.5)).forward(np.zeros((3, 4, SIDE, SIDE), np.float32))
    assert probabilities.shape == (3, 64, 64)
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities, 0.18242552, atol=1e-7)


def test_sigmoid_is_exact_to_float32_and_never_overflows() -> None:
    logits = np.concatenate([np.linspace(-30, 30, 10_001), [0, -1e4, 1e4, -np.inf, np.inf]]).astype(np.float32)
    with np.errstate(all="raise", under="ignore"):
        got = sigmoid(logits)
    assert got.dtype == np.float32
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        wanted = 1 / (1 + np.exp(-wide))
    assert np.abs(got - wanted).max() < 1e-7
    assert sigmoid(np.zeros(1, np.float32))[0] == 0.5
    assert np.isnan(sigmoid(np.array([np.nan], np.float32)))[0]


def test_sigmoid_does_not_depend_on_the_place_in_the_array() -> None:
    # Vector instructions treat the rest of an array that is no multiple of their width apart.
    logits = np.random.default_rng(0).normal(0, 6, 4099).astype(np.float32)
    whole = sigmoid(logits)
    for start, stop in ((0, 1), (1, 8), (3, 4098), (5, 22), (4090, 4099)):
        assert sigmoid(logits[start:stop].copy()).tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (FakeRuntime(float("nan")), "not finite"),
        (FakeRuntime(float("inf")), "not finite"),
        (FakeRuntime(side=32), r"\(1, 32, 32\)"),
        (FakeRuntime(error=ValueError("the library's own words")), f"do not take a patch of {SIDE} px"),
    ],
)
def test_unusable_weights_show_before_the_first_image(weights: Weights, runtime: FakeRuntime, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        BprRefiner(weights, runtime)
    assert caught.value.field == "weights"


@pytest.mark.parametrize(
    "patches",
    [
        np.zeros((1, 4, SIDE, SIDE)),
        np.zeros((1, 3, SIDE, SIDE), np.float32),
        np.zeros((1, 4, SIDE // 2, SIDE // 2), np.float32),
        np.zeros((4, SIDE, SIDE), np.float32),
    ],
)
def test_other_patches_are_refused(weights: Weights, patches: np.ndarray) -> None:
    with pytest.raises(OptionError, match=f"S = {SIDE}") as caught:
        BprRefiner(weights, FakeRuntime()).forward(patches)
    assert caught.value.field == "patches"


def test_no_patches_give_no_probabilities() -> None:
    assert load_refiner(threads=1).forward(np.zeros((0, 4, SIDE, SIDE), np.float32)).shape == (0, 64, 64)


def test_provenance_names_what_decides_the_result(weights: Weights) -> None:
    assert BprRefiner(weights, FakeRuntime()).provenance == {
        "refiner": "bpr",
        "weights": "bpr-small",
        "weights_sha256": weights.manifest.sha256["onnx"],
        "runtime": "onnx",
        "runtime_version": "1.0",
        "precision": "fp32",
    }
    # PyTorch reads the other file.
    runtime = FakeRuntime()
    runtime.name = "torch"
    assert BprRefiner(weights, runtime).provenance["weights_sha256"] == weights.manifest.sha256["safetensors"]


def test_an_unknown_refiner_is_named() -> None:
    with pytest.raises(OptionError, match="magic") as caught:
        load_refiner("magic")
    assert caught.value.field == "refiner"


def test_weights_of_another_refiner_are_refused(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    other = weights.model_copy(update={"manifest": weights.manifest.model_copy(update={"refiner": "sharpmask"})})
    monkeypatch.setattr("maskmend.models.refiner.resolve_weights", lambda name: other)
    with pytest.raises(WeightsError, match="sharpmask"):
        load_refiner("bpr")

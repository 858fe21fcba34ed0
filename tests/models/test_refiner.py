"""From logits to probabilities, and the check before the first image."""

from __future__ import annotations

import numpy as np
import pytest

from maskmend.models.refiner import BoundaryRefiner, load_refiner, sigmoid
from maskmend.models.registry import REFINERS
from maskmend.models.zoo import GuardTables, Weights, resolve_weights
from maskmend.patcher.errors import OptionError, WeightsError
from maskmend.patcher.evidence import CHANGE_WEIGHTS, DEFAULT_CALIBRATION, INSTANCE_WEIGHTS


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
    probabilities = BoundaryRefiner(weights, FakeRuntime(-1.5)).forward(np.zeros((3, 4, SIDE, SIDE), np.float32))
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
        BoundaryRefiner(weights, runtime)
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
        BoundaryRefiner(weights, FakeRuntime()).forward(patches)
    assert caught.value.field == "patches"


def test_no_patches_give_no_probabilities() -> None:
    assert load_refiner(threads=1).forward(np.zeros((0, 4, SIDE, SIDE), np.float32)).shape == (0, 64, 64)


def test_provenance_names_what_decides_the_result(weights: Weights) -> None:
    assert BoundaryRefiner(weights, FakeRuntime()).provenance == {
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
    assert BoundaryRefiner(weights, runtime).provenance["weights_sha256"] == weights.manifest.sha256["safetensors"]


def test_an_unknown_refiner_is_named() -> None:
    with pytest.raises(OptionError, match="magic") as caught:
        load_refiner("magic")
    assert caught.value.field == "refiner"


def test_weights_of_another_refiner_are_refused(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    other = weights.model_copy(update={"manifest": weights.manifest.model_copy(update={"refiner": "sharpmask"})})
    monkeypatch.setattr("maskmend.models.refiner.resolve_weights", lambda name: other)
    with pytest.raises(WeightsError, match="sharpmask"):
        load_refiner("bpr")


def test_weights_of_a_refiner_of_later_are_refused(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    other = weights.model_copy(update={"manifest": weights.manifest.model_copy(update={"refiner": "crystal-ball"})})
    monkeypatch.setattr("maskmend.models.refiner.resolve_weights", lambda name: other)
    with pytest.raises(WeightsError, match=r"crystal-ball.*update maskmend"):
        load_refiner(weights="some")


@pytest.mark.parametrize(
    ("refiner", "named", "wanted"),
    [
        (None, None, ("bpr", "bpr-small")),
        ("bpr", None, ("bpr", "bpr-small")),
        (None, "bpr-base", ("bpr", "bpr-base")),
        ("transfiner", None, ("transfiner", "transfiner-small")),
        (None, "transfiner-small", ("transfiner", "transfiner-small")),
    ],
)
def test_refiner_and_weights_follow_from_each_other(
    refiner: str | None, named: str | None, wanted: tuple[str, str]
) -> None:
    found = load_refiner(refiner, weights=named, threads=1).provenance
    assert (found["refiner"], found["weights"]) == wanted


@pytest.mark.parametrize("refiner", REFINERS)
def test_each_refiner_has_weights_that_are_shipped(refiner: str) -> None:
    assert resolve_weights(REFINERS[refiner].weights).manifest.refiner == refiner


TABLES = {"changes": dict(CHANGE_WEIGHTS, certainty=9.0), "instances": dict(INSTANCE_WEIGHTS)}


def with_tables(weights: Weights, tables: dict[str, dict[str, float]]) -> Weights:
    guard = GuardTables.model_validate(tables)
    return weights.model_copy(update={"manifest": weights.manifest.model_copy(update={"guard": guard})})


def test_weights_may_bring_tables_for_the_guard(weights: Weights) -> None:
    plain, own = BoundaryRefiner(weights, FakeRuntime()), BoundaryRefiner(with_tables(weights, TABLES), FakeRuntime())
    assert plain.calibration is DEFAULT_CALIBRATION
    assert "guard_sha256" not in plain.provenance
    assert own.calibration.changes["certainty"] == 9.0
    other = with_tables(weights, TABLES | {"instances": dict(INSTANCE_WEIGHTS, deep=0.0)})
    # They decide the result, so that it must be possible to tell them apart.
    assert own.provenance["guard_sha256"] != BoundaryRefiner(other, FakeRuntime()).provenance["guard_sha256"]


@pytest.mark.parametrize(
    "tables",
    [
        {"changes": {"certainty": 1.0}, "instances": dict(INSTANCE_WEIGHTS)},
        {"changes": dict(CHANGE_WEIGHTS), "instances": dict(INSTANCE_WEIGHTS, mood=1.0)},
        {"changes": dict(CHANGE_WEIGHTS, spread=float("nan")), "instances": dict(INSTANCE_WEIGHTS)},
    ],
)
def test_unusable_tables_are_refused(weights: Weights, tables: dict[str, dict[str, float]]) -> None:
    with pytest.raises(WeightsError, match="manifest of weights bpr-small"):
        BoundaryRefiner(with_tables(weights, tables), FakeRuntime())

"""The same weights on every runtime, and every patch the same in any company."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from maskmend.models import load_refiner
from maskmend.models.runtimes import RUNTIMES, choose_runtime, create_runtime, micro_batches
from maskmend.models.zoo import SHIPPED, Weights, resolve_weights
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError

MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}


def needs(runtime: str) -> None:
    pytest.importorskip(MODULES[runtime], reason=f"the {runtime} runtime is not installed")


def noisy_patches(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth random images with a random half-plane as the coarse mask."""
    rng = np.random.default_rng(seed)
    patches = np.cumsum(rng.standard_normal((count, 4, size, size)), axis=3).astype(np.float32) * 0.2
    rows, columns = np.indices((size, size))
    for patch in patches:
        a, b = rng.standard_normal(2)
        patch[3] = np.where(a * (rows - size / 2) + b * (columns - size / 2) > 0, 1, -1)
    return patches


@pytest.fixture(scope="module")
def hrnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    torch = pytest.importorskip("torch", reason="making weights needs the train extra")
    from maskmend.models.export import write_weights
    from maskmend.models.hrnet import hrnet_w18_small

    torch.manual_seed(1)
    network = hrnet_w18_small()
    with torch.no_grad():
        for module in network.modules():
            # Fresh batch normalisation is the identity and would hide a mix-up.
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return write_weights(
        network,
        tmp_path_factory.mktemp("hrnet"),
        name="random-w18",
        architecture="hrnet_w18_small",
        arguments={},
        input_size=128,
        license="none",
        source="random",
        card="random",
    )


@pytest.fixture(params=["shipped", "hrnet"])
def weights(request: pytest.FixtureRequest) -> Weights:
    if request.param == "hrnet":
        found: Weights = request.getfixturevalue("hrnet_weights")
        return found
    return resolve_weights("bpr-small")


def test_runtimes_agree(weights: Weights) -> None:
    patches = noisy_patches(9, weights.manifest.input_size)
    logits = {}
    for name in RUNTIMES:
        if importlib.util.find_spec(MODULES[name]):
            logits[name] = create_runtime(name, weights, threads=1).run(patches)
    assert len(logits) > 1
    first = next(iter(logits.values()))
    assert first.shape == (9, 64, 64)
    assert first.std() > 0.01
    for other in logits.values():
        assert np.abs(other - first).max() <= 1e-4
        assert np.array_equal(other > 0, first > 0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_patch_is_the_same_in_any_company(runtime: str) -> None:
    needs(runtime)
    refiner = load_refiner(runtime=runtime, threads=1)
    patches = noisy_patches(21, refiner.input_size)
    together = refiner.forward(patches)
    pieces = np.concatenate([refiner.forward(patches[i : i + 5]) for i in range(0, 21, 5)])
    assert together.tobytes() == pieces.tobytes()
    order = np.random.default_rng(2).permutation(21)
    assert refiner.forward(patches[order]).tobytes() == together[order].tobytes()


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_threads_do_not_change_a_bit(runtime: str) -> None:
    needs(runtime)
    patches = noisy_patches(8, 64)
    one, two = (load_refiner(runtime=runtime, threads=n).forward(patches) for n in (1, 2))
    assert one.tobytes() == two.tobytes()


def test_micro_batches_fill_up_with_zeros() -> None:
    parts = micro_batches(np.ones((5, 4, 2, 2), np.float32), 3)
    assert [part.shape[0] for part in parts] == [3, 3]
    assert parts[1][:2].all()
    assert not parts[1][2].any()


def test_no_patches_give_no_probabilities() -> None:
    assert load_refiner().forward(np.zeros((0, 4, 64, 64), np.float32)).shape == (0, 64, 64)


def test_probabilities_are_the_sigmoid_of_logits() -> None:
    refiner = load_refiner(threads=1)
    patches = noisy_patches(3, 64)
    logits = create_runtime("auto", resolve_weights("bpr-small"), threads=1).run(patches)
    wanted = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert np.abs(refiner.forward(patches) - wanted).max() < 1e-6


def test_provenance_names_what_decides_the_result() -> None:
    provenance = load_refiner().provenance
    assert provenance["weights"] == "bpr-small"
    assert provenance["weights_sha256"] == resolve_weights("bpr-small").manifest.sha256["onnx"]
    assert provenance["runtime"] in RUNTIMES


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"runtime": "caffe"}, "runtime"),
        ({"precision": "int3"}, "precision"),
        ({"runtime": "onnx", "precision": "bf16"}, "precision"),
        ({"refiner": "magic"}, "refiner"),
        ({"weights": "../bpr-small"}, "weights"),
    ],
)
def test_unknown_options_are_named(options: dict[str, str], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_refiner(**options)
    assert caught.value.field == field


def test_without_a_runtime_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"maskmend\[cpu\]"):
        choose_runtime("auto")
    with pytest.raises(RuntimeUnavailableError, match=r"maskmend\[onnx\]"):
        choose_runtime("onnx")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    for kind in ("json", "onnx", "safetensors"):
        data = (SHIPPED / f"bpr-small.{kind}").read_bytes()
        (tmp_path / f"bpr-small.{kind}").write_bytes(data[:-1] + b"\x01" if kind == "onnx" else data)
    with pytest.raises(WeightsError, match="SHA-256"):
        load_refiner(weights=tmp_path)


def test_weights_that_give_nan_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="making weights needs the train extra")
    from maskmend.models import export
    from maskmend.models.boundary_unet import BoundaryUnet

    network = BoundaryUnet(detail=4, widths=[8], blocks=[1])
    with torch.no_grad():
        network.head[-1].bias.fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        export.write_weights(
            network,
            tmp_path,
            name="nan",
            architecture="boundary_unet",
            arguments={},
            input_size=64,
            license="none",
            source="test",
            card="",
        )

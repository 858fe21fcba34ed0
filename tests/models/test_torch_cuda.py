"""The runtime for GPUs, run on a CPU for all that does not need one, and on a GPU where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the GPU path needs PyTorch")
pytest.importorskip("safetensors", reason="the GPU path reads safetensors")

from maskmend.models import load_refiner  # noqa: E402
from maskmend.models.exporters.parity import sample  # noqa: E402
from maskmend.models.runtimes import create_runtime  # noqa: E402
from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime  # noqa: E402
from maskmend.models.zoo import Weights, resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError  # noqa: E402

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")


@pytest.fixture(scope="module")
def weights() -> Weights:
    return resolve_weights("bpr-small")


def test_it_says_what_the_torch_runtime_says_whatever_the_company(weights: Weights) -> None:
    runtime = TorchCudaRuntime(weights, precision="fp32", device="cpu", batches=(8,))
    patches = sample(19, weights.manifest.input_size)
    got = runtime.run(patches)
    assert np.abs(got - create_runtime("torch", weights).run(patches)).max() < 1e-4
    for count in (1, 8, 11):
        assert np.array_equal(runtime.run(patches[:count]), got[:count])
    on_device = runtime.logits(torch.from_numpy(patches)).numpy()
    assert np.array_equal(on_device, got)
    assert (runtime.name, runtime.precision, runtime.graphs) == ("torch-cpu", "fp32", False)


@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.15), ("fp16", 0.02)])
def test_halves_stay_near(weights: Weights, precision: str, limit: float) -> None:
    patches = sample(4, weights.manifest.input_size)
    wanted = create_runtime("onnx", weights).run(patches)
    got = TorchCudaRuntime(weights, precision=precision, device="cpu", batches=(4,)).run(patches)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - wanted).max() < limit
    assert ((got > 0) != (wanted > 0)).mean() < 0.02


def test_a_ladder_of_batches_takes_the_smallest_that_fits(weights: Weights) -> None:
    runtime = TorchCudaRuntime(weights, precision="fp32", device="cpu", batches=(1, 4, 8))
    assert [(step.count, part.stop - part.start) for step, part in runtime._plan(21)] == [(8, 8), (8, 8), (8, 5)]
    assert [step.count for step, _ in runtime._plan(3)] == [4]
    patches = sample(3, weights.manifest.input_size)
    assert np.abs(runtime.run(patches) - create_runtime("torch", weights).run(patches)).max() < 1e-4


def test_what_cannot_be_is_refused(weights: Weights) -> None:
    with pytest.raises(OptionError, match="use one of fp32, fp16, bf16"):
        TorchCudaRuntime(weights, precision="int8", device="cpu")
    for batches in ((), (8, 4), (0,), (4, 4), (8192,)):
        with pytest.raises(OptionError, match="ascending"):
            TorchCudaRuntime(weights, device="cpu", batches=batches)
    for device in ("tpu", "meta", "cuda:x"):
        with pytest.raises(OptionError, match="use cuda"):
            TorchCudaRuntime(weights, device=device)
    with pytest.raises(WeightsError, match="is missing"):
        TorchCudaRuntime(weights.model_copy(update={"folder": Path("nowhere")}), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(weights: Weights) -> None:
    with pytest.raises(RuntimeUnavailableError, match="CUDA build of torch"):
        TorchCudaRuntime(weights, device="cuda")
    with pytest.raises(RuntimeUnavailableError, match="or use the openvino runtime"):
        load_refiner(runtime="torch", device="cuda")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_is_told_to_load_its_own(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = TorchCudaRuntime(weights, precision="fp32", device="cpu", batches=(4,))
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RuntimeUnavailableError, match="spawn"):
        runtime.run(sample(1, weights.manifest.input_size))


@needs_gpu
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("bf16", 0.15), ("fp16", 0.02)])
def test_a_gpu_agrees_with_the_cpu(weights: Weights, precision: str, limit: float) -> None:
    patches = sample(150, weights.manifest.input_size)
    wanted = create_runtime("torch", weights).run(patches)
    runtime = TorchCudaRuntime(weights, precision=precision, device="cuda")
    got = runtime.run(patches)
    assert runtime.graphs
    assert np.abs(got - wanted).max() < limit
    assert np.array_equal(runtime.run(patches[:70]), got[:70])
    assert np.array_equal(runtime.logits(torch.from_numpy(patches).cuda()).cpu().numpy(), got)

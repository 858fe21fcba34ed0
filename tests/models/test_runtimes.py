"""The same weights on every runtime, and every patch the same in any company."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from company import check_any_company, some

from maskmend.models import load_refiner
from maskmend.models.runtimes import RUNTIMES, choose_runtime, create_runtime
from maskmend.models.runtimes.pool import MICRO_BATCH, micro_batches
from maskmend.models.zoo import SHIPPED, Weights, list_weights, resolve_weights
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError

MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}


def needs(runtime: str) -> None:
    pytest.importorskip(MODULES[runtime], reason=f"the {runtime} runtime is not installed")


def copy_set(folder: Path) -> None:
    for kind in ("json", "onnx", "safetensors"):
        shutil.copy(SHIPPED / f"bpr-small.{kind}", folder)


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


@pytest.fixture(params=[*(shipped.manifest.name for shipped in list_weights()), "hrnet"])
def weights(request: pytest.FixtureRequest) -> Weights:
    if request.param == "hrnet":
        found: Weights = request.getfixturevalue("hrnet_weights")
        return found
    return resolve_weights(request.param)


def test_runtimes_agree(weights: Weights) -> None:
    patches = noisy_patches(9, weights.manifest.input_size)
    logits = {}
    for name in RUNTIMES:
        if importlib.util.find_spec(MODULES[name]):
            logits[name] = create_runtime(name, weights, threads=1).run(patches)
    assert len(logits) > 1
    first = next(iter(logits.values()))
    assert first.shape == (9, weights.manifest.patch, weights.manifest.patch)
    assert first.std() > 0.01
    for other in logits.values():
        assert np.abs(other - first).max() <= 1e-4
        assert np.array_equal(other > 0, first > 0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_patch_is_the_same_in_any_company(runtime: str, weights: Weights) -> None:
    needs(runtime)
    size = weights.manifest.input_size
    check_any_company(
        create_runtime(runtime, weights, threads=2).run,
        noisy_patches(some(), size),
        lambda place: noisy_patches(MICRO_BATCH, size, seed=3 + place) * 10,
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_do_not_change_a_bit(runtime: str, weights: Weights) -> None:
    # Split over threads, PyTorch differs from 2 on and ONNX Runtime, with a batch of one, from 3 on.
    needs(runtime)
    patches = noisy_patches(MICRO_BATCH + 1, weights.manifest.input_size)
    one, *others = (create_runtime(runtime, weights, threads=n).run(patches).tobytes() for n in (1, 2, 3, 8))
    assert all(other == one for other in others)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_several_callers_at_once_get_their_own_results(runtime: str) -> None:
    needs(runtime)
    weights = resolve_weights("bpr-small")
    network = create_runtime(runtime, weights, threads=2)
    batches = [noisy_patches(5, weights.manifest.input_size, seed) for seed in range(6)]
    alone = [network.run(batch).tobytes() for batch in batches]
    with ThreadPoolExecutor(6) as callers:
        assert [logits.tobytes() for logits in callers.map(network.run, batches)] == alone


def test_the_callers_own_pytorch_keeps_its_threads() -> None:
    torch = pytest.importorskip("torch", reason="the torch runtime is not installed")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        weights = resolve_weights("bpr-small")
        create_runtime("torch", weights, threads=2).run(noisy_patches(9, weights.manifest.input_size))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_micro_batches_fill_up_with_zeros() -> None:
    parts = micro_batches(np.ones((5, 4, 2, 2), np.float32), 3)
    assert [part.shape[0] for part in parts] == [3, 3]
    assert parts[1][:2].all()
    assert not parts[1][2].any()


def test_refiners_on_every_runtime_agree(weights: Weights) -> None:
    patches = noisy_patches(3, weights.manifest.input_size)
    logits = create_runtime("auto", weights, threads=1).run(patches)
    wanted = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for name in RUNTIMES:
        if importlib.util.find_spec(MODULES[name]):
            refiner = load_refiner(weights=weights.onnx_path, runtime=name, threads=1)
            assert refiner.provenance["runtime"] == name
            assert np.abs(refiner.forward(patches) - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"runtime": "caffe"}, "runtime"),
        ({"runtime": "onnx", "precision": "int8"}, "precision"),
        ({"precision": "int4"}, "precision"),
        ({"runtime": "onnx", "precision": "bf16"}, "precision"),
        ({"weights": "../bpr-small"}, "weights"),
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
    ],
)
def test_unknown_options_are_named(options: dict[str, Any], field: str) -> None:
    if options.get("runtime") == "onnx":
        needs("onnx")
    with pytest.raises(OptionError) as caught:
        load_refiner(**options)
    assert caught.value.field == field


def test_the_precision_named_is_the_one_computed_in() -> None:
    openvino = pytest.importorskip("openvino", reason="the openvino runtime is not installed")
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hinted = load_refiner(runtime="openvino", precision="bf16", threads=1)
    assert hinted.provenance["precision"] == ("bf16" if has_bf16 else "fp32")
    assert load_refiner(runtime="openvino", threads=1).provenance["precision"] == "fp32"


def test_without_a_runtime_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"maskmend\[cpu\]"):
        choose_runtime("auto")
    with pytest.raises(RuntimeUnavailableError, match=r"maskmend\[onnx\]"):
        choose_runtime("onnx")


@pytest.mark.parametrize(
    ("first", "missing"), [("openvino", []), ("onnx", ["openvino"]), ("torch", ["openvino", "onnxruntime"])]
)
def test_auto_takes_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch, first: str, missing: list[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else object())
    assert choose_runtime("auto") == first


def test_a_broken_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("onnx")
    # Found, and yet its import fails.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "maskmend.models.runtimes.onnx", raising=False)
    with pytest.raises(RuntimeUnavailableError, match="cannot be imported"):
        create_runtime("onnx", resolve_weights("bpr-small"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_damaged_weights_are_refused(tmp_path: Path, runtime: str) -> None:
    needs(runtime)
    kind = "safetensors" if runtime == "torch" else "onnx"
    copy_set(tmp_path)
    file = tmp_path / f"bpr-small.{kind}"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="SHA-256"):
        load_refiner(weights=tmp_path, runtime=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("content", [b"", b"garbage", None], ids=["empty", "garbage", "another input size"])
def test_files_that_are_not_what_the_manifest_says_are_refused(
    tmp_path: Path, runtime: str, content: bytes | None
) -> None:
    needs(runtime)
    copy_set(tmp_path)
    manifest = tmp_path / "bpr-small.json"
    facts = json.loads(manifest.read_text())
    if content is None:
        facts["input_size"] = 63
    else:
        for kind in ("onnx", "safetensors"):
            (tmp_path / f"bpr-small.{kind}").write_bytes(content)
            facts["sha256"][kind] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(facts))
    with pytest.raises(WeightsError) as caught:
        load_refiner(weights=tmp_path, runtime=runtime, threads=1)
    assert caught.value.field == "weights"


def test_a_signal_after_a_runtime_is_gone_does_not_kill_the_process() -> None:
    """A released OpenVINO core leaves its thread's signal stack dangling; seen as a crash when a child process ended."""
    needs("openvino")
    code = (
        "import os, signal, threading\n"
        "from maskmend.models import load_refiner\n"
        "kept = [load_refiner(runtime='openvino', threads=1)]\n"
        "other = threading.Thread(target=kept.clear)\n"
        "other.start()\n"
        "other.join()\n"
        "caught = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print('alive', len(caught))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "alive 1", done.returncode


def test_openvino_tells_nobody_that_it_is_used_and_needs_no_home() -> None:
    code = (
        "import sys; from maskmend.models import load_refiner; load_refiner(runtime='openvino', threads=1); "
        "assert not any(m.startswith('openvino_telemetry') and sys.modules[m] for m in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

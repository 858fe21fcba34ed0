"""TensorRT's builder and runtime, against a stand-in with the names of 10.x and 11.x (see fake_tensorrt)."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("onnx", reason="building engines needs onnx")
pytest.importorskip("onnxruntime", reason="the stand-in computes with ONNX Runtime")

import fake_tensorrt

from maskmend.models.exporters.parity import sample
from maskmend.models.runtimes import create_runtime
from maskmend.models.runtimes.tensorrt import BATCH, CACHE_VARIABLE, TensorRtRuntime
from maskmend.models.tensorrt_api import Gpu, load_api, read_record, record_path
from maskmend.models.tensorrt_engine import build_engine
from maskmend.models.zoo import Weights, resolve_weights, sha256
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError

GPU = Gpu(name="NVIDIA Test GPU", capability="9.0")
OLD, NEW = "10.9.0.34", "11.1.0"


@pytest.fixture(params=[OLD, NEW])
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    return install(monkeypatch, tmp_path, request.param)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> ModuleType:
    made = fake_tensorrt.make(version)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    return made


@pytest.fixture(scope="module")
def weights() -> Weights:
    return resolve_weights("bpr-small")


def exported(api: ModuleType, weights: Weights, folder: Path, gpu: Gpu = GPU) -> Weights:
    """A set that is an engine, as `maskmend export --format tensorrt` leaves it."""
    name = "engine-set"
    build_engine(
        api, weights.onnx_path, folder / f"{name}.engine", gpu=gpu, size=weights.manifest.input_size, precision="fp32"
    )
    manifest = weights.manifest.model_copy(
        update={
            "name": name,
            "sha256": {"engine": sha256(folder / f"{name}.engine")},
            "exported_from": weights.manifest.sha256["onnx"],
        }
    )
    (folder / f"{name}.json").write_text(manifest.model_dump_json(exclude_none=True))
    return resolve_weights(folder)


def test_an_engine_is_built_once_kept_and_gives_what_onnx_runtime_gives(api: ModuleType, weights: Weights) -> None:
    memory = fake_tensorrt.HostMemory()
    runtime = TensorRtRuntime(weights, memory=memory)
    patches = sample(BATCH + 3, weights.manifest.input_size)
    got = runtime.run(patches)
    assert got.shape == (BATCH + 3, weights.manifest.patch, weights.manifest.patch)
    assert np.abs(got - create_runtime("onnx", weights).run(patches)).max() < 1e-4
    assert memory.waits == 2
    assert (runtime.name, runtime.version, runtime.precision) == ("tensorrt", api.__version__, "fp32")
    # Which GPU is current, each thread has to be told.
    with ThreadPoolExecutor(1) as other:
        assert np.array_equal(other.submit(runtime.run, patches[:5]).result(), got[:5])
    again = TensorRtRuntime(weights, memory=memory)
    assert api.log.count("built") == 1
    assert np.array_equal(again.run(patches[:5]), got[:5])


def test_a_damaged_cache_is_built_again_and_the_timing_cache_is_used(
    api: ModuleType, weights: Weights, tmp_path: Path
) -> None:
    TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())
    (engine,) = (tmp_path / "cache" / "tensorrt").glob("*.engine")
    engine.write_bytes(engine.read_bytes()[:-5])
    TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())
    assert api.log == ["cache empty", "built", "cache taken", "built"]
    read_record(engine).check(engine, api.__version__, GPU)


def test_a_timing_cache_of_another_version_is_left_aside(
    monkeypatch: pytest.MonkeyPatch, weights: Weights, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, OLD)
    TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())
    new = install(monkeypatch, tmp_path, NEW)
    TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())
    assert new.log == ["cache empty", "built"]


def test_a_timing_cache_that_is_damaged_is_left_aside(api: ModuleType, weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "cache" / "tensorrt").mkdir(parents=True)
    (tmp_path / "cache" / "tensorrt" / "timing.cache").write_bytes(b"damaged")
    TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())
    assert api.log == ["cache empty", "built"]


def test_without_a_home_the_variable_is_named(
    api: ModuleType, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(RuntimeUnavailableError, match=f"set {CACHE_VARIABLE} to a folder"):
        TensorRtRuntime(weights, memory=fake_tensorrt.HostMemory())


@pytest.mark.parametrize("precision", ["fp16"])
def test_precision_is_that_of_the_graph_that_is_parsed(api: ModuleType, weights: Weights, precision: str) -> None:
    runtime = TensorRtRuntime(weights, precision=precision, memory=fake_tensorrt.HostMemory())
    patches = sample(2, weights.manifest.input_size)
    apart = np.abs(runtime.run(patches) - create_runtime("onnx", weights).run(patches))
    assert 1e-5 < apart.max() < 0.1
    assert runtime.precision == precision


def test_an_exported_engine_runs_with_its_record(api: ModuleType, weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    found = exported(api, weights, tmp_path / "set")
    record = read_record(found.file("engine"))
    assert record.tensorrt == api.__version__
    assert record.gpu == GPU
    assert record.onnx_sha256 == weights.manifest.sha256["onnx"]
    assert record.engine_sha256 == found.manifest.sha256["engine"]
    patches = sample(3, found.manifest.input_size)
    got = TensorRtRuntime(found, memory=fake_tensorrt.HostMemory()).run(patches)
    assert np.abs(got - create_runtime("onnx", weights).run(patches)).max() < 1e-4
    assert not (tmp_path / "cache").exists()


def test_an_engine_of_another_gpu_or_version_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, weights: Weights, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    found = exported(install(monkeypatch, tmp_path, OLD), weights, tmp_path / "set")
    with pytest.raises(RuntimeUnavailableError, match=r"built on NVIDIA Test GPU .*9\.0.* here is Other \(8\.6\)"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory("Other", "8.6"))
    install(monkeypatch, tmp_path, NEW)
    with pytest.raises(RuntimeUnavailableError, match=rf"built with TensorRT {OLD}, and here is {NEW}"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory())


def test_an_engine_that_was_changed_or_lost_its_record_is_refused(
    api: ModuleType, weights: Weights, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    found = exported(api, weights, tmp_path / "set")
    record = record_path(found.file("engine"))
    text = record.read_text()
    record.write_text(json.dumps({**json.loads(text), "engine_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="SHA-256 of its record"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory())
    record.write_text(text.replace('"profile"', '"profiles"'))
    with pytest.raises(WeightsError, match="key 'profile"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory())
    record.unlink()
    with pytest.raises(WeightsError, match="needs its record"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory())
    found.file("engine").write_bytes(b"x")
    with pytest.raises(WeightsError, match="SHA-256 of its manifest"):
        TensorRtRuntime(found, memory=fake_tensorrt.HostMemory())


def test_what_cannot_be_asked_for_says_what_to_do(api: ModuleType, weights: Weights, tmp_path: Path) -> None:
    memory = fake_tensorrt.HostMemory()
    with pytest.raises(OptionError, match="maskmend export --precision int8"):
        TensorRtRuntime(weights, precision="int8", memory=memory)
    with pytest.raises(OptionError, match="use one of"):
        TensorRtRuntime(weights, precision="fp8", memory=memory)
    (tmp_path / "set").mkdir()
    with pytest.raises(OptionError, match="leave precision out"):
        TensorRtRuntime(exported(api, weights, tmp_path / "set"), precision="bf16", memory=memory)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no graph")
    with pytest.raises(WeightsError, match=r"does not take bad\.onnx: the file is no ONNX graph"):
        build_engine(api, bad, tmp_path / "bad.engine", gpu=GPU, size=128, precision="fp32")
    with pytest.raises(OptionError, match="ascending"):
        build_engine(api, bad, tmp_path / "bad.engine", gpu=GPU, size=128, precision="fp32", profile=(8, 4, 2))


@pytest.mark.parametrize("version", ["8.6.1", "12.0", ""])
def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    made = ModuleType("tensorrt")
    made.__version__ = version
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    with pytest.raises(RuntimeUnavailableError, match=r"10\.x and 11\.x are supported"):
        load_api()


def test_without_tensorrt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RuntimeUnavailableError, match="install the tensorrt wheel"):
        load_api()


def test_the_real_thing_agrees_with_onnx_runtime(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    torch = pytest.importorskip("torch", reason="memory of the GPU comes from PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    patches = sample(BATCH + 3, weights.manifest.input_size)
    wanted = create_runtime("onnx", weights).run(patches)
    for precision, limit in (("fp32", 1e-3), ("fp16", 0.1)):
        got = TensorRtRuntime(weights, precision=precision).run(patches)
        assert np.abs(got - wanted).max() < limit

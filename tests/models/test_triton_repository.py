"""A repository as Triton reads it: its own protobuf, and what may not be written."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maskmend.models.triton_repository import BACKENDS, RepositoryOptions, config_text, write_repository
from maskmend.models.zoo import Manifest, Weights, list_weights, resolve_weights
from maskmend.patcher.errors import JobError, OptionError, WeightsError


def parsed(text: str) -> Any:
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs the triton extra")
    from google.protobuf import text_format

    return text_format.Parse(text, model_config.ModelConfig())


def engine_set(folder: Path) -> Weights:
    """Weights as `maskmend export --format tensorrt` leaves them; nothing here looks into the engine."""
    shipped = resolve_weights("bpr-small").manifest
    (folder / "small-trt.engine").write_bytes(b"engine")
    manifest = Manifest(
        **{**shipped.model_dump(), "name": "small-trt", "precision": "fp16", "exported_from": shipped.sha256["onnx"]}
        | {"sha256": {"engine": hashlib.sha256(b"engine").hexdigest()}}
    )
    return Weights(manifest=manifest, folder=folder)


@pytest.mark.parametrize("weights", list_weights(), ids=lambda weights: weights.manifest.name)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gpu", [False, True])
def test_config_is_what_triton_reads(weights: Weights, backend: str, gpu: bool) -> None:
    manifest = weights.manifest
    config = parsed(config_text(weights, RepositoryOptions(backend, instances=3, max_batch=24, gpu=gpu)))
    assert (config.name, config.backend, config.max_batch_size) == (manifest.name, backend, 24)
    patches, logits = config.input[0], config.output[0]
    assert (patches.name, patches.data_type, list(patches.dims)) == ("patches", 11, [4, *[manifest.input_size] * 2])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", 11, [manifest.patch] * 2)
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, group.KIND_GPU if gpu else group.KIND_CPU)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16, 24]
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [warm.batch_size for warm in config.model_warmup] == [8, 16, 24]
    for warm in config.model_warmup:
        assert list(warm.inputs["patches"].dims) == list(patches.dims)
        assert warm.inputs["patches"].random_data
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert told["weights_sha256"] == manifest.sha256["onnx"]
    assert (told["weights"], told["precision"], told["micro_batch"]) == (manifest.name, "fp32", "4")
    assert ("intra_op_thread_count" in told) == (backend == "onnxruntime" and not gpu)


def test_files_of_each_backend(tmp_path: Path) -> None:
    weights = resolve_weights("bpr-small")
    for backend, files in (
        ("python", {"model.onnx", "model.py"}),
        ("onnxruntime", {"model.onnx"}),
        ("openvino", {"model.onnx"}),
    ):
        # Over the one before: nothing of it is left.
        folder = write_repository(weights, tmp_path / "repository", RepositoryOptions(backend, max_batch=8))
        assert {path.name for path in (folder / "1").iterdir()} == files
        assert (folder / "1" / "model.onnx").read_bytes() == weights.onnx_path.read_bytes()
        assert parsed((folder / "config.pbtxt").read_text()).default_model_filename in files
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["bpr-small"]


def test_an_engine_carries_the_sha_of_the_graph_it_was_built_from(tmp_path: Path) -> None:
    weights = engine_set(tmp_path)
    folder = write_repository(weights, tmp_path / "repository", RepositoryOptions("tensorrt", gpu=True))
    assert (folder / "1" / "model.plan").read_bytes() == b"engine"
    told = {k: v.string_value for k, v in parsed((folder / "config.pbtxt").read_text()).parameters.items()}
    assert told["weights_sha256"] == resolve_weights("bpr-small").manifest.sha256["onnx"]
    assert told["precision"] == "fp16"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (RepositoryOptions("pytorch"), "backend"),
        (RepositoryOptions("tensorrt"), "backend"),
        (RepositoryOptions(instances=0), "instances"),
        (RepositoryOptions(instances=65), "instances"),
        (RepositoryOptions(max_batch=4), "max_batch"),
        (RepositoryOptions(max_batch=10), "max_batch"),
        (RepositoryOptions("openvino", gpu=True), "gpu"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: RepositoryOptions, field: str) -> None:
    with pytest.raises(OptionError) as caught:
        write_repository(resolve_weights("bpr-small"), tmp_path / "repository", options)
    assert caught.value.field == field
    assert not (tmp_path / "repository").exists()


def test_an_engine_is_not_for_other_backends(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="onnx file"):
        write_repository(engine_set(tmp_path), tmp_path / "repository", RepositoryOptions("python"))


def test_a_model_from_elsewhere_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "bpr-small"
    theirs.mkdir()
    (theirs / "config.pbtxt").write_text('name: "bpr-small"')
    with pytest.raises(JobError, match="not written by maskmend"):
        write_repository(resolve_weights("bpr-small"), tmp_path, RepositoryOptions("python"))
    assert [path.name for path in tmp_path.iterdir()] == ["bpr-small"]
    assert [path.name for path in theirs.iterdir()] == ["config.pbtxt"]


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    """Triton would not start: every folder in a repository is a model."""
    for name in (".bpr-small.0123abcd", ".bpr-small.0123abcd.old", ".bpr-small.other", ".bpr-base.0123abcd"):
        (tmp_path / name / "1").mkdir(parents=True)
    write_repository(resolve_weights("bpr-small"), tmp_path, RepositoryOptions("python"))
    assert {path.name for path in tmp_path.iterdir()} == {"bpr-small", ".bpr-small.other", ".bpr-base.0123abcd"}


def test_a_model_that_cannot_be_exchanged_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = resolve_weights("bpr-small")
    write_repository(weights, tmp_path, RepositoryOptions("python"))
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == tmp_path / "bpr-small" and not self.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(JobError, match="Input/output error"):
        write_repository(weights, tmp_path, RepositoryOptions("onnxruntime"))
    assert [path.name for path in tmp_path.iterdir()] == ["bpr-small"]
    assert (tmp_path / "bpr-small" / "1" / "model.py").is_file()


def test_damaged_weights_are_not_written(tmp_path: Path) -> None:
    shipped = resolve_weights("bpr-small")
    for kind in ("json", "onnx"):
        shutil.copy(shipped.folder / f"bpr-small.{kind}", tmp_path)
    (tmp_path / "bpr-small.onnx").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="SHA-256"):
        write_repository(resolve_weights(tmp_path), tmp_path / "repository", RepositoryOptions("python"))
    assert not (tmp_path / "repository").exists()


def test_the_command(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "maskmend.clients.cli", "export", *arguments]
        environ = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)

    done = call("bpr-base", "--triton-repository", "models", "--backend", "python", "--instances", "2")
    assert done.returncode == 0, done.stderr
    assert "tritonserver --model-repository models" in done.stdout
    assert "--weights bpr-base" in done.stdout
    config = parsed((tmp_path / "models" / "bpr-base" / "config.pbtxt").read_text())
    assert (config.max_batch_size, config.instance_group[0].count) == (8, 2)
    refused = call("bpr-small", "--triton-repository", "models", "--backend", "tensorrt")
    assert refused.returncode == 2
    assert "--format tensorrt" in refused.stderr
    assert not (tmp_path / "models" / "bpr-small").exists()

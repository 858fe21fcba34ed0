"""`maskmend export --format`, and the gate that int8 has to pass."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sample_truth import SAMPLES, write_largest
from small_job import SmallJob
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="exporting needs the export extra")
pytest.importorskip("onnxruntime", reason="exporting needs the export extra")

import typer
from PIL import Image

from maskmend.clients import export_gate
from maskmend.clients.cli import export_formats
from maskmend.clients.cli.app import app
from maskmend.clients.export_gate import AccuracyError, Judgement, check, judge, patches_of, read_scenes
from maskmend.models import load_refiner, resolve_weights
from maskmend.patcher.errors import JobError, MaskmendError, OptionError, RuntimeUnavailableError


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_largest(2, tmp_path_factory.mktemp("truth") / "instances.json")


def test_scenes_are_split_by_image_and_made_the_same_again(truth: Path) -> None:
    fitted, held_out = read_scenes(truth, SAMPLES / "images")
    names = [{scene.photograph.name for scene in side} for side in (fitted, held_out)]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 6
    again, _ = read_scenes(truth, SAMPLES / "images")
    assert [scene.coarse for scene in again] == [scene.coarse for scene in fitted]
    assert all(a != b for scene in fitted for a, b in zip(scene.truths, scene.coarse, strict=True))


def test_int8_of_the_shipped_weights_passes_the_gate(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_formats.write_format("bpr-small", "onnx", "int8", tmp_path, calibration=truth, images=SAMPLES / "images")
    said = capsys.readouterr().out
    assert "held-out instances: mean IoU" in said
    assert "--runtime onnx --weights" in said
    found = resolve_weights(tmp_path)
    assert found.manifest.precision == "int8"


def test_a_network_that_refines_worse_is_refused_with_its_figures(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calibrated on noise a hundredth as strong as patches are, everything saturates."""
    monkeypatch.setattr(export_gate, "patches_of", lambda refiner, scenes: np.full((16, 4, 128, 128), 0.01, np.float32))
    with pytest.raises(typer.Exit) as left:
        export_formats.write_format("bpr-small", "onnx", "int8", tmp_path, calibration=truth, images=SAMPLES / "images")
    assert left.value.exit_code == export_formats.REFUSED == 4
    said = capsys.readouterr().err
    assert "refines worse than the original" in said
    assert "F@1 0." in said
    assert not list(tmp_path.iterdir())


def test_patches_are_those_of_the_engine_and_the_same_network_is_as_good(truth: Path) -> None:
    fitted, held_out = read_scenes(truth, SAMPLES / "images")
    refiner = load_refiner(runtime="onnx")
    patches = patches_of(refiner, fitted[:1], most=5)
    assert patches.shape == (5, 4, 128, 128)
    assert set(np.unique(patches[:, 3])) <= {-1.0, 1.0}
    same = judge(refiner, refiner, held_out[:1])
    assert same.instances == same.changed == 2
    assert same.iou[0] == same.iou[1] > 0.7
    check(same)


@pytest.mark.parametrize(
    ("iou", "f1", "passed"),
    [(0.0, 0.0, True), (0.0019, 0.0, True), (0.0021, 0.0, False), (0.0, 0.0021, False), (-0.1, 0.0, True)],
)
def test_the_gate(iou: float, f1: float, passed: bool) -> None:
    judgement = Judgement(10, 10, (0.9, 0.9 - iou), (0.8, 0.8 - f1))
    assert judgement.passed is passed
    if not passed:
        with pytest.raises(AccuracyError, match="nothing was written"):
            check(judgement)


def test_where_nothing_changes_nothing_is_judged(truth: Path, tmp_path: Path) -> None:
    """Photographs without an edge, on which the guard keeps every coarse mask, would let any network through."""
    _, held_out = read_scenes(truth, SAMPLES / "images")
    height, width = held_out[0].image().shape[:2]
    flat = tmp_path / "flat.png"
    Image.new("RGB", (width, height), (128, 128, 128)).save(flat)
    refiner = load_refiner(runtime="onnx")
    judgement = judge(refiner, refiner, [replace(held_out[0], photograph=flat)])
    assert judgement.passed
    assert judgement.changed == 0
    with pytest.raises(AccuracyError, match="says nothing of the export"):
        check(judgement)


def test_unusable_calibration_says_what_is_needed(truth: Path, tmp_path: Path, job: SmallJob) -> None:
    document = json.loads(truth.read_text())
    one = tmp_path / "one.json"
    first = document["images"][0]["id"]
    one.write_text(
        json.dumps({**document, "annotations": [a for a in document["annotations"] if a["image_id"] == first]})
    )
    with pytest.raises(JobError, match="two are the least"):
        read_scenes(one, SAMPLES / "images")
    one.write_text(json.dumps([]))
    with pytest.raises(JobError, match="result list"):
        read_scenes(one, SAMPLES / "images")
    document["images"] = [{**image, "file_name": "../" + image["file_name"]} for image in document["images"]]
    one.write_text(json.dumps(document))
    with pytest.raises(MaskmendError):
        read_scenes(one, SAMPLES / "images")


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    for arguments, message in (
        (("bpr-small", "onnx", "fp32", None), "--output is missing"),
        (("bpr-small", "onnx", "int8", tmp_path), "give --calibration"),
        (("bpr-small", "gguf", "fp32", tmp_path), "format is 'gguf'"),
    ):
        with pytest.raises(OptionError, match=message):
            export_formats.write_format(*arguments)
    if importlib.util.find_spec("tensorrt") is None:
        # Before minutes of calibration, not after them.
        with pytest.raises(RuntimeUnavailableError, match="install the tensorrt wheel"):
            export_formats.write_format(
                "bpr-small", "tensorrt", "int8", tmp_path, calibration=tmp_path / "none.json", images=tmp_path
            )
    for arguments, message in (
        (("--triton-repository", "r", "--precision", "int8"), "--precision is for --format"),
        (("--triton-repository", "r", "--images", "i"), "--images is for --format"),
        (("--format", "onnx", "-o", "o", "--max-batch", "8"), "--max-batch is for --triton-repository"),
        (("--format", "onnx", "-o", "o", "--device", "cuda"), "--device is for tensorrt and aoti"),
    ):
        done = CliRunner().invoke(app, ["export", "bpr-small", *arguments])
        assert isinstance(done.exception, OptionError)
        assert message in str(done.exception)
        assert not Path("r").exists()
    with pytest.raises(OptionError, match="leave them out"):
        export_formats.write_format("bpr-small", "onnx", "fp16", tmp_path, images=tmp_path)


def test_the_command_writes_weights_that_refine(tmp_path: Path, run, job: SmallJob) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    done = run("export", "bpr-small", "--format", "openvino", "--precision", "fp16", "-o", "made")
    assert done.returncode == 0, done.stderr
    assert "written: made/bpr-small-openvino-fp16.xml" in done.stdout
    assert "against float32, on openvino: 8 patches" in done.stdout
    neither = run("export", "bpr-small")
    assert neither.returncode == 2
    assert "say what to write" in neither.stderr

"""Golden vectors: each shipped set has them, they fit, and what differs from them is noticed."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maskmend.models import load_refiner
from maskmend.models.self_test import BEYOND, TOLERANCE, agree, golden_file, read_golden, write_golden
from maskmend.models.zoo import SHIPPED, Weights, list_weights, resolve_weights
from maskmend.patcher import extract_patches
from maskmend.patcher.errors import WeightsError

NAME = "bpr-small"


@pytest.fixture
def copied(tmp_path: Path) -> Weights:
    for kind in ("json", "onnx", "safetensors"):
        shutil.copy(SHIPPED / f"{NAME}.{kind}", tmp_path)
    shutil.copytree(SHIPPED / "golden", tmp_path / "golden")
    return resolve_weights(tmp_path / f"{NAME}.json")


@pytest.mark.parametrize("weights", list_weights(), ids=lambda weights: weights.manifest.name)
def test_every_shipped_set_has_golden_vectors_that_its_network_agrees_with(weights: Weights) -> None:
    golden = read_golden(weights)
    assert golden is not None, "python benchmarks/quality/golden.py"
    # They say something: an edge runs through them, and the network moves it.
    mask = golden.patches[:, 3]
    assert 0.05 < mask.mean() < 0.95
    assert 0.05 < (golden.probabilities > 0.5).mean() < 0.95
    found = agree(golden, load_refiner(weights=weights.onnx_path, threads=1), weights.manifest, "fp32")
    assert found.passed
    assert found.largest < TOLERANCE["fp32"]
    assert golden_file(weights).stat().st_size < 200_000


def test_patches_are_made_as_everywhere_else() -> None:
    golden = read_golden(resolve_weights(NAME))
    assert golden is not None
    image = np.ascontiguousarray(golden.patches[0, :3].transpose(1, 2, 0))
    size = image.shape[0]
    made = extract_patches(image, golden.patches[0, 3], np.array([[0, 0, size, size]]), size=size)
    assert np.abs(made[0] - golden.inputs[0]).max() < 1e-6


def test_a_network_that_says_something_else_does_not_pass() -> None:
    weights = resolve_weights(NAME)
    golden = read_golden(weights)
    assert golden is not None

    class Off:
        def __init__(self, change: float, share: float) -> None:
            self.change, self.share, self.provenance = change, share, {"precision": "fp32"}

        def forward(self, patches: np.ndarray) -> np.ndarray:
            assert patches.shape == golden.inputs.shape
            said = golden.probabilities.copy()
            count = round(self.share * said.size)
            said.ravel()[:count] += self.change
            return said

    def passes(precision: str, change: float, share: float = 1.0) -> bool:
        return agree(golden, Off(change, share), weights.manifest, precision).passed  # type: ignore[arg-type]

    for precision, tolerance in TOLERANCE.items():
        assert passes(precision, 0.0)
        assert passes(precision, 0.9 * tolerance)
        assert not passes(precision, 1.1 * tolerance)
        assert not passes(precision, float("nan"))
        assert not passes(precision, 0.5, BEYOND[precision] + 0.001)
    assert passes("bf16", 0.5, BEYOND["bf16"] - 0.001)


def test_weights_without_golden_vectors_have_none(copied: Weights) -> None:
    golden_file(copied).unlink()
    assert read_golden(copied) is None


def test_golden_vectors_of_other_weights_are_refused(copied: Weights) -> None:
    manifest = copied.folder / f"{NAME}.json"
    facts = json.loads(manifest.read_text())
    facts["sha256"]["onnx"] = "0" * 64
    manifest.write_text(json.dumps(facts))
    with pytest.raises(WeightsError, match=r"other weights.*golden\.py"):
        read_golden(resolve_weights(manifest))


def test_what_is_written_is_read_and_the_same_bytes(copied: Weights) -> None:
    golden = read_golden(copied)
    assert golden is not None
    before = golden_file(copied).read_bytes()
    write_golden(copied, golden.patches, golden.probabilities)
    assert golden_file(copied).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x80\x04K\x01.", None, "objects", "shapes"])
def test_damaged_golden_vectors_are_refused(copied: Weights, content: bytes | str | None) -> None:
    file = golden_file(copied)
    digest = np.array(copied.manifest.sha256["onnx"])
    if content is None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("patches.npy", bytes(80_000_000))
    elif content == "objects":
        np.savez(file, patches=np.array([{}], object), probabilities=np.zeros(1), onnx_sha256=digest, allow_pickle=True)
    elif content == "shapes":
        flat = np.zeros((1, 4, 8, 8), np.uint8)
        np.savez(file, patches=flat, probabilities=np.zeros((1, 8, 8), np.uint16), onnx_sha256=digest)
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    with pytest.raises(WeightsError, match="golden vectors"):
        read_golden(copied)

"""Weights by name and by path, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskmend.models.zoo import SHIPPED, check_name, list_weights, resolve_weights
from maskmend.patcher.errors import OptionError, WeightsError

BPR = "bpr-small"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped set."""
    for kind in ("json", "onnx", "safetensors", "md"):
        shutil.copy(SHIPPED / f"{BPR}.{kind}", tmp_path)
    return tmp_path


def change_manifest(folder: Path, **changes: object) -> None:
    file = folder / f"{BPR}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_importing_loads_no_runtime() -> None:
    code = "import sys, maskmend.models; print([m for m in ('torch', 'onnxruntime', 'openvino') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_shipped_set_is_whole_and_small() -> None:
    names = [weights.manifest.name for weights in list_weights()]
    assert BPR in names
    for weights in list_weights():
        weights.verify()
        assert weights.card_path.read_text().strip()
    sizes = {name: sum(file.stat().st_size for file in SHIPPED.glob(f"{name}.*")) for name in names}
    assert sum(size for name, size in sizes.items() if name.startswith("bpr")) <= 20e6
    assert max(sizes.values()) <= 40e6


def test_a_set_is_found_by_name_and_by_path(folder: Path) -> None:
    by_name = resolve_weights(BPR)
    assert by_name.onnx_path == SHIPPED / f"{BPR}.onnx"
    for path in (folder, *(folder / f"{BPR}.{kind}" for kind in ("json", "onnx", "safetensors"))):
        for found in (resolve_weights(path), resolve_weights(str(path))):
            assert found.manifest == by_name.manifest
            assert found.folder == folder


@pytest.mark.parametrize("name", ["nothing", "../bpr-small", "", "a" * 5000, "a/" * 5000, "bpr-small\0", "absent.onnx"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve_weights(name)
    assert caught.value.field == "weights"
    assert len(str(caught.value)) < 4500
    if len(name) < 100:
        assert BPR in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "a b", "a\n", "é", "a" * 65]
)
def test_a_name_cannot_lead_out_of_a_folder(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_name(name)
    assert caught.value.field == "name"


def test_plain_names_are_fine() -> None:
    for name in ("bpr-small", "W48_v1.2", "0"):
        check_name(name)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".ckpt", ".bin", ".PTH"])
def test_a_pickle_is_not_read_as_weights(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"bpr{suffix}").write_bytes(b"x")
    with pytest.raises(WeightsError, match="maskmend models import"):
        resolve_weights(tmp_path / f"bpr{suffix}")


@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_one_changed_byte_is_found(folder: Path, kind: str) -> None:
    file = folder / f"{BPR}.{kind}"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{file.name}.*SHA-256.*fetch it again"):
        resolve_weights(folder).verify()
    file.unlink()
    with pytest.raises(WeightsError, match=rf"{file.name} is missing"):
        resolve_weights(folder).verify()


def test_a_checksum_left_out_of_the_manifest_is_no_way_round(folder: Path) -> None:
    change_manifest(folder, sha256={})
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve_weights(folder).verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": "large"}, "input_size"),
        ({"input_size": 10**9}, "input_size"),
        ({"padding": -1}, "padding"),
        ({"extra": 1}, "extra"),
        ({"name": "another"}, "agree"),
        ({"name": "../bpr-small"}, "agree"),
    ],
)
def test_a_wrong_manifest_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    change_manifest(folder, **changes)
    with pytest.raises(WeightsError, match=message):
        resolve_weights(folder)


def test_a_manifest_that_is_missing_broken_or_one_of_two_is_refused(folder: Path) -> None:
    manifest = folder / f"{BPR}.json"
    shutil.copy(manifest, folder / "other.json")
    with pytest.raises(WeightsError, match="2 manifests"):
        resolve_weights(folder)
    (folder / "other.json").unlink()
    manifest.write_text("{")
    with pytest.raises(WeightsError, match=manifest.name):
        resolve_weights(folder)
    manifest.unlink()
    with pytest.raises(WeightsError, match="0 manifests"):
        resolve_weights(folder)
    with pytest.raises(WeightsError, match="needs its manifest"):
        resolve_weights(folder / f"{BPR}.onnx")

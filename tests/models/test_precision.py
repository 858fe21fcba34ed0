"""`--precision int8` and `auto`: which form of the weights is loaded, and that it is as good and as repeatable as fp32."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from company import check_any_company, some

from maskmend.models import load_refiner, precision
from maskmend.models.exporters.parity import sample
from maskmend.models.gate import TOLERANCE, Gate
from maskmend.models.precision import has_int8
from maskmend.models.runtimes import create_runtime
from maskmend.models.zoo import SHIPPED, Weights, list_weights, resolve_weights
from maskmend.patcher.errors import OptionError, WeightsError

openvino = pytest.importorskip("openvino", reason="the openvino runtime is not installed")

BPR = "bpr-small"
needs_vnni = pytest.mark.skipif(
    not has_int8(), reason="without VNNI sums of int8 may saturate; int8 was not judged there"
)
IN_INT8 = [weights for weights in list_weights() if weights.in_precision("int8")]
VNNI = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni sse\nbugs\t\t: none\n"
PLAIN = "processor\t: 0\nflags\t\t: fpu avx2 sse\nbugs\t\t: avx_vnni\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped set with its int8 form."""
    (tmp_path / "int8").mkdir()
    for kind in ("json", "onnx", "safetensors"):
        shutil.copy(SHIPPED / f"{BPR}.{kind}", tmp_path)
    for kind in ("json", "onnx"):
        shutil.copy(SHIPPED / "int8" / f"{BPR}.{kind}", tmp_path / "int8")
    return tmp_path


def change(manifest: Path, **changes: object) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def claim(monkeypatch: pytest.MonkeyPatch, folder: Path, processor: str) -> None:
    """Have the processor be another one."""
    file = folder / "cpuinfo"
    file.write_text(processor)
    monkeypatch.setattr(precision, "_PROCESSOR", file)


def int8_of(weights: Weights) -> Weights:
    found = weights.in_precision("int8")
    assert found is not None
    return found


@pytest.mark.parametrize("weights", IN_INT8, ids=lambda weights: weights.manifest.name)
def test_a_shipped_int8_form_is_whole_small_and_passed_its_gate(weights: Weights) -> None:
    form = int8_of(weights)
    form.verify()
    assert form.manifest.gate is not None
    assert {gate.data for gate in form.manifest.gate} >= {"coco-cc", "nuclei", "davis"}
    assert all(gate.passed and gate.instances >= 40 for gate in form.manifest.gate)
    assert form.onnx_path.stat().st_size < 0.4 * weights.onnx_path.stat().st_size
    assert form.manifest.guard == weights.manifest.guard
    card = form.card_path.read_text()
    for gate in form.manifest.gate:
        assert f"| {gate.data} | {gate.instances} | {gate.iou[0]:.4f} → {gate.iou[1]:.4f} |" in card


def test_the_default_weights_have_an_int8_form() -> None:
    assert BPR in {weights.manifest.name for weights in IN_INT8}


def test_the_gate() -> None:
    good = {"data": "x", "instances": 1, "iou": (0.9, 0.9)}
    assert Gate(**good, f1=(0.8, 0.8 - TOLERANCE / 2)).passed
    assert not Gate(**good, f1=(0.8, 0.8 - 2 * TOLERANCE)).passed
    assert not Gate(data="x", instances=1, iou=(0.9, 0.8), f1=(0.8, 0.9)).passed


@pytest.mark.parametrize("weights", IN_INT8, ids=lambda weights: weights.manifest.name)
def test_int8_names_itself_and_the_file_it_was_read_from(weights: Weights) -> None:
    made = load_refiner(weights=weights.manifest.name, runtime="openvino", precision="int8", threads=1)
    assert made.provenance["precision"] == "int8"
    assert made.provenance["weights"] == weights.manifest.name
    assert made.provenance["weights_sha256"] == int8_of(weights).manifest.sha256["onnx"]
    assert made.provenance["weights_sha256"] != weights.manifest.sha256["onnx"]


@needs_vnni
def test_int8_says_about_the_same_and_is_not_fp32() -> None:
    # Made-up patches, far from what it was fitted to; tests/clients/test_int8.py has real ones.
    patches = sample(16, 128)
    exact, form = (load_refiner(runtime="openvino", precision=p, threads=1).forward(patches) for p in ("fp32", "int8"))
    assert 0 < ((exact > 0.5) != (form > 0.5)).mean() < 0.05
    assert np.abs(exact - form).mean() < 0.05


def test_a_patch_in_int8_is_the_same_in_any_company_on_any_number_of_threads() -> None:
    weights = int8_of(resolve_weights(BPR))
    from maskmend.models.runtimes.openvino import INT8_BATCH

    patches = sample(some(INT8_BATCH), 128)
    network = create_runtime("openvino", weights, threads=1)
    together = check_any_company(network.run, patches, lambda _: sample(INT8_BATCH, 128) * 10, INT8_BATCH)
    for threads in (2, 3, 8):
        other = create_runtime("openvino", weights, threads=threads)
        assert other.run(patches).tobytes() == together.tobytes()
        with ThreadPoolExecutor(3) as callers:
            assert [out.tobytes() for out in callers.map(other.run, [patches[:5]] * 3)] == [together[:5].tobytes()] * 3


def test_weights_without_an_int8_form_are_refused_with_the_command_that_makes_one(folder: Path) -> None:
    shutil.rmtree(folder / "int8")
    with pytest.raises(OptionError, match="maskmend export bpr-small --format onnx --precision int8") as caught:
        load_refiner(weights=folder / f"{BPR}.json", runtime="openvino", precision="int8")
    assert caught.value.field == "precision"


def test_an_int8_form_of_other_weights_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(monkeypatch, folder, VNNI)
    change(folder / "int8" / f"{BPR}.json", exported_from="0" * 64)
    with pytest.raises(OptionError, match="no int8 form made from them"):
        load_refiner(weights=folder / f"{BPR}.json", runtime="openvino", precision="int8")
    assert load_refiner(weights=folder / f"{BPR}.json", precision="auto", threads=1).provenance["precision"] != "int8"


def test_a_damaged_int8_form_is_refused(folder: Path) -> None:
    file = folder / "int8" / f"{BPR}.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="SHA-256"):
        load_refiner(weights=folder / f"{BPR}.json", runtime="openvino", precision="int8")


def test_auto_takes_int8_where_it_passed_and_the_processor_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / f"{BPR}.json"
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    otherwise = "bf16" if has_bf16 else "fp32"

    def chosen(weights: Path = place) -> object:
        return load_refiner(weights=weights, runtime="openvino", precision="auto", threads=1).provenance["precision"]

    assert chosen() == ("int8" if has_int8() else otherwise)
    claim(monkeypatch, folder, VNNI)
    assert chosen() == "int8"
    # A set that was exported in a precision of its own stays in that.
    assert chosen(folder / "int8" / f"{BPR}.json") == "int8"
    claim(monkeypatch, folder, PLAIN)
    assert chosen() == otherwise
    claim(monkeypatch, folder, VNNI)
    lost = {"data": "x", "instances": 9, "iou": [0.9, 0.9], "f1": [0.9, 0.8]}
    change(folder / "int8" / f"{BPR}.json", gate=[lost])
    assert chosen() == otherwise
    change(folder / "int8" / f"{BPR}.json", gate=None)
    assert chosen() == otherwise


def test_the_processor_is_read_where_it_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, wanted in ((VNNI, True), (PLAIN, False), (VNNI.replace("avx512_vnni", "avx_vnni"), True), ("", False)):
        claim(monkeypatch, tmp_path, text)
        assert has_int8() is wanted
    monkeypatch.setattr(precision, "_PROCESSOR", tmp_path / "absent")
    assert not has_int8()


def test_the_default_is_fp32_and_other_runtimes_stay_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    claim(monkeypatch, tmp_path, VNNI)
    assert load_refiner(runtime="openvino", threads=1).provenance["precision"] == "fp32"
    pytest.importorskip("onnxruntime", reason="the onnx runtime is not installed")
    assert load_refiner(runtime="onnx", precision="auto", threads=1).provenance["precision"] == "fp32"
    with pytest.raises(OptionError, match="int8 needs the openvino runtime"):
        load_refiner(runtime="onnx", precision="int8")
    # Weights that are in int8 themselves run there too, and may be asked for as what they are.
    own = load_refiner(weights=SHIPPED / "int8" / f"{BPR}.json", runtime="onnx", precision="int8", threads=1)
    assert own.provenance["precision"] == "int8"


def test_an_unknown_precision_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="use one of auto, fp32, bf16, fp16, int8") as caught:
        load_refiner(precision="int4")
    assert caught.value.field == "precision"
    with pytest.raises(OptionError, match="device is 'gpu'"):
        load_refiner(precision="auto", device="gpu")

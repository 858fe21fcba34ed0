"""Exports: casts, int8, OpenVINO's files, compiled packages; each run, and compared with the float32 graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="exporting needs the export extra")
pytest.importorskip("onnxruntime", reason="exporting needs the export extra")

from maskmend.models import load_refiner  # noqa: E402
from maskmend.models.casts import cast_graph  # noqa: E402
from maskmend.models.exporters import PRECISIONS, export_weights  # noqa: E402
from maskmend.models.exporters.int8 import quantize_graph  # noqa: E402
from maskmend.models.exporters.parity import compare, sample  # noqa: E402
from maskmend.models.half_precision import cast_file  # noqa: E402
from maskmend.models.runtimes import create_runtime  # noqa: E402
from maskmend.models.zoo import Weights, resolve_weights  # noqa: E402
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError  # noqa: E402


@pytest.fixture(scope="module")
def small() -> Weights:
    return resolve_weights("bpr-small")


def types_within(graph: onnx.GraphProto) -> set[int]:
    """Types of all initialisers and constants with more than a handful of values."""
    return {tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 16}


@pytest.mark.parametrize("name", ["bpr-small", "transfiner-small"])
@pytest.mark.parametrize(
    ("precision", "kind"), [("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)]
)
def test_casts_leave_input_and_output_alone_and_nothing_else(name: str, precision: str, kind: int) -> None:
    source = onnx.load(str(resolve_weights(name).onnx_path))
    made = cast_graph(source, precision)
    (given,), (out,) = made.graph.input, made.graph.output
    assert given.type.tensor_type.elem_type == out.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert types_within(made.graph) - {onnx.TensorProto.INT64} == {kind}
    assert types_within(source.graph) - {onnx.TensorProto.INT64} == {onnx.TensorProto.FLOAT}
    read = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= read
    # Types of every value in between fit together, or shape inference says where they do not.
    onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


def test_a_weight_beyond_the_format_is_named(tmp_path: Path) -> None:
    values = onnx.helper.make_tensor("far", onnx.TensorProto.FLOAT, [2], [1.0, 1e6])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["patches", "far"], ["logits"])],
        "sum",
        [onnx.helper.make_tensor_value_info("patches", onnx.TensorProto.FLOAT, ["batch", 2])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
        [values],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(WeightsError, match="'far' reaches 1e"):
        cast_graph(model, "fp16")
    assert cast_graph(model, "bf16").opset_import[0].version >= 22
    # What guards a division must not become zero.
    values.float_data[:] = [1.0, 1e-12]
    del graph.initializer[:]
    graph.initializer.append(values)
    model.graph.CopyFrom(graph)
    (made,) = cast_graph(model, "fp16").graph.initializer
    assert onnx.numpy_helper.to_array(made).min() > 0


@pytest.mark.parametrize(
    ("form", "precision"), [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32"), ("openvino", "fp16")]
)
def test_an_export_runs_as_weights_of_its_own(small: Weights, tmp_path: Path, form: str, precision: str) -> None:
    if form == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    made = export_weights(small, tmp_path, form=form, precision=precision)
    name = f"bpr-small-{precision}" if form == "onnx" else f"bpr-small-{form}-{precision}"
    assert made.weights.manifest.name == name
    assert made.weights.manifest.exported_from == small.manifest.sha256["onnx"]
    assert made.parity.flipped < 0.005
    kinds = ("onnx",) if form == "onnx" else ("xml", "bin")
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.{kind}" for kind in (*kinds, "json", "md")}
    found = resolve_weights(tmp_path)
    found.verify()
    refiner = load_refiner(weights=tmp_path / f"{name}.json", runtime=made.runtime)
    assert refiner.provenance["precision"] == precision
    assert refiner.provenance["weights_sha256"] == found.manifest.sha256[kinds[-1]]
    assert str(made.parity) in found.card_path.read_text()
    with pytest.raises(RuntimeUnavailableError, match="choose another runtime"):
        create_runtime("torch", found) if form == "onnx" else create_runtime("onnx", found)
    with pytest.raises(OptionError, match="were exported themselves"):
        export_weights(found, tmp_path, form="onnx")


def test_bf16_runs_on_openvino_and_says_so_elsewhere(small: Weights, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    made = export_weights(small, tmp_path, form="onnx", precision="bf16")
    assert made.runtime == "openvino"
    assert 0 < made.parity.flipped < 0.02
    assert create_runtime("openvino", made.weights).precision == "bf16"
    with pytest.raises(RuntimeUnavailableError, match="use the openvino runtime"):
        create_runtime("onnx", made.weights)


def test_int8_is_int8_and_runs_on_two_runtimes(small: Weights, tmp_path: Path) -> None:
    patches = sample(16, small.manifest.input_size)
    seen: list[str] = []
    made = export_weights(
        small,
        tmp_path,
        form="onnx",
        precision="int8",
        patches=patches,
        accept=lambda weights, runtime: seen.append(f"{weights.manifest.name} {runtime}"),
    )
    assert seen == ["bpr-small-int8 onnx"]
    graph = onnx.load(str(made.weights.onnx_path)).graph
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    zeros = [onnx.numpy_helper.to_array(tensors[node.input[2]]) for node in quantized]
    # TensorRT takes symmetric int8 alone.
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert made.weights.onnx_path.stat().st_size < 0.5 * small.onnx_path.stat().st_size
    if pytest.importorskip("openvino", reason="OpenVINO is not installed"):
        other = compare(small, made.weights, patches, runtime="openvino", precision="int8")
        assert other.flipped < 0.05


def test_what_is_refused_leaves_nothing_behind(small: Weights, tmp_path: Path) -> None:
    def refuse(weights: Weights, runtime: str) -> None:
        raise WeightsError("no", field="precision")

    with pytest.raises(WeightsError, match="no"):
        export_weights(small, tmp_path, form="onnx", precision="fp16", accept=refuse)
    with pytest.raises(OptionError, match="give --calibration"):
        export_weights(small, tmp_path, form="onnx", precision="int8")
    with pytest.raises(OptionError, match="16 are the least"):
        quantize_graph(small.onnx_path, tmp_path / "x.onnx", sample(3, 128))
    for form, precision in (("openvino", "bf16"), ("aoti", "int8"), ("coreml", "fp32"), ("onnx", "fp8")):
        with pytest.raises(OptionError, match=r"use one of|takes one of"):
            export_weights(small, tmp_path, form=form, precision=precision)
    with pytest.raises(OptionError, match="must be 1 to 64"):
        export_weights(small, tmp_path, form="onnx", name="../up")
    assert not list(tmp_path.iterdir())


def test_originals_are_not_overwritten(small: Weights, tmp_path: Path) -> None:
    for kind in ("json", "onnx", "md"):
        shutil.copy(small.file(kind), tmp_path)
    with pytest.raises(OptionError, match="would be overwritten; give another name"):
        export_weights(resolve_weights(tmp_path), tmp_path, form="onnx", precision="fp16", name="bpr-small")
    resolve_weights(tmp_path).verify(("onnx",))
    # Exports are: the same command may be given again.
    for _ in range(2):
        made = export_weights(resolve_weights(tmp_path / "bpr-small.json"), tmp_path, form="onnx", precision="fp16")
    made.weights.verify()


def test_a_package_for_a_device_that_is_none_is_refused(small: Weights, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="AOTInductor is PyTorch's")
    with pytest.raises(OptionError, match="use cuda"):
        export_weights(small, tmp_path, form="aoti", device="tpu")


def test_a_graph_that_says_something_else_is_not_exported(small: Weights, tmp_path: Path) -> None:
    """Parity is asked of what was written, not of what was meant."""
    for kind in ("json", "onnx"):
        shutil.copy(small.file(kind), tmp_path / f"bpr-small.{kind}")
    model = onnx.load(str(tmp_path / "bpr-small.onnx"))
    bias = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 1)
    moved = onnx.numpy_helper.to_array(bias) + 1
    bias.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.float32), bias.name))
    other = tmp_path / "other"
    other.mkdir()
    onnx.save(model, str(other / "moved.onnx"))
    manifest = json.loads((tmp_path / "bpr-small.json").read_text())
    from maskmend.models.zoo import sha256

    manifest |= {"name": "moved", "sha256": {"onnx": sha256(other / "moved.onnx")}, "exported_from": "x"}
    (other / "moved.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="is not the original"):
        compare(small, resolve_weights(other), sample(2, 128), runtime="onnx", precision="fp32")


@pytest.mark.slow
def test_a_compiled_package_says_what_the_network_says(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="AOTInductor is PyTorch's")
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler here")
    from test_export import tiny, write

    torch.manual_seed(0)
    weights = write(tiny(), tmp_path / "from")
    made = export_weights(weights, tmp_path / "to", form="aoti", precision="fp32")
    assert made.runtime == "aoti"
    assert made.parity.largest < 1e-4
    assert made.weights.file("pt2").is_file()
    # A package is code, and is not run because it lies there.
    with pytest.raises(RuntimeUnavailableError, match="exported as pt2"):
        create_runtime("torch", made.weights)


def test_casting_a_file_needs_onnx_and_says_so(monkeypatch: pytest.MonkeyPatch, small: Weights, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(RuntimeUnavailableError, match=r"maskmend\[export\]"):
        cast_file(small.onnx_path, tmp_path / "x.onnx", "fp16")


def test_every_precision_is_one_that_manifests_know() -> None:
    assert {p for kinds in PRECISIONS.values() for p in kinds} == {"fp32", "fp16", "bf16", "int8"}

"""Weights in the forms that other runtimes take: ONNX in other precisions, OpenVINO IR, TensorRT engines, AOTInductor.

Every export starts from the shipped files of a set, is compared with their float32 graph, and becomes a set of its own with
manifest and card, which `resolve_weights` finds and `--weights` takes wherever a runtime can run it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.models.exporters.parity import Parity, compare, sample
from maskmend.models.gate import Gate, gate_table
from maskmend.models.half_precision import cast_file
from maskmend.models.tensorrt_api import load_api
from maskmend.models.zoo import Manifest, Weights, check_name, resolve_weights, sha256
from maskmend.patcher.errors import OptionError, WeightsError

FORMATS = ("onnx", "openvino", "tensorrt", "aoti")
PRECISIONS = {
    "onnx": ("fp32", "fp16", "bf16", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
    "aoti": ("fp32", "fp16", "bf16"),
}
FILES = {"onnx": ("onnx",), "openvino": ("xml", "bin"), "tensorrt": ("engine",), "aoti": ("pt2",)}
"""Kinds of the files that each format writes."""
RUNTIME = {"onnx": "onnx", "openvino": "openvino", "tensorrt": "tensorrt"}
"""Which runtime runs an export here; none runs compiled packages."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        weights: the new set.
        parity: its distance from the float32 graph.
        runtime: that it was compared on; `aoti` for a package.
    """

    weights: Weights
    parity: Parity
    runtime: str


def check_kind(form: str, precision: str) -> None:
    """Refuse what cannot be exported, before anything that takes long.

    Raises:
        OptionError: an unknown format, or a precision that it does not have.
        RuntimeUnavailableError: TensorRT is missing, or of a version that is not supported, for a TensorRT engine.
    """
    if form not in FORMATS:
        raise OptionError(f"format is {form[:40]!r}; use one of {', '.join(FORMATS)}", field="format")
    if precision not in PRECISIONS[form]:
        hint = "; for bf16 run any weights with --precision bf16" if (form, precision) == ("openvino", "bf16") else ""
        raise OptionError(
            f"precision is {precision[:40]!r}; {form} takes one of {', '.join(PRECISIONS[form])}{hint}",
            field="precision",
        )
    if form == "tensorrt":
        load_api()


def export_weights(
    weights: Weights,
    folder: Path,
    *,
    form: str,
    precision: str = "fp32",
    name: str | None = None,
    patches: NDArray[np.float32] | None = None,
    accept: Callable[[Weights, str], tuple[Gate, ...]] | None = None,
    runtime: str | None = None,
    device: str | None = None,
) -> Exported:
    """Export a set of weights.

    Args:
        weights: with their original files.
        folder: to write into.
        form: one of `FORMATS`.
        precision: one of `PRECISIONS` of the format.
        name: of the new set; made of the old name, format and precision if None.
        patches: float32 [N, 4, S, S] to calibrate int8 with, and to compare on; made up for the comparison if None.
        accept: called with the finished set and its runtime before it is put in its place; raises to refuse it, or returns
            what it measured, for the manifest and the card.
        runtime: to compare an ONNX export on, `onnx` or `openvino`; None for the one that is nearest to the graph.
        device: `cuda`, `cuda:1` for tensorrt; `cpu` or `cuda` for aoti.

    Raises:
        OptionError: a name, format or precision that cannot be, a name that other weights in the folder have, int8 without
            patches, or weights exported before.
        RuntimeUnavailableError: a library, a compiler or a GPU is missing.
        WeightsError: the result is too far from the original, or cannot be made.
    """
    check_kind(form, precision)
    made = name if name is not None else _name(weights.manifest.name, form, precision)
    check_name(made)
    if weights.manifest.exported_from is not None:
        raise OptionError(
            f"weights {weights.manifest.name} were exported themselves; name those that they were made from",
            field="weights",
        )
    if precision == "int8" and patches is None:
        raise OptionError(
            "int8 is fitted to real patches; give --calibration GT.json and --images DIR", field="calibration"
        )
    there = folder / f"{made}.json"
    if there.exists() and resolve_weights(there).manifest.exported_from is None:
        raise OptionError(
            f"{folder} has weights {made} that are no export, and would be overwritten; give another name or folder",
            field="name",
        )
    weights.verify(("onnx",))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        inside = Path(temporary)
        _write(weights, inside / made, form, precision, patches, device, folder)
        fresh = Weights(manifest=_manifest(weights.manifest, made, form, precision, inside), folder=inside)
        _note(fresh)
        if runtime is None or form != "onnx":
            runtime = "openvino" if (form, precision) == ("onnx", "bf16") else RUNTIME.get(form, "aoti")
        given = sample(8, fresh.manifest.input_size) if patches is None else patches[:64]
        parity = compare(weights, fresh, given, runtime=runtime, precision=precision, device=device)
        if accept is not None and runtime != "aoti":
            gate = accept(fresh, runtime)
            fresh = fresh.model_copy(update={"manifest": fresh.manifest.model_copy(update={"gate": gate or None})})
            _note(fresh)
        card = _card(weights, fresh.manifest, form, precision, runtime, parity)
        (inside / f"{made}.md").write_text(card, encoding="utf-8")
        moved = [f"{made}.{kind}" for kind in (*FILES[form], "md", "json")]
        for file in [*moved[:-1], *([f"{made}.engine.json"] if form == "tensorrt" else []), moved[-1]]:
            (inside / file).replace(folder / file)
    return Exported(fresh.model_copy(update={"folder": folder}), parity, runtime)


def _write(
    weights: Weights,
    stem: Path,
    form: str,
    precision: str,
    patches: NDArray[np.float32] | None,
    device: str | None,
    folder: Path,
) -> None:
    """Write the files of a format, named STEM.KIND."""
    target = stem.with_name(f"{stem.name}.{FILES[form][0]}")
    if form == "aoti":
        from maskmend.models.exporters.aot import write_package

        write_package(weights, target, precision=precision, device=device or "cpu")
        return
    with tempfile.TemporaryDirectory() as temporary:
        graph = target if form == "onnx" else Path(temporary) / f"{stem.name}.onnx"
        _graph(weights, graph, "fp32" if (form, precision) == ("openvino", "fp16") else precision, patches)
        if form == "openvino":
            from maskmend.models.exporters.openvino_ir import write_ir

            write_ir(graph, target, halved=precision == "fp16")
        if form == "tensorrt":
            _engine(graph, target, weights.manifest.input_size, precision, device or "cuda", folder)


def _graph(weights: Weights, target: Path, precision: str, patches: NDArray[np.float32] | None) -> None:
    if precision == "int8":
        from maskmend.models.exporters.int8 import quantize_graph

        assert patches is not None
        quantize_graph(weights.onnx_path, target, patches)
    elif precision == "fp32":
        target.write_bytes(weights.onnx_path.read_bytes())
    else:
        cast_file(weights.onnx_path, target, precision)


def _engine(graph: Path, target: Path, size: int, precision: Any, device: str, folder: Path) -> None:
    from maskmend.models.tensorrt_engine import build_engine

    api = load_api()
    from maskmend.models.runtimes.cuda_memory import CudaMemory

    memory = CudaMemory(device)
    cache = folder / "tensorrt-timing.cache"
    with memory.current():
        build_engine(api, graph, target, gpu=memory.gpu, size=size, precision=precision, timing_cache=cache)


def _name(name: str, form: str, precision: str) -> str:
    return f"{name}-{precision}" if form == "onnx" else f"{name}-{form}-{precision}"


def _manifest(source: Manifest, name: str, form: str, precision: str, folder: Path) -> Manifest:
    try:
        sums = {kind: sha256(folder / f"{name}.{kind}") for kind in FILES[form]}
    except OSError as error:  # A converter that says it is done, and is not.
        raise WeightsError(f"no {error.filename} was written; nothing is exported", field="format") from error
    return source.model_copy(
        update={
            "name": name,
            "sha256": sums,
            "precision": None if precision == "fp32" else precision,
            "exported_from": source.sha256["onnx"],
            "source": f"{source.name} by maskmend export --format {form} --precision {precision}",
        }
    )


def _note(weights: Weights) -> None:
    text = weights.manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
    (weights.folder / f"{weights.manifest.name}.json").write_text(text, encoding="utf-8")


def _card(weights: Weights, manifest: Manifest, form: str, precision: str, runtime: str, parity: Parity) -> str:
    own = weights.card_path.read_text(encoding="utf-8") if weights.card_path.is_file() else ""
    judged = (
        f"True masks refined by the original → by this export, with the engine's defaults:\n\n{gate_table(manifest.gate)}\n"
        if manifest.gate
        else ""
    )
    source = weights.manifest.name
    title = manifest.name if manifest.name != source else f"{source} in {precision}"
    return (
        f"# {title}\n\n{source} as {form} in {precision}, written by `maskmend export`.\n\n"
        f"Against its float32 graph, on {runtime}: {parity}.\n\n{judged}---\n\n{own}"
    )

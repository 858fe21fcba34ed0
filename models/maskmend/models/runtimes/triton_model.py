"""What a Triton says of its model, held against the weights that are to be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maskmend.models.runtimes.pool import MICRO_BATCH
from maskmend.models.runtimes.triton_fleet import TritonFailure
from maskmend.models.zoo import Manifest, Weights

INPUT, OUTPUT = "patches", "logits"
SHA_KEY, PRECISION_KEY = "weights_sha256", "precision"
"""Parameters in `config.pbtxt`, written by `maskmend.models.triton_repository`."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server has.

    Attributes:
        server_version: of Triton.
        precision: what the model computes in.
        max_batch: patches that one request may hold.
    """

    server_version: str
    precision: str
    max_batch: int


def graph_sha256(manifest: Manifest) -> str:
    """SHA-256 of the ONNX graph of a set of weights, or of that which an engine was built from."""
    return manifest.sha256.get("onnx") or manifest.exported_from or ""


def check_model(
    server: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any], weights: Weights, precision: str
) -> ServedModel:
    """Compare what a server says with the weights.

    Args:
        server: its metadata.
        metadata: of the model.
        config: of the model; integers may be written as text.
        weights: that results are to be of.
        precision: asked for; fp32 is whatever the weights themselves are in.

    Raises:
        TritonFailure: the model is of other weights, shapes, types or another precision, or does not say what it is of.
    """
    manifest = weights.manifest
    size, patch = manifest.input_size, manifest.patch
    again = f"write its repository with `maskmend export {manifest.name} --triton-repository DIR`"
    for kind, name, wanted in (
        ("inputs", INPUT, [-1, 4, size, size]),
        ("outputs", OUTPUT, [-1, patch, patch]),
    ):
        tensors = metadata.get(kind) or []
        found = [(t.get("name"), t.get("datatype"), [int(n) for n in t.get("shape") or []]) for t in tensors]
        if found != [(name, "FP32", wanted)]:
            said = ", ".join(f"{str(n)[:40]} {str(t)[:20]} {s}" for n, t, s in found[:3]) or "nothing"
            raise TritonFailure(
                f"its model has {kind} {said}, not {name} FP32 {wanted}; {again}",
                passing=False,
            )
    parameters = config.get("parameters") or {}
    sha = str((parameters.get(SHA_KEY) or {}).get("string_value", ""))
    if not sha:
        raise TritonFailure(f"its model does not say which weights it is of; {again}", passing=False)
    wanted_sha = graph_sha256(manifest)
    if sha != wanted_sha:
        raise TritonFailure(
            f"its model is of weights {sha[:12]}, not of {manifest.name}, which are {wanted_sha[:12]}; {again}, or use the "
            "weights that it has",
            passing=False,
        )
    served = str((parameters.get(PRECISION_KEY) or {}).get("string_value", "fp32"))
    precision = manifest.precision or "fp32" if precision == "fp32" else precision
    if served != precision:
        raise TritonFailure(
            f"its model computes in {served[:20]}, not in {precision}; ask for precision {served[:20]}, or {again}",
            passing=False,
        )
    max_batch = int(config.get("max_batch_size") or 0)
    if max_batch < MICRO_BATCH:
        raise TritonFailure(
            f"its model takes {max_batch} patches a request, and {MICRO_BATCH} go together; {again} --max-batch 8",
            passing=False,
        )
    return ServedModel(str(server.get("version", ""))[:40] or "unknown", served, max_batch)

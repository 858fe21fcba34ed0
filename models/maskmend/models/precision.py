"""Which form of a set of weights a precision means, and which one is the fastest here."""

from __future__ import annotations

import re
from pathlib import Path

from maskmend.models.runtimes import PRECISIONS, check_device, choose_runtime
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import OptionError

AUTO = "auto"
_PROCESSOR = Path("/proc/cpuinfo")
_INT8 = re.compile(r"^flags\s*:.*\b(avx512_vnni|avx_vnni)\b", re.MULTILINE)


def settle(weights: Weights, *, runtime: str, precision: str, device: str | None) -> tuple[Weights, str]:
    """The weights to load, and the precision to ask `create_runtime` for.

    `auto` is the fastest that keeps the gate of `gate.TOLERANCE`. With openvino: the int8 form, where these weights have one
    whose manifest records that it passed and the processor has instructions for it; otherwise bf16, which a processor
    without bf16 computes in fp32. With every other runtime, and for weights exported in a precision of their own, what the
    weights are in.

    Args:
        weights: as they were asked for.
        runtime: as `choose_runtime`.
        precision: `auto` or one of `PRECISIONS`.
        device: as `create_runtime`.

    Raises:
        OptionError: unknown precision, or int8 of weights that have no such form.
        RuntimeUnavailableError: as `choose_runtime`.
    """
    if precision not in (AUTO, *PRECISIONS):
        known = ", ".join((AUTO, *PRECISIONS))
        raise OptionError(f"precision is {precision[:40]!r}; use one of {known}", field="precision")
    if precision not in (AUTO, "int8"):
        return weights, precision
    check_device(runtime, device)
    on_openvino = choose_runtime(runtime, device) == "openvino"
    if weights.manifest.precision is not None and precision in (AUTO, weights.manifest.precision):
        # The graph says so itself; a hint could only change the rest of it.
        return weights, "fp32"
    if precision == AUTO:
        return _fastest(weights) if on_openvino else (weights, "fp32")
    if not on_openvino:
        return weights, precision
    found = weights.in_precision("int8")
    if found is None:
        name = weights.manifest.name
        raise OptionError(
            f"weights {name} have no int8 form made from them; write one with `maskmend export {name} --format onnx "
            "--precision int8 --calibration GT.json --images DIR -o exported` and give that with --weights, or use bf16",
            field="precision",
        )
    return found, "fp32"


def has_int8() -> bool:
    """Whether the processor multiplies int8 by instructions made for it (VNNI); without them int8 gains little.

    Only Linux on x86 tells; elsewhere the answer is no.
    """
    try:
        return bool(_INT8.search(_PROCESSOR.read_text(encoding="ascii", errors="replace")))
    except OSError:
        return False


def _fastest(weights: Weights) -> tuple[Weights, str]:
    found = weights.in_precision("int8") if has_int8() else None
    if found is not None and found.manifest.gate and all(gate.passed for gate in found.manifest.gate):
        return found, "fp32"
    return weights, "bf16"

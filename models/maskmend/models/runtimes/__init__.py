"""What runs a network: OpenVINO, ONNX Runtime or PyTorch, behind one small interface.

Every runtime runs the network at one fixed micro-batch, whatever it is given: how a library splits a convolution can
depend on the batch, and a patch must come out the same, bit for bit, in any company.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskmend.models.zoo import Weights
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError

Batch = NDArray[np.float32]
RUNTIMES = ("openvino", "onnx", "torch")
PRECISIONS = ("fp32", "bf16")
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
_EXTRAS = {"openvino": "cpu", "onnx": "onnx", "torch": "train"}


class Runtime(Protocol):
    """A network ready to run.

    Attributes:
        name: `openvino`, `onnx` or `torch`.
        version: of the library.
    """

    name: str
    version: str

    def run(self, batch: Batch) -> Batch:
        """Logits float32 [N, P, P] of patches float32 [N, 4, S, S], N whatever it is."""


def choose_runtime(name: str = "auto") -> str:
    """Name of the runtime to use: the one asked for, or the first installed of openvino, onnx, torch.

    Raises:
        OptionError: unknown name.
        RuntimeUnavailableError: it is not installed, or none is.
    """
    if name == "auto":
        for candidate in RUNTIMES:
            if importlib.util.find_spec(_MODULES[candidate]):
                return candidate
        raise RuntimeUnavailableError(
            "no runtime is installed; pip install 'maskmend[cpu]' brings OpenVINO", field="runtime"
        )
    if name not in RUNTIMES:
        raise OptionError(f"runtime is {name!r}; use auto, {', '.join(RUNTIMES)}", field="runtime")
    if not importlib.util.find_spec(_MODULES[name]):
        raise RuntimeUnavailableError(
            f"runtime {name} is not installed; pip install 'maskmend[{_EXTRAS[name]}]'", field="runtime"
        )
    return name


def create_runtime(name: str, weights: Weights, *, precision: str = "fp32", threads: int | None = None) -> Runtime:
    """Load weights into a runtime.

    Args:
        name: as `choose_runtime`.
        weights: verified here against their SHA-256.
        precision: `fp32`, or `bf16` as a hint to OpenVINO on processors that have it.
        threads: for the network; None lets the library choose.

    Raises:
        OptionError: unknown runtime or precision, or one that does not fit the other.
        RuntimeUnavailableError: not installed.
        WeightsError: a file is missing or damaged.
    """
    chosen = choose_runtime(name)
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; use one of {', '.join(PRECISIONS)}", field="precision")
    if precision != "fp32" and chosen != "openvino":
        raise OptionError(f"precision {precision} needs the openvino runtime, not {chosen}", field="precision")
    if chosen == "openvino":
        from maskmend.models.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(weights, precision=precision, threads=threads)
    if chosen == "onnx":
        from maskmend.models.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(weights, threads=threads)
    from maskmend.models.runtimes.torch import TorchRuntime

    return TorchRuntime(weights, threads=threads)


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """Cut a batch into parts of exactly `size`, the last one filled up with zeros."""
    parts = [batch[start : start + size] for start in range(0, len(batch), size)]
    if parts and len(parts[-1]) < size:
        filled = np.zeros((size, *batch.shape[1:]), np.float32)
        filled[: len(parts[-1])] = parts[-1]
        parts[-1] = filled
    return [np.ascontiguousarray(part) for part in parts]

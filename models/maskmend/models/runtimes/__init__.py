"""What runs a network: OpenVINO, ONNX Runtime or PyTorch, behind one small interface.

Every runtime runs the network at one fixed micro-batch on one thread, whatever it is given (see `pool`): a patch must come
out the same, bit for bit, in any company and on any number of threads.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Protocol

from maskmend.models.runtimes.pool import Batch, available_threads
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeUnavailableError, WeightsError

RUNTIMES = ("openvino", "onnx", "torch")
PRECISIONS = ("fp32", "bf16")
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
_EXTRAS = {"openvino": "cpu", "onnx": "onnx", "torch": "train"}


class Runtime(Protocol):
    """A network ready to run; `run` may be called from several threads.

    Attributes:
        name: `openvino`, `onnx` or `torch`.
        version: of the library.
        precision: what it computes in, which is fp32 where bf16 was hinted at and the processor has none.
    """

    name: str
    version: str
    precision: str

    def run(self, batch: Batch) -> Batch:
        """Logits float32 [N, P, P] of patches float32 [N, 4, S, S], N at least 1."""


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
        precision: `fp32`, or `bf16` as a hint to OpenVINO: a processor without bf16 goes on in fp32.
        threads: of the network; None takes the cores there are, at most 16. The result does not depend on it.

    Raises:
        OptionError: unknown runtime or precision, one that does not fit the other, or fewer than one thread.
        RuntimeUnavailableError: not installed, or its installation is broken.
        WeightsError: a file is missing, damaged or not what the manifest says.
    """
    chosen = choose_runtime(name)
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; use one of {', '.join(PRECISIONS)}", field="precision")
    if precision != "fp32" and chosen != "openvino":
        raise OptionError(f"precision {precision} needs the openvino runtime, not {chosen}", field="precision")
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; use 1 or more, or leave it out", field="threads")
    try:
        return _load(chosen, weights, precision, available_threads() if threads is None else threads)
    except MaskmendError:
        raise
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"runtime {chosen} cannot be imported ({error}); pip install --force-reinstall 'maskmend[{_EXTRAS[chosen]}]'",
            field="runtime",
        ) from error
    except Exception as error:  # Each library has its own; all that is left now is a file it cannot use.
        raise WeightsError(
            f"weights {weights.manifest.name} cannot be loaded by {chosen}: their files are not what their manifest says; "
            "fetch or export them again",
            field="weights",
        ) from error


def _load(name: str, weights: Weights, precision: str, threads: int) -> Runtime:
    if name == "openvino":
        # Its import reports its use over the network, and fails where there is no home folder to note that in. It goes on
        # without where the package that does so is missing, which None says it is.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        from maskmend.models.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(weights, precision=precision, threads=threads)
    if name == "onnx":
        from maskmend.models.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(weights, threads=threads)
    from maskmend.models.runtimes.torch import TorchRuntime

    return TorchRuntime(weights, threads=threads)

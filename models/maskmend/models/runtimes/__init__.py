"""What runs a network: OpenVINO, ONNX Runtime, PyTorch, TensorRT, or Triton servers, behind one small interface.

On a CPU every runtime runs the network at one fixed micro-batch on one thread, whatever it is given (see `pool`): a patch
must come out the same, bit for bit, in any company and on any number of threads.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Protocol

from maskmend.models.runtimes.pool import Batch, available_threads
from maskmend.models.runtimes.triton_url import parse_triton_url
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeUnavailableError, WeightsError

RUNTIMES = ("openvino", "onnx", "torch")
"""Those that run on any CPU, in the order in which `auto` looks for them."""
EVERY_RUNTIME = (*RUNTIMES, "tensorrt", "triton")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_MODULES = {
    "openvino": "openvino",
    "onnx": "onnxruntime",
    "torch": "torch",
    "tensorrt": "tensorrt",
    "triton": "tritonclient",
}
_INSTALL = {
    "openvino": "'maskmend[cpu]'",
    "onnx": "'maskmend[onnx]'",
    "torch": "'maskmend[train]'",
    "tensorrt": "tensorrt",
    "triton": "'maskmend[triton]'",
}
_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,2})?")


class Runtime(Protocol):
    """A network ready to run; `run` may be called from several threads.

    Attributes:
        name: one of `EVERY_RUNTIME`.
        version: of the library, or of the server.
        precision: what it computes in, which is fp32 where bf16 was hinted at and the processor has none.
    """

    name: str
    version: str
    precision: str

    def run(self, batch: Batch) -> Batch:
        """Logits float32 [N, P, P] of patches float32 [N, 4, S, S], N at least 1."""


def choose_runtime(name: str = "auto", device: str | None = None) -> str:
    """Name of the runtime to use: the one asked for, or the first installed of openvino, onnx, torch.

    Args:
        name: `auto` or one of `EVERY_RUNTIME`; `auto` never takes tensorrt or triton.
        device: with a GPU, `auto` takes torch.

    Raises:
        OptionError: unknown name.
        RuntimeUnavailableError: it is not installed, or none is.
    """
    if name == "auto" and _is_gpu(device):
        name = "torch"
    if name == "auto":
        for candidate in RUNTIMES:
            if importlib.util.find_spec(_MODULES[candidate]):
                return candidate
        raise RuntimeUnavailableError(
            "no runtime is installed; pip install 'maskmend[cpu]' brings OpenVINO", field="runtime"
        )
    if name not in EVERY_RUNTIME:
        raise OptionError(f"runtime is {name[:40]!r}; use auto, {', '.join(EVERY_RUNTIME)}", field="runtime")
    if not importlib.util.find_spec(_MODULES[name]):
        raise RuntimeUnavailableError(f"runtime {name} is not installed; pip install {_INSTALL[name]}", field="runtime")
    return name


def create_runtime(
    name: str,
    weights: Weights,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    device: str | None = None,
    triton_url: str | None = None,
) -> Runtime:
    """Load weights into a runtime.

    Args:
        name: as `choose_runtime`.
        weights: verified here against their SHA-256; a Triton's are compared with it.
        precision: `fp32`; `bf16` as a hint to OpenVINO (a processor without bf16 goes on in fp32); `bf16` or `fp16` on a
            GPU; of a Triton, what its model computes in.
        threads: of the network, and for triton requests in flight; None takes the cores there are, at most 16. The result
            does not depend on it.
        device: `cpu`, `cuda` or `cuda:N`, for torch and tensorrt; None is the CPU, and for tensorrt the first GPU.
        triton_url: where the servers are, for triton; see `triton_url.parse_triton_url`.

    Raises:
        OptionError: unknown runtime or precision, options that do not fit one another, or fewer than one thread.
        RuntimeLostError: no Triton answers, or none has these weights.
        RuntimeUnavailableError: not installed, its installation is broken, or there is no such device.
        WeightsError: a file is missing, damaged or not what the manifest says.
    """
    chosen = check_options(name, precision=precision, threads=threads, device=device, triton_url=triton_url)
    try:
        return _load(chosen, weights, precision, threads, device, triton_url)
    except MaskmendError:
        raise
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"runtime {chosen} cannot be imported ({error}); pip install --force-reinstall {_INSTALL[chosen]}",
            field="runtime",
        ) from error
    except Exception as error:  # Each library has its own; all that is left now is a file it cannot use.
        raise WeightsError(
            f"weights {weights.manifest.name} cannot be loaded by {chosen}: their files are not what their manifest says; "
            "fetch or export them again",
            field="weights",
        ) from error


def check_options(name: str, *, precision: str, threads: int | None, device: str | None, triton_url: str | None) -> str:
    """Name of the runtime that `create_runtime` would take, if its options go together; loads nothing.

    Raises:
        OptionError: unknown runtime or precision, options that do not fit one another, or fewer than one thread.
        RuntimeUnavailableError: not installed.
    """
    check_device(name, device)
    chosen = choose_runtime(name, device)
    _check_precision(chosen, precision, device)
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; use 1 or more, or leave it out", field="threads")
    if chosen == "triton" and not triton_url:
        raise OptionError(
            "runtime triton needs the address of a server; give triton_url, like grpc://127.0.0.1:8001",
            field="triton_url",
        )
    if chosen != "triton" and triton_url:
        raise OptionError(f"triton_url is for the triton runtime, not {chosen}; leave it out", field="triton_url")
    if triton_url:
        parse_triton_url(triton_url)
    return chosen


def _is_gpu(device: str | None) -> bool:
    return device is not None and device != "cpu"


def check_device(name: str, device: str | None) -> None:
    """Refuse a device that is none, or that a runtime does not run on.

    Raises:
        OptionError: as it says.
    """
    if device is None:
        return
    if not _DEVICE.fullmatch(device):
        raise OptionError(f"device is {device[:40]!r}; use cpu, cuda or cuda:N", field="device")
    if _is_gpu(device) and name not in ("auto", "torch", "tensorrt"):
        raise OptionError(f"device {device} needs the torch or the tensorrt runtime, not {name[:40]}", field="device")
    if device == "cpu" and name == "tensorrt":
        raise OptionError("device is cpu, and runtime tensorrt needs a GPU; use cuda, or leave it out", field="device")


def _check_precision(chosen: str, precision: str, device: str | None) -> None:
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision[:40]!r}; use one of {', '.join(PRECISIONS)}", field="precision")
    can = {"openvino": ("fp32", "bf16"), "tensorrt": PRECISIONS, "triton": PRECISIONS}.get(chosen, ("fp32",))
    if chosen == "torch" and _is_gpu(device):
        can = ("fp32", "bf16", "fp16")
    if precision in can:
        return
    where = {
        "bf16": "the openvino runtime, or a GPU",
        "fp16": "a GPU: --device cuda, or the tensorrt runtime",
        "int8": "the openvino runtime, weights exported in int8, or the tensorrt runtime",
    }
    raise OptionError(f"precision {precision} needs {where[precision]}; {chosen} has none here", field="precision")


def _load(
    name: str, weights: Weights, precision: str, threads: int | None, device: str | None, triton_url: str | None
) -> Runtime:
    if name == "triton":
        from maskmend.models.runtimes.triton import TritonRuntime

        assert triton_url
        return TritonRuntime(weights, url=triton_url, precision=precision, threads=threads)
    if name == "tensorrt":
        from maskmend.models.runtimes.tensorrt import TensorRtRuntime

        return TensorRtRuntime(weights, precision=precision, device=device or "cuda")
    if name == "torch" and device is not None and _is_gpu(device):
        from maskmend.models.runtimes.torch_cuda import TorchCudaRuntime

        return TorchCudaRuntime(weights, precision=precision, device=device)
    threads = available_threads() if threads is None else threads
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

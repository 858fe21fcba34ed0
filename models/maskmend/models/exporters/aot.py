"""An AOTInductor package: the PyTorch network compiled ahead of time, for programs of your own in Python or C++.

A package is compiled code. maskmend writes and checks one, and never loads one that it finds beside weights.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.models.zoo import Weights
from maskmend.patcher.errors import RuntimeUnavailableError, WeightsError

MOST = 4096
"""Largest batch that a package takes."""


def write_package(weights: Weights, target: Path, *, precision: str, device: str = "cpu") -> None:
    """Compile the network of a set of weights into a `.pt2` package.

    It takes `patches` float32 [N, 4, S, S], N from 1 to 4096, and gives logits float32 [N, P, P].

    Args:
        weights: with their safetensors file.
        target: `.pt2` file to write.
        precision: fp32, fp16 or bf16, of weights and of everything between.
        device: `cpu` or `cuda`; a package runs on that kind of device alone, and on this kind of processor.

    Raises:
        OptionError: no name of a device, or there are fewer GPUs.
        RuntimeUnavailableError: PyTorch, a C++ compiler or the device is missing.
        WeightsError: the network cannot be compiled.
    """
    try:
        import torch
        from torch._inductor import aoti_compile_and_package
    except ImportError as error:
        raise RuntimeUnavailableError(
            "format aoti needs PyTorch; pip install -c constraints.txt 'maskmend[train]'", field="format"
        ) from error
    from maskmend.models.runtimes.torch_cuda import HalfNetwork, find_device

    if find_device(device).type == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise RuntimeUnavailableError("format aoti needs a C++ compiler; install g++", field="format")
    network = HalfNetwork.load(weights, precision).to(device)
    size = weights.manifest.input_size
    sample = torch.zeros((2, 4, size, size), device=device)
    batch = torch.export.Dim("batch", min=1, max=MOST)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, (sample,), dynamic_shapes=({0: batch},))
            aoti_compile_and_package(program, package_path=str(target))
    except Exception as error:  # Export and compiler have many of their own.
        raise WeightsError(
            f"weights {weights.manifest.name} cannot be compiled ahead of time ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160] if str(error) else 'no message'}); use onnx or openvino",
            field="format",
        ) from error


def run_package(package: Path, patches: NDArray[np.float32], *, device: str = "cpu") -> NDArray[np.float32]:
    """Run a package that `write_package` wrote just now, to compare it.

    Args:
        package: runs as code in this process.
        patches: float32 [N, 4, S, S].
        device: that it was compiled for.
    """
    import torch
    from torch._inductor import aoti_load_package

    loaded: Any = aoti_load_package(str(package))
    with torch.inference_mode():
        logits: NDArray[np.float32] = loaded(torch.from_numpy(patches).to(device)).float().cpu().numpy()
    return logits

"""Memory and a stream of a GPU, by way of PyTorch; see `maskmend.models.runtimes.tensorrt.Memory`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from maskmend.models.runtimes.pool import Batch
from maskmend.models.runtimes.torch_cuda import find_device
from maskmend.models.tensorrt_api import Gpu
from maskmend.patcher.errors import OptionError


class CudaMemory:
    """One GPU.

    Args:
        device: `cuda`, `cuda:1`, ...

    Raises:
        OptionError: no name of a GPU.
        RuntimeUnavailableError: there is no GPU that PyTorch can use.
    """

    def __init__(self, device: str) -> None:
        self.device = find_device(device)
        if self.device.type != "cuda":
            raise OptionError("device is cpu, and TensorRT needs a GPU; use cuda, or another runtime", field="device")
        major, minor = torch.cuda.get_device_capability(self.device)
        self.gpu = Gpu(name=torch.cuda.get_device_name(self.device), capability=f"{major}.{minor}")
        self._stream = torch.cuda.Stream(self.device)
        self.stream = int(self._stream.cuda_stream)

    def buffer(self, shape: tuple[int, ...]) -> CudaBuffer:
        """See `Memory.buffer`."""
        return CudaBuffer(shape, self.device, self._stream)

    def wait(self) -> None:
        """See `Memory.wait`."""
        self._stream.synchronize()

    @contextmanager
    def current(self) -> Iterator[None]:
        """See `Memory.current`."""
        with torch.cuda.device(self.device):
            yield


class CudaBuffer:
    """Pinned memory and its counterpart on a GPU; see `Buffer`."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, stream: torch.cuda.Stream) -> None:
        self._pinned = torch.zeros(shape, pin_memory=True)
        self._there = torch.zeros(shape, device=device)
        # What fills it with zeros runs on another stream.
        torch.cuda.synchronize(device)
        self._stream = stream
        self.host: Batch = self._pinned.numpy()
        self.address = int(self._there.data_ptr())

    def upload(self) -> None:
        """See `Buffer.upload`."""
        with torch.cuda.stream(self._stream):
            self._there.copy_(self._pinned, non_blocking=True)

    def download(self) -> None:
        """See `Buffer.download`."""
        with torch.cuda.stream(self._stream):
            self._pinned.copy_(self._there, non_blocking=True)

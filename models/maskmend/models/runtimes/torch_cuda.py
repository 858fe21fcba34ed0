"""PyTorch on an NVIDIA GPU, from the safetensors file.

The network runs at one fixed batch, the tail filled with zeros, so that a patch comes out the same in any company (as on a
CPU, see `pool`). On a GPU that batch is recorded once as a CUDA graph and replayed; copies go through pinned memory on a
stream of their own while the processor fills the next piece.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskmend.models.architectures import load_network
from maskmend.models.device_looks import DeviceLooks
from maskmend.models.export import margin
from maskmend.models.runtimes.pool import Batch
from maskmend.models.zoo import Manifest, Weights
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError

BATCHES = (64,)
"""Batches that the network is recorded at. One, so that results do not depend on the company of a patch."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class HalfNetwork(nn.Module):
    """A network with its weights in some precision, between float32 patches and float32 logits of the patch.

    Args:
        network: in evaluation mode; changed in place.
        manifest: of its weights.
        precision: fp32, fp16 or bf16.

    Raises:
        OptionError: another precision.
    """

    def __init__(self, network: nn.Module, manifest: Manifest, precision: str) -> None:
        super().__init__()
        if precision not in DTYPES:
            raise OptionError(f"precision is {precision!r}; use one of {', '.join(DTYPES)}", field="precision")
        self._dtype, self._patch = DTYPES[precision], manifest.patch
        self._padding = manifest.padding - int(getattr(network, "padding", 0))
        self.network = network.to(self._dtype).eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    @classmethod
    def load(cls, weights: Weights, precision: str) -> HalfNetwork:
        """The network of a set of weights; errors as `load_network`."""
        return cls(load_network(weights), weights.manifest, precision)

    def forward(self, patches: Tensor) -> Tensor:
        """Map float32 [N, 4, S, S] to float32 [N, P, P]."""
        return margin(self.network(patches.to(self._dtype)).float(), self._patch, self._padding)


class TorchCudaRuntime:
    """The network on a GPU; see `Runtime`.

    Args:
        weights: with their safetensors file.
        precision: fp32 (without TF32), fp16 or bf16.
        device: `cuda`, `cuda:1`, ...; `cpu` takes the same way without graphs and streams, which is for tests.
        batches: that the network is recorded at, ascending. More than one is quicker with few patches, and then a
            patch may come out otherwise in its last bits when its company is larger.

    Attributes:
        device: that the network is on.
        most: the largest of the batches.
        graphs: whether the network runs as recorded CUDA graphs.

    Raises:
        OptionError: unknown precision, device or batches.
        RuntimeUnavailableError: no such GPU, or its memory does not suffice.
        WeightsError: as `load_network`.
    """

    def __init__(
        self, weights: Weights, *, precision: str = "bf16", device: str = "cuda", batches: Sequence[int] = BATCHES
    ) -> None:
        if not batches or list(batches) != sorted(set(batches)) or not 1 <= batches[0] <= batches[-1] <= 4096:
            raise OptionError(f"batches are {tuple(batches)}; use ascending numbers from 1 to 4096", field="batches")
        self.device = find_device(device)
        self.version, self.precision = str(torch.__version__), precision
        self.name = f"torch-{self.device.type}"
        self.most = batches[-1]
        manifest = weights.manifest
        self._manifest, self._process, self._lock = manifest, os.getpid(), threading.Lock()
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        network = HalfNetwork.load(weights, precision).to(self.device, memory_format=torch.channels_last)
        try:
            with self._on_stream(), exact(precision):
                self._steps = [_Step(network, n, manifest, self.device, self._stream) for n in batches]
            self._slots = [_Slot(self.most, manifest, self.device) for _ in range(2)]
        except torch.cuda.OutOfMemoryError as error:
            raise RuntimeUnavailableError(
                f"{self.device} has too little memory for a batch of {self.most} patches; free some, or use another GPU",
                field="device",
            ) from error
        self.graphs = all(step.recorded for step in self._steps)
        self.looks = DeviceLooks(self, manifest)

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`."""
        self._check_process()
        out = np.empty((len(batch), self._manifest.patch, self._manifest.patch), np.float32)
        waiting: deque[tuple[_Slot, slice]] = deque()
        with self._lock, torch.inference_mode(), self._on_stream(), exact(self.precision):
            for number, (step, part) in enumerate(self._plan(len(batch))):
                slot = self._slots[number % 2]
                if len(waiting) == len(self._slots):
                    _take(waiting, out)
                slot.fill(batch[part], step.count)
                step.given.copy_(slot.given[: step.count], non_blocking=True)
                slot.made[: step.count].copy_(step(), non_blocking=True)
                slot.mark()
                waiting.append((slot, part))
            while waiting:
                _take(waiting, out)
        return out

    def logits(self, patches: Tensor) -> Tensor:
        """Logits float32 [N, P, P] of patches float32 [N, 4, S, S], both on the device, in the order of its work."""
        self._check_process()
        made = torch.empty((len(patches), self._manifest.patch, self._manifest.patch), device=self.device)
        with self._lock, torch.inference_mode(), exact(self.precision), self._after_caller():
            for step, part in self._plan(len(patches)):
                held = part.stop - part.start
                step.given[:held].copy_(patches[part])
                step.given[held:].zero_()
                made[part].copy_(step()[:held])
        return made

    def _plan(self, count: int) -> Iterator[tuple[_Step, slice]]:
        """Pieces of a batch, each with the smallest recorded batch that holds it."""
        for start in range(0, count, self.most):
            end = min(start + self.most, count)
            yield next(step for step in self._steps if step.count >= end - start), slice(start, end)

    def _on_stream(self) -> Any:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    @contextmanager
    def _after_caller(self) -> Iterator[None]:
        """On the own stream, after what the caller's has in front of it, and before what it gets next."""
        if self._stream is None:
            yield
            return
        caller = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            yield
        caller.wait_stream(self._stream)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeUnavailableError(
                "the refiner was loaded before this process was forked, and a GPU does not follow; load it in here, or "
                "use spawn",
                field="runtime",
            )


class _Step:
    """The network at one batch: a recorded graph on a GPU, a call elsewhere or where it cannot be recorded."""

    def __init__(
        self,
        network: nn.Module,
        count: int,
        manifest: Manifest,
        device: torch.device,
        stream: torch.cuda.Stream | None,
    ) -> None:
        size = manifest.input_size
        self.count, self._network = count, network
        self.given = torch.zeros((count, 4, size, size), device=device).to(memory_format=torch.channels_last)
        self._graph: Any = None
        if stream is None:
            return
        with torch.inference_mode():
            # Libraries choose and set up in the first calls what a recording must not do.
            for _ in range(3):
                network(self.given)
            stream.synchronize()
            try:
                graph = torch.cuda.CUDAGraph()
                # Other threads may go on allocating meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    self._made = network(self.given)
                self._graph = graph
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError:
                # A network that chooses where to look may have to ask the processor; it runs call by call.
                self._graph = None

    @property
    def recorded(self) -> bool:
        """Whether it is a recorded graph."""
        return self._graph is not None

    def __call__(self) -> Tensor:
        """Logits of what lies in `given`."""
        if self._graph is None:
            made: Tensor = self._network(self.given)
            return made
        self._graph.replay()
        return self._made


class _Slot:
    """Memory of the processor for one piece on its way to the device and back."""

    def __init__(self, most: int, manifest: Manifest, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        size, patch = manifest.input_size, manifest.patch
        self.given = torch.zeros((most, 4, size, size), pin_memory=on_gpu)
        self.made = torch.zeros((most, patch, patch), pin_memory=on_gpu)
        self._done = torch.cuda.Event() if on_gpu else None

    def fill(self, part: Batch, count: int) -> None:
        """Put patches into `given`, and zeros behind them up to `count`."""
        here = self.given.numpy()
        here[: len(part)] = part
        here[len(part) : count] = 0

    def mark(self) -> None:
        """What was asked for up to here fills `made`."""
        if self._done is not None:
            self._done.record()

    def wait(self) -> None:
        """Until `made` is filled."""
        if self._done is not None:
            self._done.synchronize()


def _take(waiting: deque[tuple[_Slot, slice]], out: Batch) -> None:
    slot, part = waiting.popleft()
    slot.wait()
    out[part] = slot.made[: part.stop - part.start].numpy()


def find_device(name: str) -> torch.device:
    """A device by its name.

    Raises:
        OptionError: it is neither `cpu` nor a GPU that is there.
        RuntimeUnavailableError: PyTorch can use no GPU here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"device is {name[:40]!r}; use cuda, or cuda:0, cuda:1, ...", field="device") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise OptionError(f"device is {name[:40]!r}; use cuda, or cuda:0, cuda:1, ...", field="device")
    if not torch.cuda.is_available():
        raise RuntimeUnavailableError(
            "no GPU can be used: PyTorch was built without CUDA, or finds no driver; install the CUDA build of torch on a "
            "machine with an NVIDIA GPU, or use the openvino runtime",
            field="device",
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise OptionError(f"device is {name}, but there are {count} GPUs, counted from 0", field="device")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


@contextmanager
def exact(precision: str) -> Iterator[None]:
    """Choose algorithms that give the same again, and for fp32 those without TF32, which keeps 10 bits of 23."""
    tf32 = precision != "fp32"
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        yield

"""TensorRT on an NVIDIA GPU: an exported engine, or one that is built on first use and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from maskmend.models.half_precision import cast_file
from maskmend.models.runtimes.pool import Batch, micro_batches
from maskmend.models.tensorrt_api import INPUT, OUTPUT, EngineRecord, Gpu, load_api, read_record
from maskmend.models.tensorrt_engine import PROFILE, build_engine, load_engine
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeUnavailableError, WeightsError

BATCH = PROFILE[1]
"""The one batch that is run, the tail filled with zeros: a patch comes out the same in any company."""
CACHE_VARIABLE = "MASKMEND_CACHE_DIR"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


class Buffer(Protocol):
    """Memory of the processor and its counterpart on the GPU.

    Attributes:
        host: float32, pinned.
        address: of the counterpart.
    """

    host: Batch
    address: int

    def upload(self) -> None:
        """Copy to the GPU, after what its stream was asked for before."""

    def download(self) -> None:
        """Copy from the GPU, likewise."""


class Memory(Protocol):
    """A GPU's memory and one stream of work.

    Attributes:
        gpu: which it is.
        stream: handle of the stream.
    """

    gpu: Gpu
    stream: int

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """New memory of a shape, float32."""

    def wait(self) -> None:
        """Until all that the stream was asked for is done."""

    def current(self) -> AbstractContextManager[None]:
        """Make it the current GPU of this thread meanwhile: contexts and their work belong to that one."""


class TensorRtRuntime:
    """An engine with one context and a stream of its own; see `Runtime`.

    Weights that were exported as an engine run that one. For others an engine is built from their ONNX graph, which takes
    minutes, and kept: in the folder that the environment variable MASKMEND_CACHE_DIR names, or in ~/.cache/maskmend.

    Args:
        weights: with an engine, or with an ONNX graph.
        precision: of an engine that is to be built, fp32, fp16 or bf16; an exported one has its own.
        device: `cuda`, `cuda:1`, ...
        memory: in the place of `device`'s.

    Raises:
        OptionError: unknown precision, or int8, which takes an export with calibration.
        RuntimeUnavailableError: TensorRT or a GPU is missing, or the engine was built for another.
        WeightsError: a file is missing or damaged, or TensorRT does not take the graph.
    """

    name = "tensorrt"

    def __init__(
        self, weights: Weights, *, precision: str = "fp32", device: str = "cuda", memory: Memory | None = None
    ) -> None:
        if precision not in PRECISIONS:
            raise OptionError(f"precision is {precision!r}; use one of {', '.join(PRECISIONS)}", field="precision")
        api = load_api()
        if memory is None:
            from maskmend.models.runtimes.cuda_memory import CudaMemory

            memory = CudaMemory(device)
        self.version = str(api.__version__)
        self._memory = memory
        self._lock, self._process = threading.Lock(), os.getpid()
        with memory.current():
            self._load(api, weights, precision, memory)

    def _load(self, api: Any, weights: Weights, precision: str, memory: Memory) -> None:
        file, record = _engine(api, weights, precision, memory.gpu)
        self.precision: str = record.precision
        manifest = weights.manifest
        size = manifest.input_size
        self._engine = load_engine(api, file)
        self._context = self._engine.create_execution_context()
        least, _, most = record.profile
        self._batch = min(max(BATCH, least), most)
        shape = (self._batch, 4, size, size)
        if self._context is None or not self._context.set_input_shape(INPUT, shape):
            raise RuntimeUnavailableError(
                f"{file.name} does not run with {self._batch} patches of {size} px; the GPU may be out of memory",
                field="runtime",
            )
        if tuple(self._context.get_tensor_shape(OUTPUT)) != (self._batch, manifest.patch, manifest.patch):
            raise WeightsError(
                f"{file.name} does not give logits of {manifest.patch} px; export it again", field="weights"
            )
        self._given, self._made = memory.buffer(shape), memory.buffer((self._batch, manifest.patch, manifest.patch))
        self._context.set_tensor_address(INPUT, self._given.address)
        self._context.set_tensor_address(OUTPUT, self._made.address)

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`.

        Raises:
            RuntimeUnavailableError: the GPU refused the work, or this is a forked copy of the process.
        """
        if os.getpid() != self._process:
            raise RuntimeUnavailableError(
                "the refiner was loaded before this process was forked, and a GPU does not follow; load it in here, or "
                "use spawn",
                field="runtime",
            )
        out = []
        with self._lock, self._memory.current():
            for part in micro_batches(batch, self._batch):
                self._given.host[...] = part
                self._given.upload()
                if not self._context.execute_async_v3(stream_handle=self._memory.stream):
                    raise RuntimeUnavailableError("TensorRT refused a batch; see its messages above", field="runtime")
                self._made.download()
                self._memory.wait()
                out.append(self._made.host.copy())
        return np.concatenate(out)[: len(batch)]


def _engine(api: Any, weights: Weights, precision: str, gpu: Gpu) -> tuple[Path, EngineRecord]:
    """The engine to run and its record: the exported one, or one from the cache, built where it is not there yet."""
    version = str(api.__version__)
    if "engine" in weights.manifest.sha256:
        weights.verify(("engine",))
        file = weights.file("engine")
        record = read_record(file)
        record.check(file, version, gpu)
        if precision not in ("fp32", record.precision):
            raise OptionError(
                f"precision is {precision}, but weights {weights.manifest.name} are an engine in {record.precision}; "
                "leave precision out",
                field="precision",
            )
        return file, record
    weights.verify(("onnx",))
    graph = weights.manifest.precision or "fp32"
    if graph != "fp32" and precision not in ("fp32", graph):
        raise OptionError(
            f"precision is {precision}, but weights {weights.manifest.name} compute in {graph}; leave precision out",
            field="precision",
        )
    wanted = precision if graph == "fp32" else graph
    if wanted == "int8" and graph != "int8":
        raise OptionError(
            "precision int8 needs calibration; run `maskmend export --precision int8 --calibration GT.json --images DIR` "
            "and use what it writes",
            field="precision",
        )
    key = hashlib.sha256("\n".join((weights.manifest.sha256["onnx"], wanted, version, gpu.model_dump_json())).encode())
    folder = cache_folder()
    file = folder / f"{weights.manifest.name}-{wanted}-{key.hexdigest()[:24]}.engine"
    if file.is_file():
        try:
            record = read_record(file)
            record.check(file, version, gpu)
            return file, record
        except MaskmendError:
            # A cache may be cut off or mixed up; it is made again.
            pass
    return file, _build(api, weights, wanted, gpu, file, folder / "timing.cache")


def _build(api: Any, weights: Weights, precision: str, gpu: Gpu, file: Path, cache: Path) -> EngineRecord:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory() as temporary:
            source = weights.onnx_path
            if precision in ("fp16", "bf16") and weights.manifest.precision is None:
                source = Path(temporary) / f"{weights.manifest.name}-{precision}.onnx"
                cast_file(weights.onnx_path, source, precision)
            return build_engine(
                api,
                source,
                file,
                gpu=gpu,
                size=weights.manifest.input_size,
                precision=cast("Literal['fp32', 'fp16', 'bf16', 'int8']", precision),
                timing_cache=cache,
            )
    except OSError as error:
        raise RuntimeUnavailableError(
            f"the engine cannot be kept in {file.parent} ({error.strerror}); set {CACHE_VARIABLE} to a folder that can be "
            "written",
            field="runtime",
        ) from error


def cache_folder() -> Path:
    """Where engines are kept that were built on first use.

    Raises:
        RuntimeUnavailableError: nobody says where, and there is no home folder.
    """
    given = os.environ.get(CACHE_VARIABLE)
    try:
        return (Path(given) if given else Path.home() / ".cache" / "maskmend") / "tensorrt"
    except RuntimeError as error:  # A user without a home, as containers have them.
        raise RuntimeUnavailableError(
            f"there is no home folder to keep engines in; set {CACHE_VARIABLE} to a folder that can be written",
            field="runtime",
        ) from error

"""A stand-in for the module `tensorrt`, which cannot be installed where these tests run.

It has the names of 10.x or of 11.x and no others, refuses what those refuse, and computes with ONNX Runtime: what was wired
up wrongly gives wrong numbers. "Addresses" are those of ordinary memory. What it cannot show is how the library behaves.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskmend.models.tensorrt_api import Gpu

_here = threading.local()
"""Of each thread: whether the GPU is the current one."""


def make(version: str) -> ModuleType:
    """The module as version `10.x` or `11.x` has it."""
    old = version.startswith("10.")
    api = ModuleType("tensorrt")
    log: list[str] = []

    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            self.severity = severity

    class Network:
        def __init__(self, flags: int) -> None:
            # 10.x takes the flag; 11.x has no other kind of network, and the flag is gone.
            assert flags == (2 if old else 0), flags
            self.onnx = b""

    class ParserError:
        def desc(self) -> str:
            return "the file is no ONNX graph"

    class OnnxParser:
        def __init__(self, network: Network, logger: Logger) -> None:
            self.network, self.num_errors = network, 0

        def parse_from_file(self, path: str) -> bool:
            import onnx

            try:
                onnx.checker.check_model(onnx.load(path))
            except Exception:
                self.num_errors = 1
                return False
            self.network.onnx = Path(path).read_bytes()
            return True

        def get_error(self, number: int) -> ParserError:
            assert number < self.num_errors
            return ParserError()

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[tuple[int, ...]]] = {}

        def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
            self.shapes[name] = [tuple(least), tuple(best), tuple(most)]

    class TimingCache:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> bytearray:
            return bytearray(self.data)

    class Config:
        def __init__(self) -> None:
            self.profiles: list[Profile] = []
            self.cache: TimingCache | None = None
            self.cleared: list[Any] = []

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            assert isinstance(pool, MemoryPoolType)
            assert size > 0

        def clear_flag(self, flag: Any) -> None:
            self.cleared.append(flag)

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, data: bytes) -> TimingCache | None:
            return None if data.startswith(b"damaged") else TimingCache(bytes(data))

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert cache is not None
            if cache.data and not cache.data.startswith(version.encode()):
                return False
            log.append("cache taken" if cache.data else "cache empty")
            self.cache = cache
            return True

        def get_timing_cache(self) -> TimingCache | None:
            return self.cache

    class Builder:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)

        def create_network(self, flags: int) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytearray | None:
            assert config.cleared == [BuilderFlag.TF32]
            (profile,) = config.profiles
            assert config.cache is not None
            config.cache.data = version.encode() + hashlib.sha256(network.onnx).digest()
            log.append("built")
            head = json.dumps({"version": version, "shapes": profile.shapes}).encode()
            return bytearray(len(head).to_bytes(4, "little") + head + network.onnx)

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine, self.shape, self.addresses = engine, (0,), dict[str, int]()

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self.engine.shapes[name]
            if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
                return False
            self.shape = shape
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.shape if name == "patches" else (self.shape[0], *self.engine.patch)

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle == 7
            assert _here.current
            given = _at(self.addresses["patches"], self.shape)
            _at(self.addresses["logits"], self.get_tensor_shape("logits"))[...] = self.engine.run(given)
            return True

    class Engine:
        num_io_tensors = 2

        def __init__(self, shapes: dict[str, list[tuple[int, ...]]], onnx: bytes) -> None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            self.shapes = shapes
            self.run = lambda given: session.run(["logits"], {"patches": given})[0]
            self.patch = self.run(np.zeros((1, *shapes["patches"][0][1:]), np.float32)).shape[1:]

        def get_tensor_name(self, number: int) -> str:
            return ("patches", "logits")[number]

        def get_tensor_dtype(self, name: str) -> Any:
            return DataType.FLOAT

        def create_execution_context(self) -> Context:
            assert _here.current
            return Context(self)

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            length = int.from_bytes(data[:4], "little")
            head = json.loads(data[4 : 4 + length])
            return Engine(head["shapes"], data[4 + length :]) if head["version"] == version else None

    class MemoryPoolType(enum.Enum):
        WORKSPACE = 0

    class BuilderFlag(enum.Enum):
        TF32 = 7

    class DataType(enum.Enum):
        FLOAT = 0
        HALF = 1

    for part in (Logger, OnnxParser, Builder, Runtime, MemoryPoolType, BuilderFlag, DataType):
        setattr(api, part.__name__, part)
    if old:
        api.NetworkDefinitionCreationFlag = enum.IntEnum(
            "NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
        )
    api.__version__ = version
    api.log = log
    return api


def _at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


class HostMemory:
    """In the place of a GPU's memory: the counterpart of a buffer is other ordinary memory."""

    stream = 7

    def __init__(self, name: str = "NVIDIA Test GPU", capability: str = "9.0") -> None:
        self.gpu = Gpu(name=name, capability=capability)
        self.waits = 0

    def buffer(self, shape: tuple[int, ...]) -> HostBuffer:
        return HostBuffer(shape)

    def wait(self) -> None:
        self.waits += 1

    @contextmanager
    def current(self) -> Iterator[None]:
        _here.current = True
        yield
        _here.current = False


class HostBuffer:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.host = np.zeros(shape, np.float32)
        self.there = np.full(shape, np.nan, np.float32)
        self.address = self.there.ctypes.data

    def upload(self) -> None:
        self.there[...] = self.host

    def download(self) -> None:
        self.host[...] = self.there

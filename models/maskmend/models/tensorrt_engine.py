"""A TensorRT engine from an ONNX graph: strongly typed, one optimisation profile, a timing cache kept between builds.

The precision is that of the graph (see `casts` and `int8`). Only names that TensorRT 10.x and 11.x both have are used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from maskmend.models.tensorrt_api import INPUT, OUTPUT, EngineRecord, Gpu, logger, record_path, strongly_typed
from maskmend.models.zoo import sha256
from maskmend.patcher.errors import OptionError, RuntimeUnavailableError, WeightsError

PROFILE = (1, 32, 512)
"""Least, best and largest batch of an engine."""
WORKSPACE = 1 << 30
"""Bytes of the GPU that the builder may try out with."""
_MOST_CACHE = 1 << 28


def build_engine(
    api: Any,
    source: Path,
    target: Path,
    *,
    gpu: Gpu,
    size: int,
    precision: Literal["fp32", "fp16", "bf16", "int8"],
    profile: tuple[int, int, int] = PROFILE,
    timing_cache: Path | None = None,
) -> EngineRecord:
    """Build an engine and write it with its record.

    Args:
        api: the module `tensorrt`; see `load_api`.
        source: ONNX file.
        target: `.engine` file to write; its record goes to `.engine.json`.
        gpu: that is built on.
        size: side of the network's input in px.
        precision: of the graph, for the record.
        profile: least, best and largest batch.
        timing_cache: file of measured kernels, read if it is there and written afterwards; makes the next build quick.

    Raises:
        OptionError: the profile is not ascending from 1 or more.
        RuntimeUnavailableError: the builder cannot start on this machine, or finds no way to run the network on it.
        WeightsError: the parser does not take the graph.
    """
    if not 1 <= profile[0] <= profile[1] <= profile[2] <= 4096:
        raise OptionError(f"profile is {profile}; use ascending batches from 1 to 4096", field="profile")
    log = logger(api)
    builder = api.Builder(log)
    if not builder:
        raise RuntimeUnavailableError("TensorRT cannot start its builder here; see its messages above", field="runtime")
    network = builder.create_network(strongly_typed(api))
    parser = api.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        reasons = "; ".join(str(parser.get_error(n).desc())[:160] for n in range(min(3, parser.num_errors)))
        raise WeightsError(f"TensorRT does not take {source.name}: {reasons or 'no reason given'}", field="weights")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, WORKSPACE)
    # Keeps 10 of 23 bits, and is on unless told otherwise.
    tf32 = getattr(getattr(api, "BuilderFlag", None), "TF32", None)
    if tf32 is not None:
        config.clear_flag(tf32)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, *((n, 4, size, size) for n in profile))
    if config.add_optimization_profile(shapes) < 0:
        raise OptionError(f"TensorRT does not take the profile {profile} for {source.name}", field="profile")
    cache = config.create_timing_cache(_read_cache(timing_cache))
    # A cache of another TensorRT or GPU says nothing here, and is not taken; of a damaged one none may be made.
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise RuntimeUnavailableError(
            f"TensorRT found no way to run {source.name} on {gpu.name}; see its messages above, or take another precision",
            field="runtime",
        )
    write_whole(target, bytes(memoryview(built)))
    if timing_cache is not None:
        used = config.get_timing_cache()
        write_whole(timing_cache, bytes(memoryview((used if used is not None else cache).serialize())))
    record = EngineRecord(
        tensorrt=str(api.__version__),
        gpu=gpu,
        onnx_sha256=sha256(source),
        engine_sha256=sha256(target),
        precision=precision,
        profile=profile,
    )
    write_whole(record_path(target), (record.model_dump_json(indent=2) + "\n").encode())
    return record


def load_engine(api: Any, file: Path) -> Any:
    """An engine from its file, whose SHA-256 was checked.

    Raises:
        RuntimeUnavailableError: TensorRT does not take it.
        WeightsError: its input and output are not `patches` and `logits` in float32.
    """
    # Code for the processor, which an engine may carry, stays switched off: that is the default of the runtime.
    runtime = api.Runtime(logger(api))
    engine = runtime.deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        raise RuntimeUnavailableError(
            f"TensorRT does not take {file.name}; export it again on this machine", field="runtime"
        )
    names = {engine.get_tensor_name(n): n for n in range(engine.num_io_tensors)}
    floats = all(engine.get_tensor_dtype(name) == api.DataType.FLOAT for name in names)
    if set(names) != {INPUT, OUTPUT} or not floats:
        raise WeightsError(
            f"{file.name} does not take float32 {INPUT} and give float32 {OUTPUT}; it is no engine of maskmend",
            field="weights",
        )
    return engine


def _read_cache(file: Path | None) -> bytes:
    if file is None or not file.is_file() or file.stat().st_size > _MOST_CACHE:
        return b""
    return file.read_bytes()


def write_whole(target: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        # Its own maker lets nobody else read it.
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise

"""What TensorRT 10.x and 11.x have in common, and the record that lies beside an engine.

An engine runs on the TensorRT and the kind of GPU that it was built with. The record says which those were, so that another
machine hears it in words instead of a failure from within the library.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmend.models.zoo import sha256
from maskmend.patcher.errors import RuntimeUnavailableError, WeightsError

MAJORS = (10, 11)
INPUT, OUTPUT = "patches", "logits"
MOST_RECORD = 1 << 16


class Gpu(BaseModel):
    """A GPU, as far as engines depend on it: its name, and its compute capability as `9.0`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    capability: str


class EngineRecord(BaseModel):
    """What an engine was built from, with and for.

    Attributes:
        tensorrt: version of the library.
        gpu: it was built on.
        onnx_sha256: of the graph that was parsed.
        engine_sha256: of the engine.
        precision: of the graph.
        profile: least, best and largest batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensorrt: str
    gpu: Gpu
    onnx_sha256: str
    engine_sha256: str
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    profile: tuple[int, int, int] = Field(description="patches")

    def check(self, engine: Path, version: str, gpu: Gpu) -> None:
        """Refuse an engine that is not this one, or is not for this machine.

        Raises:
            RuntimeUnavailableError: it was built with another TensorRT, or on another GPU.
            WeightsError: its SHA-256 is another.
        """
        if self.tensorrt != version:
            raise RuntimeUnavailableError(
                f"{engine.name} was built with TensorRT {self.tensorrt[:40]}, and here is {version}; run `maskmend export "
                "--format tensorrt` on this machine",
                field="runtime",
            )
        if self.gpu != gpu:
            raise RuntimeUnavailableError(
                f"{engine.name} was built on {self.gpu.name[:80]} (compute capability {self.gpu.capability[:8]}), and here "
                f"is {gpu.name} ({gpu.capability}); run `maskmend export --format tensorrt` on this machine",
                field="runtime",
            )
        if sha256(engine) != self.engine_sha256:
            raise WeightsError(
                f"{engine.name} does not have the SHA-256 of its record; it was changed or damaged, export it again",
                field="weights",
            )


def record_path(engine: Path) -> Path:
    """Where the record of an engine lies: `NAME.engine.json`."""
    return engine.with_name(engine.name + ".json")


def read_record(engine: Path) -> EngineRecord:
    """The record beside an engine.

    Raises:
        WeightsError: it is missing or malformed.
    """
    path = record_path(engine)
    try:
        if path.stat().st_size > MOST_RECORD:
            raise WeightsError(
                f"{path.name} is larger than {MOST_RECORD} bytes; export the engine again", field="weights"
            )
        return EngineRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read; an engine needs its record, copy both or export it again", field="weights"
        ) from error
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise WeightsError(f"{path.name}: key {key[:64]!r}: {error.errors()[0]['msg']}", field="weights") from error


def load_api() -> Any:
    """The module `tensorrt`, of a version that this code was written for.

    Raises:
        RuntimeUnavailableError: it is not installed, cannot be imported, or is older or newer than that.
    """
    try:
        api = importlib.import_module("tensorrt")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"TensorRT cannot be imported ({error}); install the tensorrt wheel of NVIDIA for your CUDA, 10.x or 11.x",
            field="runtime",
        ) from error
    version = str(getattr(api, "__version__", ""))
    major = version.split(".")[0]
    if not major.isdigit() or int(major) not in MAJORS:
        raise RuntimeUnavailableError(
            f"TensorRT is {version[:40] or 'of no version'}; 10.x and 11.x are supported", field="runtime"
        )
    return api


def logger(api: Any) -> Any:
    """A logger of the library that tells of warnings and errors on stderr."""
    return api.Logger(api.Logger.WARNING)


def strongly_typed(api: Any) -> int:
    """Flags of a network whose precision is that of its tensors.

    From 11 on networks are so without being asked, and the flag may be gone; explicit batches went before.
    """
    flag = getattr(getattr(api, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)

"""What one training run is: read from a YAML file, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmend.patcher.errors import OptionError


class TrainingConfig(BaseModel):
    """One run. The same configuration gives the same weights on the same machine and library versions.

    `composed`, `exact` and `kinds` are explained by `patches.PatchMix`; `reuse` is how often a patch is drawn, each time
    turned, flipped and recoloured anew, before it leaves the pool of `pool` patches. `padding` is context around a patch in
    px; `input_size` covers it. The learning rate stays at its height until the last `decay` of the steps, so that a run can
    be prolonged. `grow` names trained weights of a narrower network that this one begins as, `trunk` weights whose trunk it
    begins with; that trunk is left as it is for the first `frozen` steps.
    `crop` is what the network sees: patches, or whole instances at 224 px. `boundary_weight` and `error_weight` are of the
    loss of patches; `loss` holds what `InstanceNetwork.training_loss` of the architecture takes besides the data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    architecture: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    grow: str | None = None
    trunk: str | None = None
    frozen: int = Field(default=0, ge=0)
    refiner: str = "bpr"
    crop: Literal["patch", "instance"] = "patch"
    input_size: int = Field(default=64, ge=32, le=512)
    padding: int = Field(default=0, ge=0, le=64)
    steps: int = Field(ge=1)
    batch: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    final_learning_rate: float = Field(default=2e-5, gt=0)
    decay: float = Field(default=0.3, gt=0, le=1)
    warmup: int = Field(default=200, ge=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    ema: float = Field(default=0.998, ge=0, lt=1)
    boundary_weight: float = Field(default=3.0, ge=0)
    error_weight: float = Field(default=1.0, ge=0)
    loss: dict[str, Any] = Field(default_factory=dict)
    composed: float = Field(default=0.75, ge=0, le=1)
    exact: float = Field(default=0.5, ge=0, le=1)
    kinds: dict[str, float]
    pool: int = Field(default=6144, ge=64)
    reuse: float = Field(default=3.0, ge=1)
    seed: int = 0
    validate_every: int = Field(default=500, ge=1)
    validation_scenes: int = Field(default=24, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)
    threads: int = Field(default=2, ge=1)
    license: str = "Apache-2.0"


def read_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML file of `TrainingConfig` keys.

    Raises:
        OptionError: the file is missing, is not YAML, or holds an unknown key or a value out of range.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read as YAML: {type(error).__name__}", field="config") from error
    try:
        return TrainingConfig(**{**values, **(overrides or {})})
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("",), "msg": "not a mapping"}
        key = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"{path}: key {key!r}: {first['msg']}", field=key) from error

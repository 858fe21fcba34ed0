"""How a service is set up: flags, then `MASKMEND_*` variables, then a TOML file, then these defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from maskmend.patcher.errors import OptionError

PREFIX = "MASKMEND_"
_OF_OTHERS = {"MASKMEND_API_KEY", "MASKMEND_SERVER", "MASKMEND_DATA", "MASKMEND_ARTEFACTS", "MASKMEND_TRITON_VENV"}
"""Variables that clients and tests read."""
HANDED_OVER = "MASKMEND_SETTINGS"
"""Variable that hands settings to worker processes."""


class Settings(BaseSettings):
    """Every setting of `maskmend serve`. Sizes in MB are 1e6 bytes, in MP 1e6 px."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What `load_settings` gathered, and nothing else."""
        return (init_settings,)

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8000, ge=0, le=65535, description="Of HTTP; 0 lets the system choose.")
    grpc_port: int = Field(default=8001, ge=-1, le=65535, description="Of gRPC; 0 lets the system choose, -1 is off.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes; each loads its own models.")
    weights: list[str] = Field(default=["bpr-small"], min_length=1, description="Models to serve, the default first.")
    runtime: str = Field(default="auto", description="auto, openvino, onnx, torch, tensorrt or triton.")
    device: str | None = Field(default=None, description="cpu, cuda or cuda:N, for torch and tensorrt.")
    triton_url: str | None = Field(
        default=None,
        description="Servers of the triton runtime: grpc:// or http://, host and port; several with commas.",
    )
    precision: Literal["fp32", "bf16", "fp16", "int8", "auto"] = Field(
        default="fp32",
        description="bf16 or int8 with openvino; auto: the fastest that is as good; others on a GPU, or as a Triton has it.",
    )
    threads: int | None = Field(default=None, ge=1, description="Of each network; all cores if not given.")
    concurrency: int = Field(default=4, ge=1, le=256, description="Requests at work at a time.")
    queue: int = Field(default=64, ge=0, le=100_000, description="Requests that may wait; more are refused with 429.")
    max_batch: int = Field(default=32, ge=1, le=4096, description="Patches of one call of the network.")
    max_delay_ms: float = Field(default=2.0, ge=0, le=1000, description="How long an unfilled batch waits for more.")
    timeout_s: float = Field(default=60.0, gt=0, le=3600, description="Longest deadline of a request.")
    read_timeout_s: float = Field(
        default=30.0, gt=0, le=3600, description="Longest time for a request to arrive whole."
    )
    drain_s: float = Field(
        default=30.0, ge=0, le=3600, description="After SIGTERM, longest wait for requests under way."
    )
    drain_delay_s: float = Field(
        default=0.0, ge=0, le=600, description="After SIGTERM, how long to go on accepting while not ready any more."
    )
    max_body_mb: float = Field(default=64.0, gt=0, le=2000, description="Largest request.")
    max_held_mb: float = Field(
        default=512.0, gt=0, description="All bodies and messages in memory together; more are refused with 429."
    )
    max_image_mp: float = Field(default=64.0, gt=0, le=268, description="Largest image.")
    max_instances: int = Field(default=1000, ge=1, le=65_535, description="Most masks of one image.")
    max_patches: int = Field(default=20_000, ge=1, description="Most patches of one request, all passes together.")
    max_parts: int = Field(default=1100, ge=1, le=100_000, description="Most parts of a multipart request.")
    api_keys_file: Path | None = Field(default=None, description="File with one key a line; without it anyone may ask.")
    rate_limit: float = Field(default=0.0, ge=0, description="Requests a minute and key (or address); 0 is no limit.")
    tls_cert: Path | None = Field(default=None, description="Certificate chain, PEM.")
    tls_key: Path | None = Field(default=None, description="Private key, PEM.")
    cors_origins: list[str] = Field(default=[], description="Origins whose pages may ask; none by default.")
    url_hosts: list[str] = Field(
        default=[], description="Hosts that image_url may name; none by default, so it is off."
    )
    reload_s: float = Field(
        default=5.0, ge=0, description="How often to look whether weights changed on disk; 0 never."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Of the lines on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least to be logged.")
    tracing: bool = Field(default=False, description="OpenTelemetry traces; set up by its own OTEL_* variables.")


def load_settings(
    flags: Mapping[str, Any] | None = None, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings from everywhere; an earlier place wins over a later one: flags, environment, file, defaults.

    Raises:
        OptionError: an unknown key, a value out of range, a file that cannot be read, a certificate without its key, several
            workers without a port of gRPC to share.
    """
    environ = os.environ if environ is None else environ
    if HANDED_OVER in environ:
        return Settings.model_validate_json(environ[HANDED_OVER])
    known = Settings.model_fields
    for name in sorted(environ):
        if name in _OF_OTHERS:
            continue
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in known:
            raise OptionError(
                f"variable {name[:80]} is no setting; `maskmend serve --help` lists them", field=name[:80]
            )
    values = {**_from_file(file), **_from_environment(environ)}
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"setting {key[:80]}: {first['msg']}", field=key[:80]) from None
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise OptionError("setting tls_cert needs tls_key, and the other way round", field="tls_cert")
    if settings.workers > 1 and settings.grpc_port == 0:
        raise OptionError(
            "setting grpc_port is 0, but several workers share one port; give a fixed one, or -1 for none",
            field="grpc_port",
        )
    for key in ("tls_cert", "tls_key", "api_keys_file"):
        path = getattr(settings, key)
        if path is not None and not path.is_file():
            raise OptionError(f"setting {key}: {path} is not a file", field=key)
    return settings


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise OptionError(f"--config {file} cannot be read as TOML: {error}", field="config") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Values as they are, but for lists, whose items are set apart by commas."""
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        text = environ.get(PREFIX + name.upper())
        if text is None:
            continue
        is_list = "list" in str(field.annotation)
        found[name] = [item.strip() for item in text.split(",") if item.strip()] if is_list else text
    return found

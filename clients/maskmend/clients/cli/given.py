"""Options of a command that come from a file, and those that do not go together."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from maskmend.patcher.errors import OptionError


def from_file(context: typer.Context, value: Path | None) -> Path | None:
    """Take defaults from a TOML or JSON file; what is given on the command line wins.

    Raises:
        OptionError: the file cannot be read, holds no table, or names an option that is none.
    """
    if value is None:
        return None
    try:
        text = value.read_text()
        values: dict[str, Any] = json.loads(text) if value.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise OptionError(f"--config {value} cannot be read as TOML or JSON: {error}", field="config") from error
    if not isinstance(values, dict):
        raise OptionError(f"--config {value} holds no options; write a JSON object, or TOML", field="config")
    known = {parameter.name for parameter in context.command.params} - {"config", "results"}
    unknown = sorted(set(values) - {str(name) for name in known})
    if unknown:
        raise OptionError(
            f"--config {value}: unknown key {unknown[0]!r}; use {', '.join(sorted(map(str, known)))}", field=unknown[0]
        )
    context.default_map = {**(context.default_map or {}), **values}
    return value


def refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that were given though they mean nothing here.

    Raises:
        OptionError: one was.
    """
    for name in names:
        if is_given(context, name):
            raise OptionError(f"--{name.replace('_', '-')} {why}", field=name)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line or in the --config file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")

"""`maskmend serve`: one flag for each setting of the service."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import typer

from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_DOC = """Serve refinement over HTTP and gRPC, with a page to try it on at /.

    A setting is taken from its flag, else from the variable MASKMEND_ and its name in capitals, else from the --config file
    (TOML), else from its default. SIGTERM finishes the requests under way and ends.

    Exit codes: 0 stopped by a signal; 2 unusable settings; 3 could not start.

    Examples:
        maskmend serve

        maskmend serve --host 0.0.0.0 --port 8080 --weights bpr-small --weights bpr-base --api-keys-file keys.txt

        MASKMEND_QUEUE=16 maskmend serve --config serve.toml
    """


def build() -> Any:
    """The command's function, whose parameters are the settings."""
    try:
        from maskmend.service.settings import Settings

        fields = dict(Settings.model_fields)
    except ImportError:
        fields = {}

    def serve(**flags: Any) -> None:
        if not fields:
            raise OptionError("the service is not installed; pip install 'maskmend[cpu,serve]'", field="serve")
        from maskmend.service.server import serve as run
        from maskmend.service.settings import load_settings

        config = flags.pop("config")
        given = {key: value for key, value in flags.items() if value not in (None, [], ())}
        raise typer.Exit(run(load_settings(given, config)))

    config = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=typer.Option(None, "--config", help="TOML file of these settings."),
        annotation=Path,
    )
    serve.__doc__ = _DOC
    parameters = [config, *(_parameter(name, field) for name, field in fields.items())]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return serve


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = _kind(field.annotation)
    flag = "--" + name.replace("_", "-")
    flags = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    default = field.default
    shown = "none" if default in (None, []) else ", ".join(default) if isinstance(default, list) else default
    text = f"{field.description} \\[{shown}]"
    option = typer.Option(None, flags, help=text, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def _kind(annotation: Any) -> Any:
    """The type that typer reads a flag as."""
    if annotation in (str, int, float, bool, Path):
        return annotation
    if get_origin(annotation) is list:
        return list[str]
    choices = [part for part in get_args(annotation) if part is not type(None)]
    return _kind(choices[0]) if choices and isinstance(choices[0], type) else str

"""`maskmend doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maskmend.clients.doctor import Report

BROKEN = 1
"""Exit code when something that is installed, or that was asked for, does not work."""


def doctor(
    weights: list[str] = typer.Option(
        None, "--weights", help="Name or path of weights to try; may be repeated \\[every shipped set]."
    ),
    server: str = typer.Option(None, "--server", help="URL of a maskmend server that should answer."),
    api_key: str = typer.Option(None, "--api-key", envvar="MASKMEND_API_KEY", help="Shown to that server."),
    ca_file: Path = typer.Option(None, "--ca-file", help="PEM file of authorities for that server's certificate."),
    triton_url: str = typer.Option(
        None, "--triton-url", envvar="MASKMEND_TRITON_URL", help="Triton servers that should answer, as for `refine`."
    ),
    timeout: float = typer.Option(300.0, "--timeout", help="Seconds for each thing that is tried."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Say what is installed, what of it works, and what to do about what does not.

    Each runtime gets real patches of each set of weights, and what it says is held against golden probabilities that came
    with the weights. Each is tried in a process of its own: one that crashes or hangs is a line of the report.

    Exit codes: 0 all that is installed works; 1 something does not; 2 unusable options.

    Examples:
        maskmend doctor

        maskmend doctor --weights bpr-small --json > doctor.json

        maskmend doctor --server http://127.0.0.1:8000 --triton-url grpc://gpu-1:8001
    """
    import json

    from maskmend.clients.doctor import examine

    if not 0 < timeout <= 3600:
        raise OptionError(f"--timeout is {timeout:g}; use a number of seconds above 0, up to 3600", field="timeout")
    if ca_file is not None and not ca_file.is_file():
        raise OptionError("--ca-file is not a file; give a PEM file of authorities", field="ca_file")
    report = examine(
        weights=tuple(weights or ()),
        server=server,
        api_key=api_key,
        ca_file=ca_file,
        triton_url=triton_url,
        timeout=timeout,
        saw=lambda what: typer.echo(f"trying {what} ...", err=True),
    )
    typer.echo(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(_lines(report)))
    raise typer.Exit(0 if report.ok else BROKEN)


def _lines(report: Report) -> Iterator[str]:
    """The report for reading."""
    here = report.machine
    yield f"maskmend {report.version}, {report.location}"
    yield f"Python {here.python}, {here.executable}"
    yield here.platform
    yield f"{here.processor or 'processor unknown'}: {_features(here.features)}"
    allowed = "" if here.limit is None else f"; the control group allows {here.limit:g} processors' time"
    yield f"{here.usable} of {here.cores} cores{allowed}"
    yield "\nInstalled"
    for extra in report.extras:
        packages = [f"{each.name} {each.version}" for each in extra.packages if each.version]
        absent = [each.name for each in extra.packages if each.version is None]
        lacking = f"{'; ' * bool(packages)}not installed: {', '.join(absent)}" if absent else ""
        yield f"  {extra.state:8}{extra.name:10}{', '.join(packages)}{lacking}"
    for area, title in (
        ("geometry", "Geometry"),
        ("weights", "Weights"),
        ("runtime", "Runtimes"),
        ("triton", "Triton"),
        ("server", "Server"),
    ):
        checks = [check for check in report.checks if check.area == area]
        if checks:
            yield f"\n{title}"
        for check in checks:
            yield f"  {check.state:8}{check.name}: {check.said}"
    for title, lines in (("What to do", report.what_to_do), ("Should you want it", report.could_have)):
        if lines:
            yield f"\n{title}"
        yield from (f"  {line}" for line in lines)
    yield "\nAll that is installed works." if report.ok else "\nSomething does not work; see above."


def _features(features: dict[str, bool] | None) -> str:
    if features is None:
        return "what it can do is not known on this system"
    return ", ".join(f"{'' if has else 'no '}{name}" for name, has in features.items())

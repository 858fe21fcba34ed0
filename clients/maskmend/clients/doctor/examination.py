"""The whole examination: the machine, the packages, and each thing tried in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import maskmend.patcher
from maskmend.clients.doctor import extras, machine
from maskmend.clients.doctor.findings import ANY, Check, Report
from maskmend.clients.doctor.probe import INSTALL, KEY_VARIABLE, again

RUNTIMES = ("openvino", "onnx", "torch", "tensorrt")
"""Runtimes of this machine."""
_PROGRAM = "from maskmend.clients.doctor.probe import main; main()"
_LONGEST_SAID = 300
_LATE = "did not come to an end in {:g} s"


def examine(
    *,
    weights: Sequence[str] = (),
    server: str | None = None,
    api_key: str | None = None,
    ca_file: Path | None = None,
    triton_url: str | None = None,
    timeout: float = 300.0,
    saw: Callable[[str], None] = lambda what: None,
) -> Report:
    """Look at everything.

    Args:
        weights: names or paths of sets to try; every shipped set if there is none.
        server: URL of a maskmend server that should answer.
        api_key: shown to it.
        ca_file: authorities for its certificate.
        triton_url: see `maskmend.models.runtimes.triton_url.parse_triton_url`.
        timeout: seconds for each thing that is tried.
        saw: called with what is tried next.
    """
    checks: list[Check] = []

    def tried(area: str, label: str, *arguments: str) -> None:
        saw(label)
        checks.extend(_probe(area, label, arguments, timeout, api_key))

    tried("geometry", "geometry")
    tried("weights", "weights", *weights)
    for name in RUNTIMES:
        tried("runtime", name, name, *weights)
    if all(check.state == "missing" for check in checks if check.area == "runtime"):
        checks.append(
            Check(
                "runtime",
                ANY,
                "missing",
                "masks can be refined at a server only",
                INSTALL["openvino"] + " (to refine here)",
            )
        )
    if triton_url is not None:
        tried("triton", "triton", triton_url, *weights)
    if server is not None:
        # The call has all of the time for itself, and Python some more to start.
        saw("server")
        arguments = (server, str(timeout), str(ca_file or ""))
        checks.extend(_probe("server", _host(server), arguments, timeout + 30, api_key))
    return Report(
        version("maskmend"), str(Path(maskmend.patcher.__file__).parents[1]), machine.look(), extras.look(), checks
    )


def _probe(area: str, label: str, arguments: Sequence[str], timeout: float, api_key: str | None) -> Iterator[Check]:
    """What one process says, and how it ended where it did not come to its end."""
    # Where the user is, modules of other things may lie about: -P keeps them out.
    command = [sys.executable, "-P", "-c", _PROGRAM, area, *arguments]
    environment = dict(os.environ)
    if api_key is not None:
        environment[KEY_VARIABLE] = api_key
    # Files, not pipes: what was said before a hang is not lost, and a child of the child holds nothing up.
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as noise:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=answers, stderr=noise, env=environment, start_new_session=True
        )
        try:
            ended = _how_it_ended(process.wait(timeout))
        except subprocess.TimeoutExpired:
            _end(process)
            ended = _LATE.format(timeout)
        except BaseException:
            _end(process)
            raise
        answers.seek(0)
        noise.seek(0)
        said, last = answers.read().splitlines(), _last_line(noise.read())
    done = False
    for line in said:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if found.get("done"):
            done = True
            continue
        found["name"] = label if area == "server" else found["name"]
        yield Check(area=area, **found)
    if not done:
        yield Check(area, label, "broken", ended + (f": {last}" if last else ""), _remedy(area, label, ended))


def _how_it_ended(code: int) -> str:
    if code < 0:
        try:
            return f"its process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):
        process.kill()
    process.wait()


def _remedy(area: str, label: str, ended: str) -> str:
    if ended.startswith(_LATE.partition("{")[0]) and area in ("geometry", "weights", "runtime"):
        # A machine that is busy, or compiles the kernels for the first time, is more likely than a damaged library.
        return f"try again with a longer --timeout; if {label} still does not end: {_anew(area, label)}"
    if area == "runtime":
        return f"{_anew(area, label)} (the {label} runtime: {ended}); until then choose another --runtime"
    if area == "server":
        return "is the address right, and does `maskmend serve` run there? See its /healthz/ready"
    if area == "triton":
        return f"{again('triton')} (triton: {ended})"
    return f"{_anew(area, label)} ({label}: {ended})"


def _anew(area: str, label: str) -> str:
    return again(label) if area == "runtime" else "pip install --force-reinstall --no-cache-dir numba numpy maskmend"


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:_LONGEST_SAID] if lines else ""


def _host(url: str) -> str:
    """Where a URL leads, without what else it may hold."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "server"

"""Where Tritons are and how to talk to them, in one string: `grpc://a:8001,grpc://b:8001?wait_s=30`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from maskmend.patcher.errors import OptionError

FIELD = "triton_url"
SCHEMES = ("grpc", "grpcs", "http", "https")
MOST_SERVERS = 64
_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECONDS = ("wait_s", "start_s", "timeout_s")


@dataclass(frozen=True, slots=True)
class TritonServer:
    """One Triton.

    Attributes:
        url: scheme, host and port; what it is called in messages.
        scheme: one of `SCHEMES`.
        host: as given, without brackets.
        address: host and port, with brackets round an IPv6 address.
    """

    url: str
    scheme: str
    host: str
    address: str

    @property
    def is_grpc(self) -> bool:
        """Whether it is spoken to by gRPC, not HTTP."""
        return self.scheme.startswith("grpc")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme.endswith("s")


@dataclass(frozen=True, slots=True)
class TritonTarget:
    """All servers, and what holds for each of them.

    Attributes:
        servers: at least one, each once.
        model: name in the model repository; None for that of the weights.
        wait_s: how long a batch waits for a server to come back before it is given up.
        start_s: how long loading waits for a first server to answer.
        timeout_s: longest time for one request.
        shared_memory: hand patches over in system shared memory; all servers must be on this machine.
        ca_file: PEM file of authorities for certificates; None for those that the libraries of gRPC and HTTP bring.
    """

    servers: tuple[TritonServer, ...]
    model: str | None = None
    wait_s: float = 20.0
    start_s: float = 5.0
    timeout_s: float = 30.0
    shared_memory: bool = False
    ca_file: Path | None = None


def parse_triton_url(text: str) -> TritonTarget:
    """Read a Triton URL.

    Args:
        text: one or more of `scheme://host:port`, set apart by commas, then `?key=value&...` for all of them: `model`,
            `wait_s`, `start_s`, `timeout_s`, `shared_memory` (0 or 1), `ca_file`; see `TritonTarget`.

    Raises:
        OptionError: no server, a malformed or repeated one, an unknown or malformed option, shared memory with a server
            elsewhere.
    """
    places, _, query = text.partition("?")
    names = [part.strip() for part in places.split(",") if part.strip()]
    if not 1 <= len(names) <= MOST_SERVERS:
        raise OptionError(
            f"{FIELD} names {len(names)} servers; give 1 to {MOST_SERVERS}, like grpc://127.0.0.1:8001", field=FIELD
        )
    servers = tuple(_server(name, number) for number, name in enumerate(names, 1))
    if len({server.address for server in servers}) < len(servers):
        raise OptionError(f"{FIELD} names a server twice; name each once", field=FIELD)
    target = _with_options(TritonTarget(servers), query)
    far = [server.url for server in servers if server.host not in _LOCAL]
    if target.shared_memory and far:
        raise OptionError(
            f"{FIELD}: shared_memory=1 is for a Triton on this machine, and {far[0]} is not localhost; leave it out",
            field=FIELD,
        )
    return target


def with_patience(text: str, *, wait_s: float, start_s: float) -> str:
    """The same URL with other waits, where it does not name its own. What is wrong with it is left for the reader to say."""
    given = {part.partition("=")[0] for part in text.partition("?")[2].split("&")}
    more = [f"{key}={seconds:g}" for key, seconds in (("wait_s", wait_s), ("start_s", start_s)) if key not in given]
    return text + ("&" if "?" in text else "?") + "&".join(more) if more else text


def _server(text: str, number: int) -> TritonServer:
    # What is wrong is said without the text itself: it may hold a password.
    which = f"server {number} of {FIELD}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise OptionError(f"{which} is no URL; use scheme://host:port", field=FIELD) from None
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise OptionError(
            f"{which} does not begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}", field=FIELD
        )
    if "@" in parts.netloc:
        raise OptionError(f"{which} holds a user name; leave it out, Triton takes none", field=FIELD)
    if parts.path not in ("", "/") or parts.fragment:
        raise OptionError(f"{which} has a path; give scheme://host:port only", field=FIELD)
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or port == 0:
        raise OptionError(f"{which} has no usable host or port; use scheme://host:port", field=FIELD)
    shown = f"[{host}]" if ":" in host else host
    address = f"{shown}:{_PORTS[parts.scheme] if port is None else port}"
    return TritonServer(f"{parts.scheme}://{address}", parts.scheme, host, address)


def _with_options(target: TritonTarget, query: str) -> TritonTarget:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=32) if query else []
    except ValueError:
        raise OptionError(f"{FIELD} has more than 32 options; give each once", field=FIELD) from None
    found: dict[str, str] = {}
    for key, value in pairs:
        if key in found:
            raise OptionError(f"{FIELD}: option {key[:40]!r} is given twice; give it once", field=FIELD)
        found[key] = value
    if query and not pairs:
        raise OptionError(f"{FIELD}: what follows the question mark is not key=value", field=FIELD)
    for key, value in found.items():
        if key in _SECONDS:
            seconds: dict[str, Any] = {key: _seconds(key, value)}
            target = replace(target, **seconds)
        elif key == "shared_memory":
            if value not in ("0", "1"):
                raise OptionError(f"{FIELD}: shared_memory must be 0 or 1", field=FIELD)
            target = replace(target, shared_memory=value == "1")
        elif key == "model":
            if not _MODEL.fullmatch(value):
                raise OptionError(
                    f"{FIELD}: model must be 1 to 64 letters, digits, dots, dashes or underscores", field=FIELD
                )
            target = replace(target, model=value)
        elif key == "ca_file":
            if not Path(value).is_file():
                raise OptionError(f"{FIELD}: ca_file is not a file; give a PEM file of authorities", field=FIELD)
            target = replace(target, ca_file=Path(value))
        else:
            known = ", ".join(("model", *_SECONDS, "shared_memory", "ca_file"))
            raise OptionError(f"{FIELD}: unknown option {key[:40]!r}; use {known}", field=FIELD)
    return target


def _seconds(key: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    least = 0.0 if key != "timeout_s" else 0.001
    if not least <= seconds <= 3600:
        raise OptionError(f"{FIELD}: {key} must be a number of seconds, at most 3600", field=FIELD)
    return seconds

"""What `maskmend refine` refines on: this process, workers of Ray, or a server."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskmend.clients.backends import Backend, LocalBackend, ServerBackend
from maskmend.patcher.errors import OptionError

_AT_A_TIME = 2
"""Images under way in this process: enough to keep the network at work while masks are read and judged."""


def local(shared: dict[str, Any], own: dict[str, Any], threads: int | None) -> Backend:
    """The engine in this process.

    Raises:
        OptionError: fewer threads than one.
    """
    from maskmend.clients.refiner import Refiner

    if threads is not None and threads < 1:
        raise OptionError(f"--threads is {threads}; use 1 or more", field="threads")
    return LocalBackend(Refiner(**shared, **own, threads=threads, concurrency=_AT_A_TIME))


def on_ray(
    stack: ExitStack,
    options: dict[str, Any],
    address: str | None,
    workers: int | None,
    threads: int | None,
    gpus: float,
) -> Backend:
    """Workers of Ray, which end with the stack."""
    from maskmend.clients.ray_engine import RayBackend
    from maskmend.models.zoo import list_weights

    weights = options["weights"]
    shipped = {known.manifest.name for known in list_weights()}
    if weights is not None and weights not in shipped and Path(weights).exists():
        # A worker has a current folder of its own.
        options = {**options, "weights": str(Path(weights).resolve())}
    threads = 1 if threads is None else threads
    backend = RayBackend(options, address=address, workers=workers, threads=threads, gpus=gpus)
    stack.callback(backend.close)
    return backend


def at_server(
    url: str,
    shared: dict[str, Any],
    weights: str | None,
    api_key: str | None,
    timeout: float,
    concurrency: int,
    ca_file: Path | None,
) -> Backend:
    """A server that decides on runtime and precision itself."""
    from maskmend.clients.client import Client

    client = Client(
        url,
        **shared,
        weights=weights,
        api_key=api_key,
        timeout=timeout,
        concurrency=concurrency,
        verify=ca_file or True,
    )
    return ServerBackend(client)

"""What a person or a program calls: `Refiner` in process, `Client` and `AsyncClient` at a server, and the command line.

Names are loaded when first asked for, so that the command line starts quickly and a client needs no runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmend.clients.aio import AsyncClient
    from maskmend.clients.client import Client
    from maskmend.clients.errors import ConnectionFailedError, UnexpectedAnswerError
    from maskmend.clients.refiner import Refiner
    from maskmend.clients.results import RefinedInstance, RefineResult
    from maskmend.clients.retries import Retries

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionFailedError",
    "RefineResult",
    "RefinedInstance",
    "Refiner",
    "Retries",
    "UnexpectedAnswerError",
]

_HOMES = {
    "AsyncClient": "aio",
    "Client": "client",
    "ConnectionFailedError": "errors",
    "RefineResult": "results",
    "RefinedInstance": "results",
    "Refiner": "refiner",
    "Retries": "retries",
    "UnexpectedAnswerError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"maskmend.clients.{_HOMES[name]}"), name)

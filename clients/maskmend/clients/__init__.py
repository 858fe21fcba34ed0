"""What a person or a program calls: `Refiner` in process, and the command line.

`Refiner` is loaded when first asked for, so that the command line starts quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmend.clients.refiner import Refiner
    from maskmend.clients.results import RefinedInstance, RefineResult

__all__ = ["RefineResult", "RefinedInstance", "Refiner"]

_HOMES = {"Refiner": "refiner", "RefineResult": "results", "RefinedInstance": "results"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"maskmend.clients.{_HOMES[name]}"), name)

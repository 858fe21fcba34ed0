"""The engine and the protocols around it. Knows nothing of contours.

Names are loaded when first asked for: whoever needs the settings alone does not wait for the compiled kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmend.service.engine import Engine, InstanceResult
    from maskmend.service.options import EngineOptions
    from maskmend.service.stages import StageTimes

__all__ = ["Engine", "EngineOptions", "InstanceResult", "StageTimes"]

_HOMES = {"Engine": "engine", "EngineOptions": "options", "InstanceResult": "engine", "StageTimes": "stages"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""The engine and the protocols around it. Knows nothing of contours."""

from __future__ import annotations

from maskmend.service.engine import Engine, InstanceResult
from maskmend.service.options import EngineOptions
from maskmend.service.stages import StageTimes

__all__ = ["Engine", "EngineOptions", "InstanceResult", "StageTimes"]

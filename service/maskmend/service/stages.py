"""How long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

STAGES = ("decode", "boxes", "crops", "network", "reassemble", "guard", "encode")


class StageTimes:
    """Seconds spent in each stage, added up over calls; threads may measure at the same time.

    Args:
        whole: what these times are a part of: all that is measured here counts there too.

    Attributes:
        seconds: by stage, added up over threads: two that are in a stage for the same second make two.
    """

    def __init__(self, whole: StageTimes | None = None) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._whole, self._lock = whole, Lock()
        self._clock: dict[str, float] = {}
        self._inside: dict[str, int] = {}
        self._since: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        began = time.perf_counter()
        self._enter(stage, began)
        try:
            yield
        finally:
            self._leave(stage, began, time.perf_counter())

    @property
    def total(self) -> float:
        """Busy seconds of all stages."""
        return sum(self.seconds.values())

    def share(self, stage: str) -> float:
        """Part of the busy time that `stage` took, 0 to 1."""
        return self.seconds.get(stage, 0.0) / self.total if self.total else 0.0

    def clock(self, stage: str) -> float:
        """Seconds by the clock in which at least one thread was in `stage`; 0 for what was measured elsewhere."""
        return self._clock.get(stage, 0.0)

    def _enter(self, stage: str, now: float) -> None:
        with self._lock:
            inside = self._inside.get(stage, 0)
            self._inside[stage] = inside + 1
            if not inside:
                self._since[stage] = now
        if self._whole is not None:
            self._whole._enter(stage, now)

    def _leave(self, stage: str, began: float, now: float) -> None:
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - began
            self._inside[stage] -= 1
            if not self._inside[stage]:
                self._clock[stage] = self._clock.get(stage, 0.0) + now - self._since[stage]
        if self._whole is not None:
            self._whole._leave(stage, began, now)

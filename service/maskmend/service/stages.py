"""How long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("decode", "boxes", "crops", "network", "reassemble", "guard", "encode")


class StageTimes:
    """Seconds spent in each stage, added up over calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    @property
    def total(self) -> float:
        """Busy seconds of all stages."""
        return sum(self.seconds.values())

    def share(self, stage: str) -> float:
        """Part of the busy time that `stage` took, 0 to 1."""
        return self.seconds.get(stage, 0.0) / self.total if self.total else 0.0

"""What Prometheus is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the folder that several worker processes share their numbers in."""


class Metrics:
    """All metrics of a service. Their names begin with `maskmend_`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "maskmend_requests",
            "Requests by protocol and outcome (ok, or the code of the error).",
            ("protocol", "code"),
            registry=registry,
        )
        self.rejects = Counter("maskmend_rejects", "Refusals by code of the error.", ("code",), registry=registry)
        self.seconds = Histogram(
            "maskmend_request_seconds",
            "From the whole request read to its answer.",
            ("protocol",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "maskmend_stage_seconds", "Seconds per request and stage.", ("stage",), buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "maskmend_batch_patches",
            "Patches per batch of the network.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=registry,
        )
        self.instances = Counter("maskmend_instances", "Instances refined or kept.", ("outcome",), registry=registry)
        self.abstains = Counter("maskmend_abstains", "Instances kept, by reason.", ("reason",), registry=registry)
        self.reloads = Counter(
            "maskmend_reloads", "Weights exchanged, or refused.", ("model", "outcome"), registry=registry
        )
        self.waiting = Gauge(
            "maskmend_queue_requests", "Requests that wait.", registry=registry, multiprocess_mode="livesum"
        )
        self.busy = Gauge("maskmend_busy_requests", "Requests at work.", registry=registry, multiprocess_mode="livesum")
        self.patches = Gauge(
            "maskmend_queue_patches",
            "Patches that wait for the network.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._before: list[Callable[[], None]] = []

    def watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Set a gauge each time the numbers are asked for."""
        self._before.append(lambda: gauge.set(value()))

    def set_gauges(self) -> None:
        """Bring the watched gauges up to date. Where there are several processes each must do so from time to time."""
        for update in self._before:
            update()

    def text(self) -> bytes:
        """Everything in Prometheus' text format, of all worker processes where there are several."""
        self.set_gauges()
        if MULTIPROCESS not in os.environ:
            return generate_latest(self._registry)
        _forget_the_dead(Path(os.environ[MULTIPROCESS]))
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _forget_the_dead(folder: Path) -> None:
    """Drop the live gauges of worker processes that are no more: one that was killed could not do so itself."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            multiprocess.mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]

"""What Prometheus is told."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from maskmend.models.runtimes.triton_fleet import TritonHealth
from maskmend.patcher.errors import OptionError

_CIRCUIT = {"closed": 0, "half-open": 1, "open": 2}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the folder that several worker processes share their numbers in."""
_ROOM = 8_000_000
"""Bytes that the files of one worker may come to."""


def check_room(folder: str, workers: int) -> None:
    """Refuse a folder for shared numbers that is too full: it is mapped into memory, and a worker that finds no room dies.

    Raises:
        OptionError: so it is.
    """
    free = shutil.disk_usage(folder).free
    if free < workers * _ROOM:
        raise OptionError(
            f"{workers} workers share their metrics in {folder}, which has {free} bytes left and needs {workers * _ROOM}; "
            "make room, or let the variable TMPDIR name another folder",
            field="workers",
        )


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

    def watch_tritons(self, health: Callable[[], Sequence[TritonHealth]]) -> None:
        """Tell of the servers of the triton runtime, each time the numbers are asked for; of none where there is none."""
        circuit = Gauge(
            "maskmend_triton_circuit",
            "State of a Triton's circuit: 0 closed (well), 1 half-open, 2 open (left alone for a while).",
            ("server",),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        requests = Counter(
            "maskmend_triton_requests", "Requests to a Triton.", ("server", "outcome"), registry=self._registry
        )
        seconds = Counter(
            "maskmend_triton_seconds",
            "Seconds of requests that a Triton answered.",
            ("server",),
            registry=self._registry,
        )
        told: defaultdict[tuple[str, str], float] = defaultdict(float)

        def update() -> None:
            found = health()
            totals: defaultdict[tuple[str, str], float] = defaultdict(float)
            states: dict[str, int] = {}
            for each in found:
                states[each.url] = max(states.get(each.url, 0), _CIRCUIT[each.circuit])
                totals[each.url, "ok"] += each.requests
                totals[each.url, "failed"] += each.failures
                totals[each.url, "seconds"] += each.seconds
            for url, state in states.items():
                circuit.labels(url).set(state)
            for (url, what), total in totals.items():
                # Of a model that was exchanged the numbers begin anew.
                grown = max(0.0, total - told[url, what])
                (seconds.labels(url) if what == "seconds" else requests.labels(url, what)).inc(grown)
                told[url, what] = total

        self._before.append(update)

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

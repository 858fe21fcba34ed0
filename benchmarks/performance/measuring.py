"""What the scripts of this folder share: ways timed by turns, fits, memory, and the machine they ran on.

Processor seconds are those of all threads of this process. They are what to compare on a machine that has other work;
seconds by the clock are given beside them.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Way = Callable[[], object]
LIBRARIES = ("maskmend", "numpy", "opencv-python-headless", "openvino", "torch")


def spent(way: Way) -> tuple[float, float]:
    """Seconds by the clock and of the processors that one call takes."""
    clock, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - clock, time.process_time() - processor


def by_turns(ways: Mapping[str, Way], repeats: int) -> dict[str, dict[str, Any]]:
    """Call each way in turn, `repeats` times round; the first round is preceded by one that does not count.

    Returns:
        By the names of `ways`: medians `clock_s` and `processor_s`, and `runs`, the pairs they are of.
    """
    for way in ways.values():
        way()
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            runs[name].append(spent(way))
    return {name: summary(pairs) for name, pairs in runs.items()}


def summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians of pairs of seconds by the clock and of the processors, and the pairs."""
    clock, processor = (float(np.median(column)) for column in zip(*pairs, strict=True))
    return {"clock_s": clock, "processor_s": processor, "runs": [list(pair) for pair in pairs]}


def ratio(slow: Mapping[str, Any], fast: Mapping[str, Any], key: str = "processor_s") -> float:
    """Median, over the rounds, of how many times as long `slow` took in the same round as `fast`."""
    column = 0 if key == "clock_s" else 1
    pairs = zip(slow["runs"], fast["runs"], strict=True)
    return float(np.median([a[column] / b[column] for a, b in pairs]))


def line(x: list[float], y: list[float]) -> dict[str, float]:
    """Least squares y = slope x + intercept, with the coefficient of determination as `r2`.

    Raises:
        ValueError: fewer than three points, or all at one x.
    """
    if len(x) < 3 or len(set(x)) < 2:
        raise ValueError(f"{len(x)} points at {len(set(x))} places; a line with a measure of fit needs 3 at 2 or more")
    slope, intercept = np.polyfit(x, y, 1)
    left = np.asarray(y) - (slope * np.asarray(x) + intercept)
    whole = float(np.sum((np.asarray(y) - np.mean(y)) ** 2))
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "r2": 1 - float(np.sum(left**2)) / whole if whole else 1.0,
    }


def peak_memory() -> float | None:
    """Most memory this process has had resident so far, in MB of 10^6 bytes; None where the system does not say.

    Read from /proc and not by `getrusage`, which in a fresh process begins with what its parent had.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for entry in status.splitlines():
        if entry.startswith("VmHWM:"):
            return int(entry.split()[1]) * 1024 / 1e6
    return None


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, load when asked, versions."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [entry for entry in info.read_text().splitlines() if entry.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def write(figures: Mapping[str, Any], file: Path | None) -> None:
    """Write figures as JSON, when a file is given."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=1) + "\n")

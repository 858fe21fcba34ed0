"""What `--engine ray` costs beside `--engine local` on the same cores: seconds by the clock and of the processors.

    python benchmarks/scale_out.py samples/coarse.json --images samples/images --workers 2

Both do the same job; that both files are the same is checked. Processor seconds are those of all processes that belong
to the job, Ray's own included. They say more than the clock on a machine that has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import JobSummary, run_job
from maskmend.clients.ray_engine import RayBackend
from maskmend.clients.refiner import Refiner

TICKS = os.sysconf("SC_CLK_TCK")


def family() -> dict[int, float]:
    """Processor seconds so far of this process and of all below it, by process."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # Of those that ended, their parent has the time.
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    known = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return {pid: seconds[pid] for pid in known if pid in seconds}


def measured(work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """What work gives, seconds by the clock, processor seconds of all processes, and of this one alone."""
    before, own, began = family(), time.process_time(), time.perf_counter()
    made = work()
    clock = time.perf_counter() - began
    spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in family().items())
    return made, clock, spent, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def job(backend: Any, name: str) -> JobSummary:
            return run_job(given.results, given.images, Path(folder) / name, backend, annotations=given.annotations)

        rows: list[tuple[str, float, float, float]] = []
        local, *start = measured(lambda: LocalBackend(Refiner(threads=given.workers)))
        rows.append(("local, start", *start))
        summary, *spent = measured(lambda: job(local, "local.json"))
        rows.append(("local, job", *spent))
        backend, *start = measured(lambda: RayBackend({}, workers=given.workers))
        rows.append((f"ray, start of {given.workers} workers", *start))
        try:
            _, *of_ray = measured(lambda: job(backend, "ray.json"))
        finally:
            backend.close()
        rows.append(("ray, job", *of_ray))
        same = (Path(folder) / "local.json").read_bytes() == (Path(folder) / "ray.json").read_bytes()
    images = sum(1 for _ in summary.masks.by_image())
    print(f"{summary.records} records on {images} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| | s by the clock | processor s, all | processor s, this process |\n| --- | --- | --- | --- |")
    for name, clock, every, own in rows:
        print(f"| {name} | {clock:.2f} | {every:.2f} | {own:.2f} |")
    print(
        f"job alone, ray / local: {of_ray[0] / spent[0]:.2f} by the clock, {of_ray[1] / spent[1]:.2f} in processor seconds"
    )
    print(f"driver: {1000 * of_ray[2] / images:.1f} processor ms per image")
    print(json.dumps({"same bytes": same}))
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Seconds until a fresh process has refined one image: `maskmend refine` from its start to its end.

    python benchmarks/performance/first_result.py samples/coarse.json --images samples/images --json first.json

Imports, loading the network and writing the result are all in it. The photograph with the fewest records of the list is
refined; a first process, which fills the caches of the disk and of compiled geometry, does not count. Beside it stand
a Python that only imports numpy, and `maskmend --help`, by turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring

COMMAND = [sys.executable, "-m", "maskmend.clients.cli"]


def one_image(results: Path, folder: Path) -> tuple[Path, int]:
    """A result list of one photograph alone, and how many records it has."""
    records: dict[str, list[dict[str, Any]]] = {}
    for record in json.loads(results.read_text()):
        records.setdefault(str(record["file_name"]), []).append(record)
    fewest = min(records.values(), key=len)
    made = folder / "one.json"
    made.write_text(json.dumps(fewest))
    return made, len(fewest)


def finished(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of the processors of a process.

    Raises:
        SystemExit: it ended with another code than 0.
    """
    before = os.times()
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    clock = time.perf_counter() - began
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return clock, processor


def run(results: Path, images: Path, repeats: int, warm: bool = True) -> dict[str, Any]:
    """Start processes by turns.

    Args:
        results: COCO result list whose records carry `file_name`.
        images: folder of the photographs.
        repeats: rounds that count.
        warm: begin with a round that does not count.

    Returns:
        JSON-able: `records` refined, and `processes`: per kind the medians `clock_s` and `processor_s`, and `runs`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given, records = one_image(results, folder)
        refine = ["refine", str(given), "--images", str(images), "--output", str(folder / "refined.json")]
        commands = {
            "python, import numpy": [sys.executable, "-c", "import numpy"],
            "maskmend --help": [*COMMAND, "--help"],
            "maskmend refine, one image": [*COMMAND, *refine],
        }
        for command in commands.values() if warm else ():
            finished(command)
        runs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in commands}
        for _ in range(repeats):
            for kind, command in commands.items():
                runs[kind].append(finished(command))
    processes = {kind: measuring.summary(pairs) for kind, pairs in runs.items()}
    return {"records": records, "repeats": repeats, "processes": processes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="COCO result list whose records carry file_name")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error(f"--repeats is {given.repeats}; use 1 or more")
    figures = run(given.results, given.images, given.repeats)
    print("| process | s by the clock | processor s |\n| --- | --- | --- |")
    for name, row in figures["processes"].items():
        print(f"| {name} | {row['clock_s']:.2f} | {row['processor_s']:.2f} |")
    measuring.write({"machine": measuring.machine(), **figures}, given.json)


if __name__ == "__main__":
    main()

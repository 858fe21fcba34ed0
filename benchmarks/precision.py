"""What a precision costs: processor time for a patch, and for a whole image, of the same weights on OpenVINO.

    python benchmarks/precision.py --weights bpr-small bpr-base --output precision.json

Precisions take turns, so that what else the machine does falls on all of them alike; medians of the turns. Processor time
is that of the whole process. `image` is the shipped sample through the engine, decoding and geometry included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.clients import Refiner
from maskmend.models import load_refiner
from maskmend.models.exporters.parity import sample
from maskmend.models.zoo import resolve_weights

PRECISIONS = ("fp32", "bf16", "int8")
SAMPLES = Path(__file__).parents[1] / "samples"


def in_turns(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, tuple[float, float]]:
    """Median processor and wall seconds of each call."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(turns):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            spent[name].append((time.process_time() - processor, time.perf_counter() - wall))
    return {name: (statistics.median(p), statistics.median(w)) for name, (p, w) in _unzipped(spent).items()}


def _unzipped(spent: dict[str, list[tuple[float, float]]]) -> dict[str, tuple[list[float], list[float]]]:
    return {name: ([p for p, _ in each], [w for _, w in each]) for name, each in spent.items()}


def patches(weights: str, threads: int, turns: int, count: int) -> dict[str, tuple[float, float]]:
    """Seconds for one patch."""
    loaded = {p: load_refiner(weights=weights, runtime="openvino", precision=p, threads=threads) for p in PRECISIONS}
    batch = sample(count, resolve_weights(weights).manifest.input_size)
    found = in_turns({p: lambda r=r: r.forward(batch) for p, r in loaded.items()}, turns)
    return {p: (processor / count, wall / count) for p, (processor, wall) in found.items()}


def images(weights: str, threads: int, turns: int) -> dict[str, tuple[float, float]]:
    """Seconds for one photograph of the sample with all its masks."""
    coarse: dict[str, list[Any]] = {}
    for record in json.loads((SAMPLES / "coarse.json").read_text()):
        coarse.setdefault(record["file_name"], []).append(record["segmentation"])
    refiners = {p: Refiner(weights=weights, runtime="openvino", precision=p, threads=threads) for p in PRECISIONS}

    def whole(refiner: Refiner) -> None:
        for name, masks in coarse.items():
            refiner.refine(SAMPLES / "images" / name, masks)

    found = in_turns({p: lambda r=r: whole(r) for p, r in refiners.items()}, turns)
    return {p: (processor / len(coarse), wall / len(coarse)) for p, (processor, wall) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["bpr-small"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--patches", type=int, default=32)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    rows = []
    print("| weights | threads | of | precision | processor ms | wall ms | fp32 / it, processor | wall |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for weights in arguments.weights:
        for threads in arguments.threads:
            for of, found in (
                ("patch", patches(weights, threads, arguments.turns, arguments.patches)),
                ("image", images(weights, threads, max(3, arguments.turns // 3))),
            ):
                for precision, (processor, wall) in found.items():
                    ratios = found["fp32"][0] / processor, found["fp32"][1] / wall
                    row = {"weights": weights, "threads": threads, "of": of, "precision": precision}
                    rows.append({**row, "processor_s": processor, "wall_s": wall, "ratios": ratios})
                    cells = f"{1000 * processor:.2f} | {1000 * wall:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f}"
                    print(f"| {weights} | {threads} | {of} | {precision} | {cells} |", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({"numpy": np.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

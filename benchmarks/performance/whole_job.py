"""A whole job, as `maskmend refine` runs it: PyTorch eager beside OpenVINO, one image at a time beside two.

    python benchmarks/performance/whole_job.py DATA/coco-cc/instances.json --images DATA/coco-cc/images --json whole.json

Reading photographs and masks, and writing the file, included; loading the network is not. Ways take turns. `torch` is the
same pipeline on PyTorch eager in fp32, one image at a time; ratios are times as fast as that. *At work* is the part of the
job's time by the clock in which at least one patch was with the network; *of the processor* is its part of the processor
seconds, known where images come one at a time: all that the thread that does the rest does not take. OpenCV keeps to one
thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import measuring
import numpy as np

from maskmend.clients import Refiner
from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import run_job

EAGER = "torch, fp32, one at a time"
WAYS: dict[str, dict[str, Any]] = {
    EAGER: {"runtime": "torch"},
    "openvino, fp32, one at a time": {"runtime": "openvino"},
    "openvino, fp32, two at a time": {"runtime": "openvino", "concurrency": 2},
    "openvino, auto, one at a time": {"runtime": "openvino", "precision": "auto"},
    "openvino, auto, two at a time": {"runtime": "openvino", "precision": "auto", "concurrency": 2},
}


def first_photographs(instances: Path, folder: Path, count: int | None) -> Path:
    """An instances file, written to `folder`, of the first so many photographs of one; all of them for None."""
    document = json.loads(instances.read_text())
    document["images"] = document["images"][:count]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
    written = folder / "instances.json"
    written.write_text(json.dumps(document))
    return written


def compare(instances: Path, images: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Time every way by turns.

    Returns:
        JSON-able: `instances` refined, `repeats`, `threads`; `ways`: per way `clock_s`, `processor_s`, `runs`,
        `at_work`, for those of one image at a time `of_the_processor`, and where PyTorch is installed `ratio` and
        `ratio_clock`; `same_bytes`: whether all ways of one precision wrote the same file, PyTorch apart.
    """
    cv2.setNumThreads(1)
    names = [name for name in WAYS if name != EAGER or (find_spec("torch") and find_spec("safetensors"))]
    shares: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    written: dict[str, set[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "refined.json"
        refined = 0

        def way(name: str) -> Callable[[], None]:
            refiner = Refiner(threads=threads, **WAYS[name])
            backend = LocalBackend(refiner)

            def job() -> None:
                nonlocal refined
                worked, own = refiner.stages.clock("network"), time.thread_time()
                clock, processor = time.perf_counter(), time.process_time()
                refined = run_job(instances, images, output, backend).refined
                clock, processor = time.perf_counter() - clock, time.process_time() - processor
                own = time.thread_time() - own
                shares[name].append(((refiner.stages.clock("network") - worked) / clock, 1 - own / processor))
                if name != EAGER:
                    written.setdefault(WAYS[name].get("precision", "fp32"), set()).add(output.read_bytes())

            return job

        times = measuring.by_turns({name: way(name) for name in names}, repeats)
    for name, row in times.items():
        # The first call warmed up.
        at_work, of_the_processor = np.median(shares[name][1:], axis=0)
        row["at_work"] = float(at_work)
        if "concurrency" not in WAYS[name]:
            row["of_the_processor"] = float(of_the_processor)
        if EAGER in times:
            row["ratio"] = measuring.ratio(times[EAGER], row)
            row["ratio_clock"] = measuring.ratio(times[EAGER], row, "clock_s")
    same = all(len(files) == 1 for files in written.values())
    return {"instances": refined, "repeats": repeats, "threads": threads, "ways": times, "same_bytes": same}


def print_table(figures: dict[str, Any]) -> None:
    """Print a Markdown table of what `compare` returned."""
    print(
        f"{figures['instances']} instances, {figures['threads']} threads, medians of {figures['repeats']} rounds by turns\n"
    )
    print("| way | s by the clock | processor s | times as fast | by the clock | network at work | of the processor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in figures["ways"].items():
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("ratio", "ratio_clock")]
        parts = [f"{100 * row[key]:.1f} %" if key in row else "" for key in ("at_work", "of_the_processor")]
        print(f"| {name} | {row['clock_s']:.2f} | {row['processor_s']:.2f} | {' | '.join(ratios + parts)} |")
    print(f"same bytes from all ways of a precision: {'yes' if figures['same_bytes'] else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", type=Path, help="COCO instances file")
    parser.add_argument("--images", type=Path, required=True, help="folder of its photographs")
    parser.add_argument("--photographs", type=int, help="the first so many only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the networks")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    for name in ("photographs", "repeats", "threads"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            parser.error(f"--{name} is {getattr(given, name)}; use 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        instances = first_photographs(given.instances, Path(folder), given.photographs)
        figures = compare(instances, given.images, given.repeats, given.threads)
    print_table(figures)
    measuring.write({"machine": measuring.machine(), **figures}, given.json)


if __name__ == "__main__":
    main()

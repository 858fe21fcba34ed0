"""How time and memory grow: with instances in one image, with the size of the image, with the length of a boundary.

    python benchmarks/performance/growth.py instances --json instances.json
    python benchmarks/performance/growth.py size
    python benchmarks/performance/growth.py boundary

Synthetic photographs as JPEG files (scenes.py), the shipped default refiner, two threads. Every point is a process of its
own, whose largest memory is therefore that of this point alone; points are measured by turns, and medians given. Times
are of `Refiner.refine` from the file to the masks (`boundary`: from the decoded image, which is the same at all points),
without imports, and without a first refinement that does not count.

`instances`: 1 to 500 objects of 60 px on 2048x2048 px. `size`: 10 objects of 150 px on 0.3 to 50 megapixels. `boundary`: one
object of 100 to 1600 px on 4096x4096 px, with a straight line fitted to time over boundary pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from scenes import Scene, synthetic

from maskmend.clients import Refiner
from maskmend.patcher import Rle
from maskmend.patcher.images import load_image

POINTS: dict[str, list[float]] = {
    "instances": [1, 10, 50, 100, 200, 500],
    "size": [0.3, 1, 3, 12, 24, 50],
    "boundary": [100, 200, 400, 600, 800, 1200, 1600],
}
"""Objects; megapixels; diameter of the object in px."""


def scene_of(kind: str, point: float, folder: Path) -> Scene:
    """The photograph and masks of a point."""
    if kind == "instances":
        return synthetic(folder, 2048, 2048, [60.0] * int(point))
    if kind == "size":
        height = round((point * 1e6 * 3 / 4) ** 0.5)
        return synthetic(folder, height, round(point * 1e6 / height), [150.0] * 10)
    return synthetic(folder, 4096, 4096, [point])


def boundary_pixels(mask: Rle) -> int:
    """Pixels of the mask of which a neighbour to the left, right, top or bottom is not of it."""
    x, y, w, h = mask.bbox
    inside = np.pad(mask.crop(x, y, x + w, y + h).astype(bool), 1)
    kept = inside[1:-1, :-2] & inside[1:-1, 2:] & inside[:-2, 1:-1] & inside[2:, 1:-1]
    return int(np.count_nonzero(inside[1:-1, 1:-1] & ~kept))


def measure(kind: str, point: float, threads: int) -> dict[str, Any]:
    """One point, in this process.

    Returns:
        JSON-able: `point`, `frame` [H, W], `instances`, `boundary_px` of all coarse masks, `clock_s`, `processor_s`,
        `stages` (seconds by the clock), and `peak_mb`, the largest resident memory of the whole process.
    """
    with tempfile.TemporaryDirectory() as name:
        scene = scene_of(kind, point, Path(name))
        masks = [mask.to_coco() for mask in scene.masks]
        refiner = Refiner(threads=threads)
        small = synthetic(Path(name), 200, 200, [80.0], name="first.jpg")
        refiner.refine(small.photograph, [small.masks[0].to_coco()])
        image = load_image(scene.photograph) if kind == "boundary" else scene.photograph
        before = dict(refiner.stages.seconds)
        clock, processor = measuring.spent(lambda: refiner.refine(image, masks))
    stages = {stage: seconds - before.get(stage, 0.0) for stage, seconds in refiner.stages.seconds.items()}
    frame = [scene.masks[0].height, scene.masks[0].width]
    return {
        "point": point,
        "frame": frame,
        "instances": len(masks),
        "boundary_px": sum(map(boundary_pixels, scene.masks)),
        "clock_s": clock,
        "processor_s": processor,
        "stages": stages,
        "peak_mb": measuring.peak_memory(),
    }


def run(kind: str, points: list[float], repeats: int, threads: int) -> dict[str, Any]:
    """Measure all points by turns, each in a process of its own.

    Returns:
        JSON-able: `rows`, per point as `measure` with medians, the largest `peak_mb`, and `geometry_s`, all stages but
        the network and reading the file; `fits`, lines of seconds over boundary pixels (three points or more).
    """
    found: dict[float, list[dict[str, Any]]] = {point: [] for point in points}
    for _ in range(repeats):
        for point in points:
            found[point].append(_in_a_process(kind, point, threads))
    rows = []
    for runs in found.values():
        row = dict(runs[0])
        row["clock_s"], row["processor_s"] = (
            float(np.median([one[key] for one in runs])) for key in ("clock_s", "processor_s")
        )
        row["stages"] = {stage: float(np.median([one["stages"][stage] for one in runs])) for stage in row["stages"]}
        row["geometry_s"] = sum(row["stages"][name] for name in ("boxes", "crops", "reassemble", "guard", "encode"))
        peaks = [one["peak_mb"] for one in runs if one["peak_mb"] is not None]
        row["peak_mb"] = max(peaks) if peaks else None
        rows.append(row)
    figures: dict[str, Any] = {"kind": kind, "repeats": repeats, "threads": threads, "rows": rows}
    if len(rows) >= 3 and kind != "size":
        lengths = [float(row["boundary_px"]) for row in rows]
        columns = ("processor_s", "geometry_s")
        figures["fits"] = {column: measuring.line(lengths, [row[column] for row in rows]) for column in columns}
    return figures


def _in_a_process(kind: str, point: float, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, kind, "--point", str(point), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} {point:g} failed with code {done.returncode}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def print_table(figures: dict[str, Any]) -> None:
    """Print a Markdown table of what `run` returned, and the fits."""
    print("| frame | objects | boundary px | s by the clock | processor s | decode ms | geometry ms | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in figures["rows"]:
        peak = "not known" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        print(
            f"| {row['frame'][1]}x{row['frame'][0]} | {row['instances']} | {row['boundary_px']:,} | {row['clock_s']:.2f} | "
            f"{row['processor_s']:.2f} | {1e3 * row['stages']['decode']:.0f} | {1e3 * row['geometry_s']:.0f} | {peak} |"
        )
    for column, fit in figures.get("fits", {}).items():
        print(
            f"{column}: {1e6 * fit['slope']:.1f} us per boundary pixel + {1e3 * fit['intercept']:.0f} ms, R2 {fit['r2']:.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(POINTS))
    parser.add_argument("--points", type=float, nargs="+", help="others than those named above")
    parser.add_argument("--point", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the network")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.repeats < 1 or given.threads < 1 or any(point <= 0 for point in given.points or []):
        parser.error("--repeats and --threads are 1 or more, --points above 0")
    if given.point is not None:
        print(json.dumps(measure(given.kind, given.point, given.threads)))
        return
    figures = run(given.kind, given.points or POINTS[given.kind], given.repeats, given.threads)
    print_table(figures)
    measuring.write({"machine": measuring.machine(), **figures}, given.json)


if __name__ == "__main__":
    main()

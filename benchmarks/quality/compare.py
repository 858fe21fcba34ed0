"""maskmend beside what people use today: every data set x every coarse kind, same inputs, same pairs.

    python benchmarks/quality/compare.py --data DATA --work runs/quality [--sets davis] [--methods bpr-small grabcut]
    python benchmarks/quality/compare.py --data DATA --work runs/quick --limit 4 --weights bpr-small NEW.onnx
    python benchmarks/quality/compare.py --data DATA --work runs/cost --weights bpr-small bpr-small:nms=0.55,passes=5

Writes `compare.json`, `compare.md` (every set and kind) and `compare.png`, and prints the means over kinds. Times are of one
thread, without reading files. A step whose file is there is not repeated, unless --again is given or the weights are no
longer those it was made with. Coarse masks are those of `table.py`, which makes them if need be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from baselines import BASELINES, NEEDS, available, read_image, refine_file
from table import SETS, ground_truth, maskmend

from maskmend.models.training.coarse import KINDS
from maskmend.models.zoo import list_weights, resolve_weights
from maskmend.patcher import Rle
from maskmend.patcher.errors import OptionError, WeightsError
from maskmend.service.options import EngineOptions

OURS = [weights.manifest.name for weights in list_weights()]
COLUMNS = {"mean_iou": "mean IoU", "f1px": "F@1", "f3px": "F@3", "mba": "mBA", "boundary_ap": "boundary AP"}


def split(given: str) -> tuple[str, EngineOptions]:
    """Weights by name or path, and options behind a colon: `bpr-small:nms=0.55,passes=1`."""
    weights, _, text = given.partition(":")
    try:
        values = {key: json.loads(value) for key, value in (part.split("=") for part in text.split(",") if part)}
        return weights, EngineOptions(**values)
    except (ValueError, TypeError, OptionError) as error:
        raise SystemExit(f"{given}: options are such as nms=0.55,guard=false: {error}") from error


def label(given: str) -> str:
    """How weights and options are called in tables and file names."""
    weights, _, text = given.partition(":")
    try:
        name = resolve_weights(weights).manifest.name
    except (OptionError, WeightsError) as error:
        raise SystemExit(str(error)) from error
    return f"{name} {text.replace(',', ' ')}" if text else name


def refine_ours(results: Path, images: Path, annotations: Path, output: Path, given: str) -> None:
    """Refine a COCO result list in this process, on one thread, all instances of an image together."""
    from maskmend.models import load_refiner
    from maskmend.service import Engine

    weights, options = split(given)
    network = load_refiner(weights=weights, threads=1)
    engine = Engine(network, options)
    names = {image["id"]: image["file_name"] for image in json.loads(annotations.read_text())["images"]}
    records: list[dict[str, Any]] = json.loads(results.read_text())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    seconds = 0.0
    for number, (image_id, group) in enumerate(by_image.items()):
        picture = read_image(images / names[image_id])
        masks = [Rle.from_coco(record["segmentation"]) for record in group]
        if number == 0:
            engine.refine_image(picture, masks)
        began = time.perf_counter()
        refined = engine.refine_image(picture, masks)
        seconds += time.perf_counter() - began
        for record, result in zip(group, refined, strict=True):
            record["segmentation"] = result.mask.to_coco()
            record["bbox"], record["area"] = [float(v) for v in result.mask.bbox], result.mask.area
    output.write_text(json.dumps(records))
    summary = {
        "instances": len(records),
        "ms_per_instance": 1e3 * seconds / max(len(records), 1),
        "weights_sha256": network.provenance["weights_sha256"],
    }
    output.with_suffix(".time.json").write_text(json.dumps(summary))


def is_current(file: Path, coarse: Path, weights: str | None) -> bool:
    """Whether a refined file need not be made again: it was made after the coarse masks, and with these weights."""
    times = file.with_suffix(".time.json")
    if not file.is_file() or not times.is_file() or file.stat().st_mtime < coarse.stat().st_mtime:
        return False
    if weights is None:
        return True
    # One of each form that a runtime may have read.
    return (
        json.loads(times.read_text()).get("weights_sha256")
        in resolve_weights(split(weights)[0]).manifest.sha256.values()
    )


def first_images(truth: Path, limit: int, work: Path) -> Path:
    """Annotations of the first images only, for a quick look."""
    coco = json.loads(truth.read_text())
    coco["images"] = coco["images"][:limit]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{truth.parent.name}-{truth.name}"
    file.write_text(json.dumps(coco))
    return file


def measure(
    name: str,
    kind: str,
    truth: Path,
    images: Path,
    work: Path,
    methods: list[str],
    weights: dict[str, str],
    again: bool,
) -> list[dict[str, Any]]:
    """One row per method and one for the coarse masks; `weights` by the name of their method."""
    coarse = work / f"{name}-{kind}-coarse.json"
    if not coarse.is_file():
        maskmend("degrade", truth, "--images", images, "--output", coarse, "--kind", kind, "--seed", "3")
    files = []
    for method in methods:
        file = work / f"{name}-{kind}-{method}.json"
        if again or not is_current(file, coarse, weights.get(method)):
            if method in weights:
                refine_ours(coarse, images, truth, file, weights[method])
            else:
                refine_file(coarse, images, truth, file, method)
        files.append(file)
    table = work / f"{name}-{kind}-compare.json"
    maskmend("evaluate", "--gt", truth, coarse, *files, "--json", table)
    columns = json.loads(table.read_text())["files"]
    times = [0.0, *(json.loads(f.with_suffix(".time.json").read_text())["ms_per_instance"] for f in files)]
    return [
        {"set": name, "kind": kind, "method": method, "ms": ms, **column}
        for method, ms, column in zip(["coarse", *methods], times, columns, strict=True)
    ]


def means(rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """Means over kinds of each set, with the share of the F@1 gap, summed over kinds, that was closed."""
    found = []
    for name in dict.fromkeys(row["set"] for row in rows):
        before = float(np.mean([row["f1px"] for row in rows if row["set"] == name and row["method"] == "coarse"]))
        for method in ["coarse", *methods]:
            chosen = [row for row in rows if row["set"] == name and row["method"] == method]
            mean = {key: float(np.mean([row[key] for row in chosen])) for key in (*COLUMNS, "ms")}
            for key in ("improved", "harmed"):
                mean[key] = 0.0 if method == "coarse" else float(np.mean([row[key] for row in chosen]))
            # Not the mean of each kind's share: where the coarse masks are all but exact that is a division by nothing.
            gap = (mean["f1px"] - before) / max(1 - before, 1e-9)
            found.append({"set": name, "kind": "mean", "method": method, **mean, "gap": gap})
    return found


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["set", "kind", "method", *COLUMNS.values(), "improved %", "harmed %", "ms per instance"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for row in rows:
        cells = [row["set"], row["kind"], row["method"], *(f"{row[key]:.4f}" for key in COLUMNS)]
        if row["method"] == "coarse":
            cells += ["", "", ""]
        else:
            cells += [f"{row['improved']:.1f}", f"{row['harmed']:.1f}", f"{row['ms']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], ours: Collection[str], file: Path) -> None:
    """Gains of F@1 and of mean IoU against time, one column of panels per set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["set"] for row in rows))
    figure, panels = pyplot.subplots(
        2, len(names), figsize=(max(4.6 * len(names), 9), 8), squeeze=False, sharex="col", layout="constrained"
    )
    for key, line in zip(("f1px", "mean_iou"), panels, strict=True):
        for panel, name in zip(line, names, strict=True):
            here = {row["method"]: row for row in rows if row["set"] == name}
            before = here.pop("coarse")
            for number, (method, row) in enumerate(here.items()):
                point = (row["ms"], row[key] - before[key])
                # A legend, not names beside the points: several methods cost much the same and lose much the same.
                marker, size = ("*", 160) if method in ours else ("osD^vPXh"[number % 8], 55)
                panel.scatter(*point, s=size, marker=marker, color=f"C{number}", label=method)
            panel.axhline(0, color="grey", linestyle=":", linewidth=1)
            panel.set_xscale("log")
            panel.margins(x=0.2, y=0.14)
        line[0].set_ylabel(f"gain of {COLUMNS[key]}, mean over kinds")
    for name, top, bottom in zip(names, *panels, strict=True):
        top.set_title(name)
        bottom.set_xlabel("ms per instance, one thread")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--methods", nargs="+", default=[*OURS, *BASELINES], choices=[*OURS, *BASELINES])
    parser.add_argument(
        "--weights", nargs="+", help="names or paths, with options behind a colon, for those of --methods"
    )
    parser.add_argument("--every", type=int, default=4, help="of davis, every n-th image")
    parser.add_argument("--limit", type=int, help="only the first images of each set; files go to WORK/first-LIMIT")
    parser.add_argument("--again", action="store_true", help="repeat refinements whose files are there")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for method in [m for m in arguments.methods if m in BASELINES and not available(m)]:
        print(
            f"{method} is left out: {NEEDS[method]} is not installed (pip install 'maskmend[bench]')", file=sys.stderr
        )
        arguments.methods.remove(method)
    chosen = arguments.weights or [method for method in arguments.methods if method in OURS]
    weights = {label(given): given for given in chosen}
    for given in chosen:
        split(given)
    if len(weights) < len(chosen):
        raise SystemExit("two of --weights have the same name; each needs its own")
    methods = [*weights, *(method for method in arguments.methods if method in BASELINES)]
    work = arguments.work if arguments.limit is None else arguments.work / f"first-{arguments.limit}"
    rows = []
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.every)
        if arguments.limit is not None:
            truth = first_images(truth, arguments.limit, work)
        for kind in arguments.kinds:
            rows += measure(name, kind, truth, images, work, methods, weights, arguments.again)
            print(f"{name} {kind}", file=sys.stderr, flush=True)
    summary = means(rows, methods)
    (work / "compare.json").write_text(json.dumps({"rows": rows, "means": summary}, indent=1))
    (work / "compare.md").write_text(markdown(rows))
    print(markdown(summary))
    for row in summary:
        if row["method"] != "coarse":
            print(f"{row['set']}, {row['method']}: gap of F@1 closed {row['gap']:.3f}")
    draw(summary, weights, work / "compare.png")


if __name__ == "__main__":
    main()

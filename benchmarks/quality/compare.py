"""maskmend beside what people use today: every data set x every coarse kind, same inputs, same pairs.

    python benchmarks/quality/compare.py --data DATA --work runs/quality [--sets davis] [--methods bpr-small grabcut]

Writes `compare.json`, `compare.md` (every set and kind) and `compare.png`, and prints the means over kinds. Times are of one
thread, without reading files. A step whose file is there is not repeated; delete the file to have it again. Coarse
masks are those of `table.py`, which makes them if need be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from baselines import BASELINES, available, refine_file
from table import SETS, ground_truth, maskmend

from maskmend.models.training.coarse import KINDS
from maskmend.models.zoo import list_weights
from maskmend.patcher import Rle

OURS = {weights.manifest.name: weights for weights in list_weights()}
COLUMNS = {"mean_iou": "mean IoU", "f1px": "F@1", "f3px": "F@3", "mba": "mBA", "boundary_ap": "boundary AP"}


def refine_ours(results: Path, images: Path, annotations: Path, output: Path, weights: str) -> None:
    """Refine a COCO result list in this process, on one thread, all instances of an image together."""
    from maskmend.models import load_refiner
    from maskmend.service import Engine

    engine = Engine(load_refiner(weights=weights, threads=1))
    names = {image["id"]: image["file_name"] for image in json.loads(annotations.read_text())["images"]}
    records: list[dict[str, Any]] = json.loads(results.read_text())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    seconds = 0.0
    for number, (image_id, group) in enumerate(by_image.items()):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        picture = np.ascontiguousarray(cv2.imread(str(images / names[image_id]), flags)[:, :, ::-1])
        masks = [Rle.from_coco(record["segmentation"]) for record in group]
        if number == 0:
            engine.refine_image(picture, masks[:1])
        began = time.perf_counter()
        refined = engine.refine_image(picture, masks)
        seconds += time.perf_counter() - began
        for record, result in zip(group, refined, strict=True):
            record["segmentation"] = result.mask.to_coco()
            record["bbox"], record["area"] = [float(v) for v in result.mask.bbox], result.mask.area
    output.write_text(json.dumps(records))
    summary = {"instances": len(records), "ms_per_instance": 1e3 * seconds / max(len(records), 1)}
    output.with_suffix(".time.json").write_text(json.dumps(summary))


def measure(name: str, kind: str, truth: Path, images: Path, work: Path, methods: list[str]) -> list[dict[str, Any]]:
    """One row per method and one for the coarse masks."""
    coarse = work / f"{name}-{kind}-coarse.json"
    if not coarse.is_file():
        maskmend("degrade", truth, "--images", images, "--output", coarse, "--kind", kind, "--seed", "3")
    files = []
    for method in methods:
        file = work / f"{name}-{kind}-{method}.json"
        if not file.is_file():
            if method in OURS:
                refine_ours(coarse, images, truth, file, method)
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
    """Means over kinds of each set, with the share of the F@1 gap that was closed."""
    found = []
    for name in dict.fromkeys(row["set"] for row in rows):
        before = {row["kind"]: row["f1px"] for row in rows if row["set"] == name and row["method"] == "coarse"}
        for method in ["coarse", *methods]:
            chosen = [row for row in rows if row["set"] == name and row["method"] == method]
            mean = {key: float(np.mean([row[key] for row in chosen])) for key in (*COLUMNS, "ms")}
            for key in ("improved", "harmed"):
                mean[key] = 0.0 if method == "coarse" else float(np.mean([row[key] for row in chosen]))
            gaps = [(row["f1px"] - before[row["kind"]]) / max(1 - before[row["kind"]], 1e-9) for row in chosen]
            found.append({"set": name, "kind": "mean", "method": method, **mean, "gap": float(np.mean(gaps))})
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


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Gain of mean IoU against time, one panel per set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["set"] for row in rows))
    figure, panels = pyplot.subplots(1, len(names), figsize=(4.6 * len(names), 4.4), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        here = {row["method"]: row for row in rows if row["set"] == name}
        before = here.pop("coarse")
        for number, (method, row) in enumerate(here.items()):
            gain = row["f1px"] - before["f1px"]
            panel.scatter([row["ms"]], [gain], s=50, marker="*" if method in OURS else "o", color=f"C{number}")
            panel.annotate(method, (row["ms"], gain), textcoords="offset points", xytext=(4, 4), fontsize=8)
        panel.axhline(0, color="grey", linestyle=":", linewidth=1)
        panel.set_xscale("log")
        panel.margins(x=0.25, y=0.12)
        panel.set_title(name)
        panel.set_xlabel("ms per instance, one thread")
    panels[0][0].set_ylabel("gain of F@1, mean over kinds")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--methods", nargs="+", default=[*OURS, *BASELINES], choices=[*OURS, *BASELINES])
    parser.add_argument("--every", type=int, default=4, help="of davis, every n-th image")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for method in [m for m in arguments.methods if m in BASELINES and not available(m)]:
        print(f"{method} is left out: its library is not installed (pip install 'maskmend[bench]')", file=sys.stderr)
        arguments.methods.remove(method)
    rows = []
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.every)
        for kind in arguments.kinds:
            rows += measure(name, kind, truth, images, arguments.work, arguments.methods)
            print(f"{name} {kind}", file=sys.stderr, flush=True)
    summary = means(rows, arguments.methods)
    (arguments.work / "compare.json").write_text(json.dumps({"rows": rows, "means": summary}, indent=1))
    (arguments.work / "compare.md").write_text(markdown(rows))
    print(markdown(summary))
    for row in summary:
        if row["method"] != "coarse":
            print(f"{row['set']}, {row['method']}: gap of F@1 closed {row['gap']:.3f}")
    draw(summary, arguments.work / "compare.png")


if __name__ == "__main__":
    main()

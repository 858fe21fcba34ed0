"""Quality against patches per instance: patches chosen adaptively beside plain suppression.

    python benchmarks/quality/patches.py --data DATA --work runs/quality --every 4
    python benchmarks/quality/patches.py --data DATA --work runs/quality --table docs/images/patches.csv

Coarse masks are those of `table.py`, which makes them if need be; `--every` takes each n-th image of every set (of davis,
of those that `table.py` takes). Scores are `maskmend evaluate`'s: mean IoU and F@1 over the instances whose coarse mask has
an IoU above 0.5 with the annotation it was made from, harmed where the IoU fell by more than 0.005. Each way, set and kind
is a file in WORK/patches and is not made again, unless --again is given. Writes `patches.csv` and `patches.png` to WORK and
prints Markdown tables. `--table FILE` draws and prints what an earlier run wrote, and measures nothing. `--rounds N`
measures processor time instead: adaptive and standard by turns, N times, on the coarse masks that are there.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from baselines import read_image
from table import SETS, ground_truth, maskmend

from maskmend.models import load_refiner
from maskmend.models.training.coarse import KINDS
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.metrics import boundary_f, iou
from maskmend.service import Engine, EngineOptions

WAYS: dict[str, EngineOptions] = {
    "nms=0.15": EngineOptions(nms=0.15),
    "nms=0.25": EngineOptions(),
    "nms=0.55": EngineOptions(nms=0.55),
    "nms=0.25, 2 passes": EngineOptions(passes=2),
    "nms=0.25, 1 pass": EngineOptions(passes=1),
    "adaptive": EngineOptions(patches="adaptive"),
    "adaptive, 1 pass": EngineOptions(patches="adaptive", passes=1),
}
STANDARD = "nms=0.25"
HARM = 0.005
NUMBERS = ("patches", "iou", "f1px", "harmed", "improved")
Row = dict[str, Any]


def scores(mask: Rle, truth: Rle) -> tuple[float, float]:
    """IoU and F@1, in a crop round both that holds their boundaries."""
    corners = []
    for each in (mask, truth):
        x, y, w, h = each.bbox
        corners += [(x, y), (x + w, y + h)] if w else []
    if not corners:
        return 1.0, 1.0
    (x0, y0), (x1, y1) = np.maximum(np.min(corners, 0) - 3, 0), np.max(corners, 0) + 3
    box = (int(x0), int(y0), int(min(x1, truth.width)), int(min(y1, truth.height)))
    ours, theirs = mask.crop(*box), truth.crop(*box)
    return iou(ours, theirs), boundary_f(ours, theirs, 1)


def measure(engine: Engine, coarse: Path, truth: Path, images: Path, every: int) -> Row:
    """Means over the instances of one set and kind."""
    coco = json.loads(truth.read_text())
    chosen = {image["id"]: image for image in coco["images"][::every]}
    annotations = {annotation["id"]: annotation for annotation in coco["annotations"]}
    records = [record for record in json.loads(coarse.read_text()) if record["image_id"] in chosen]
    found = []
    for image_id, image in chosen.items():
        group = [record for record in records if record["image_id"] == image_id]
        if not group:
            continue
        masks = [Rle.from_coco(record["segmentation"]) for record in group]
        size = {"height": image["height"], "width": image["width"]}
        results = engine.refine_image(read_image(images / image["file_name"]), masks)
        for record, mask, result in zip(group, masks, results, strict=True):
            true = as_rle(annotations[record["annotation_id"]]["segmentation"], **size)
            before, first = scores(mask, true)
            if before > 0.5:
                after, then = scores(result.mask, true)
                found.append((result.patches, after, then, after < before - HARM, after > before + HARM, before, first))
    means = np.mean(found, 0)
    row: Row = {"instances": len(found), **dict(zip(NUMBERS, means[:5].tolist(), strict=True))}
    row["coarse_iou"], row["coarse_f1px"] = means[5:].tolist()
    row["harmed"], row["improved"] = 100 * row["harmed"], 100 * row["improved"]
    return row


def timed(arguments: argparse.Namespace) -> None:
    """Print processor seconds of both ways, and the median of their ratio over the rounds."""
    network = load_refiner(weights=arguments.weights, threads=arguments.threads)
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.davis)
        for kind in arguments.kinds:
            records = json.loads((arguments.work / f"{name}-{kind}-coarse.json").read_text())
            work = []
            for image in json.loads(truth.read_text())["images"][:: arguments.every]:
                masks = [Rle.from_coco(r["segmentation"]) for r in records if r["image_id"] == image["id"]]
                work.append((read_image(images / image["file_name"]), masks))
            seconds: dict[str, list[float]] = {"adaptive": [], STANDARD: []}
            for _ in range(arguments.rounds):
                for way, found in seconds.items():
                    engine = Engine(network, WAYS[way])
                    began = time.process_time()
                    for picture, masks in work:
                        engine.refine_image(picture, masks)
                    found.append(time.process_time() - began)
            ratios = np.divide(seconds["adaptive"], seconds[STANDARD])
            least = {way: round(min(found), 2) for way, found in seconds.items()}
            print(f"{name} {kind}: processor s {least}, median ratio {np.median(ratios):.2f}", flush=True)


def measured(arguments: argparse.Namespace) -> list[Row]:
    """One row for each set, kind and way."""
    rows = []
    network = load_refiner(weights=arguments.weights, threads=arguments.threads)
    folder = arguments.work / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.davis)
        for kind in arguments.kinds:
            coarse = arguments.work / f"{name}-{kind}-coarse.json"
            if not coarse.is_file():
                maskmend("degrade", truth, "--images", images, "--output", coarse, "--kind", kind, "--seed", "3")
            for way in arguments.ways:
                slug = way.replace(", ", "-").replace(" ", "-").replace("=", "")
                file = folder / f"{name}-{kind}-{slug}-{network.provenance['weights']}-{arguments.every}.json"
                if arguments.again or not file.is_file():
                    file.write_text(
                        json.dumps(measure(Engine(network, WAYS[way]), coarse, truth, images, arguments.every))
                    )
                rows.append({"set": name, "kind": kind, "way": way, **json.loads(file.read_text())})
            print(f"{name} {kind}", file=sys.stderr, flush=True)
    return rows


def means(rows: list[Row]) -> list[Row]:
    """Means over kinds of each set and way."""
    found = []
    for name in dict.fromkeys(row["set"] for row in rows):
        for way in dict.fromkeys(row["way"] for row in rows if row["set"] == name):
            here = [row for row in rows if row["set"] == name and row["way"] == way]
            mean = {
                key: float(np.mean([float(row[key]) for row in here]))
                for key in (*NUMBERS, "coarse_iou", "coarse_f1px")
            }
            found.append({"set": name, "kind": "mean", "way": way, **mean})
    return found


def markdown(rows: list[Row]) -> str:
    """A table with patches and gains beside the standard way."""
    lines = [
        "| set | kind | way | patches per instance | of standard | mean IoU | F@1 | change of F@1 | improved % | harmed % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    standard = {(row["set"], row["kind"]): row for row in rows if row["way"] == STANDARD}
    for row in rows:
        number = {key: float(row[key]) for key in NUMBERS}
        beside = standard.get((row["set"], row["kind"]))
        share = f"{100 * number['patches'] / float(beside['patches']):.0f} %" if beside else ""
        change = f"{number['f1px'] - float(beside['f1px']):+.4f}" if beside else ""
        cells = [row["set"], row["kind"], row["way"], f"{number['patches']:.2f}", share, f"{number['iou']:.4f}"]
        cells += [f"{number['f1px']:.4f}", change, f"{number['improved']:.1f}", f"{number['harmed']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], file: Path) -> None:
    """F@1 and mean IoU against patches per instance: a line for suppression, a star for adaptive."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["set"] for row in rows))
    figure, panels = pyplot.subplots(
        2, len(names), figsize=(3.7 * len(names), 6.4), squeeze=False, layout="constrained"
    )
    for line, (key, title) in zip(panels, {"f1px": "F@1", "iou": "mean IoU"}.items(), strict=True):
        for panel, name in zip(line, names, strict=True):
            here = [row for row in rows if row["set"] == name]
            families: dict[str, list[tuple[float, float]]] = {"suppression": [], "fewer passes": [], "adaptive": []}
            for row in here:
                family = (
                    "adaptive"
                    if "adaptive" in row["way"]
                    else "fewer passes"
                    if "pass" in row["way"]
                    else "suppression"
                )
                families[family].append((row["patches"], row[key]))
            for number, (family, points) in enumerate(families.items()):
                if points:
                    style = {"marker": "os*"[number], "markersize": (7, 6, 13)[number], "color": f"C{number}"}
                    panel.plot(*zip(*sorted(points), strict=True), **style, label=family)
            panel.axhline(here[0][f"coarse_{key}"], color="grey", linestyle=":", linewidth=1, label="coarse masks")
            panel.set_xlabel("patches per instance")
        line[0].set_ylabel(f"{title}, mean over kinds")
    for panel, name in zip(panels[0], names, strict=True):
        panel.set_title(name)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--weights", default="bpr-small")
    parser.add_argument("--every", type=int, default=1, help="every n-th image of each set")
    parser.add_argument("--davis", type=int, default=4, help="every n-th frame of davis before that")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    parser.add_argument("--rounds", type=int, default=0, help="measure processor time, so many times")
    parser.add_argument("--table", type=Path, help="draw this CSV instead of measuring")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.rounds and arguments.data is not None:
        timed(arguments)
        return
    if arguments.table is not None:
        with arguments.table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    elif arguments.data is None:
        parser.error("--data says where the data sets are")
    else:
        rows = measured(arguments)
        with (arguments.work / "patches.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()} for row in rows
            )
    summary = means(rows)
    print(markdown(summary))
    print(markdown([row for row in rows if row["way"] in (STANDARD, "adaptive")]))
    draw(summary, arguments.work / "patches.png")


if __name__ == "__main__":
    main()

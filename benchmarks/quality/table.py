"""The quality table: every data set x every coarse kind, through the real command line.

    python benchmarks/quality/table.py --data DATA --work runs/quality [--sets composed nuclei coco-cc davis]

For each pair: `maskmend degrade`, `maskmend refine`, `maskmend evaluate`; then one Markdown row. Images of the validation
side only (composed scenes are made of it; davis is never trained on and used whole, every fourth image by default).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from composed_scenes import write_scenes

from maskmend.models.training.coarse import KINDS
from maskmend.models.training.splits import is_validation

SETS = ("composed", "nuclei", "coco-cc", "davis")


def maskmend(*arguments: str | Path) -> None:
    """Run the command line; 0 and 3 are both results."""
    command = [sys.executable, "-m", "maskmend.clients.cli", *map(str, arguments)]
    # What it prints is in the files too.
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 3):
        raise SystemExit(f"maskmend {arguments[0]} ended with {done.returncode}")


def ground_truth(name: str, data: Path, work: Path, every: int) -> tuple[Path, Path]:
    """Annotation file and image folder of a validation set, crowds left out."""
    work.mkdir(parents=True, exist_ok=True)
    if name == "composed":
        folder = work / "composed"
        file = folder / "instances.json"
        return file if file.is_file() else write_scenes(data, folder, 40), folder / "images"
    coco = json.loads((data / name / "instances.json").read_text())
    if name == "davis":
        chosen = {image["id"] for image in coco["images"][::every]}
    else:
        chosen = {image["id"] for image in coco["images"] if is_validation(image["id"])}
    coco["images"] = [image for image in coco["images"] if image["id"] in chosen]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in chosen and not a["iscrowd"]]
    file = work / f"{name}-truth.json"
    file.write_text(json.dumps(coco))
    return file, data / name / "images"


def measure(name: str, kind: str, truth: Path, images: Path, work: Path, refine: list[str]) -> dict[str, Any]:
    """Degrade, refine, evaluate; the two columns of `evaluate --json`."""
    coarse, refined, table = (work / f"{name}-{kind}-{part}.json" for part in ("coarse", "refined", "table"))
    if not coarse.is_file():
        maskmend("degrade", truth, "--images", images, "--output", coarse, "--kind", kind, "--seed", "3")
    refined.unlink(missing_ok=True)
    annotations = ["--annotations", str(truth)]
    maskmend("refine", coarse, "--images", images, "--output", refined, *annotations, *refine)
    maskmend("evaluate", "--gt", truth, coarse, refined, "--json", table)
    result: dict[str, Any] = json.loads(table.read_text())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--every", type=int, default=4, help="of davis, every n-th image")
    parser.add_argument("refine", nargs="*", help="options for maskmend refine, after --")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.sets:
        truth, images = ground_truth(name, arguments.data, arguments.work, arguments.every)
        for kind in arguments.kinds:
            result = measure(name, kind, truth, images, arguments.work, arguments.refine)
            before, after = result["files"]
            rows.append({"set": name, "kind": kind, "pairs": result["pairs"], "before": before, "after": after})
    print("| set | kind | pairs | mean IoU | F@1 | F@3 | mBA | boundary AP | improved % | harmed % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        before, after = row["before"], row["after"]
        cells = [f"{before[key]:.4f} → {after[key]:.4f}" for key in ("mean_iou", "f1px", "f3px", "mba", "boundary_ap")]
        cells += [f"{after['improved']:.1f}", f"{after['harmed']:.1f}"]
        print(f"| {row['set']} | {row['kind']} | {row['pairs']} | " + " | ".join(cells) + " |")
    (arguments.work / "table.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

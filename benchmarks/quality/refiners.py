"""All refiners in one table: what they gain on every validation set, and what they cost.

    python benchmarks/quality/refiners.py --compare runs/quality/compare.json [MORE.json] [--rounds 3]

Gains are those that `compare.py` measured with the refiners' own weights. Cost is measured here: the sample job (or --job,
--images) on one thread, each refiner in a process of its own, in turns; processor time, as the median over the rounds. Peak
memory is that of the process less what it held before the weights were loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]


def cost(name: str, job: Path, images: Path) -> dict[str, float]:
    """Refine a job in this process: processor ms and crops per instance, and peak memory in MB."""
    from maskmend.clients import Refiner
    from maskmend.clients.coco import ImageFolder, read_coco
    from maskmend.models.refiner import NetworkRefiner
    from maskmend.patcher import as_rle

    crops, forward = 0, NetworkRefiner.forward

    def counted(self: NetworkRefiner, patches: Any) -> Any:
        nonlocal crops
        crops += len(patches)
        return forward(self, patches)

    NetworkRefiner.forward = counted  # type: ignore[method-assign]

    truth = json.loads((job.parent / "instances.json").read_text())
    folder = ImageFolder(images, {image["id"]: image for image in truth["images"]})
    work: dict[Path, list[Any]] = defaultdict(list)
    for record in read_coco(job).records:
        work[folder.find(record)].append(as_rle(record["segmentation"]).to_coco())
    before = _peak_kb()
    refiner = Refiner(name, threads=1)
    first = next(iter(work))
    refiner.refine(first, work[first][:1])
    start, crops, instances = time.process_time(), 0, 0
    for photograph, masks in work.items():
        instances += len(refiner.refine(photograph, masks).instances)
    spent = time.process_time() - start
    return {
        "ms": 1e3 * spent / instances,
        "crops": crops / instances,
        "peak_mb": (_peak_kb() - before) / 1024,
        "instances": instances,
    }


def _peak_kb() -> int:
    # Not getrusage: its peak includes that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def costs(names: list[str], job: Path, images: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of `cost`, in turns."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--one", name, "--job", str(job), "--images", str(images)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name].append(json.loads(done.stdout))
    return {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def table(means: list[dict[str, Any]], spent: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per refiner with its cost, then one per set and refiner with what it gains."""
    from maskmend.models.registry import REFINERS
    from maskmend.models.zoo import resolve_weights

    lines = [
        "| refiner | weights | parameters | GMAC per crop | crops per instance | ms per instance | peak MB |",
        "| --- " * 7 + "|",
    ]
    for name, kind in REFINERS.items():
        made, row = resolve_weights(kind.weights).manifest, spent[name]
        lines.append(
            f"| {name} | {kind.weights} | {made.parameters:,} | {made.gmac:.2f} | {row['crops']:.1f} | {row['ms']:.0f} "
            f"| {row['peak_mb']:.0f} |"
        )
    lines += [
        "",
        "| set | refiner | mean IoU | F@1 | boundary AP | gap of F@1 closed | improved % | harmed % |",
        "| --- " * 8 + "|",
    ]
    by_set: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in means:
        by_set[row["set"]][row["method"]] = row
    for name, rows in by_set.items():
        before = rows["coarse"]
        for refiner, kind in REFINERS.items():
            if kind.weights not in rows:
                continue
            row = rows[kind.weights]
            cells = [f"{before[key]:.4f} → {row[key]:.4f}" for key in ("mean_iou", "f1px", "boundary_ap")]
            cells += [f"{row['gap']:.3f}", f"{row['improved']:.1f}", f"{row['harmed']:.1f}"]
            lines.append(f"| {name} | {refiner} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, nargs="+", default=[], help="compare.json of compare.py")
    parser.add_argument("--job", type=Path, default=ROOT / "samples" / "coarse.json", help="instances.json beside it")
    parser.add_argument("--images", type=Path, default=ROOT / "samples" / "images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if given.one:
        print(json.dumps(cost(given.one, given.job, given.images)))
        return
    from maskmend.models.registry import REFINERS

    means = [row for file in given.compare for row in json.loads(file.read_text())["means"]]
    print(table(means, costs(list(REFINERS), given.job, given.images, given.rounds)))


if __name__ == "__main__":
    main()

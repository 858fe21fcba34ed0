"""What Mask Transfiner's nodes save against attention over the whole crop.

    python benchmarks/papers/transfiner_cost.py --gt DATA/coco-cc/instances.json --images DATA/coco-cc/images --coarse FILE

Nodes: slots that the shipped network fills, over the instances of a COCO result list, in their crops as the engine makes
them. Cost: multiply-accumulates, seconds and peak memory of one crop, each in a process of its own, for the shipped capacity
and for every cell of every level. Peak memory is that of the process less what it held before the first crop.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskmend.clients.coco import read_coco
from maskmend.models.architectures import load_network
from maskmend.models.export import count_macs
from maskmend.models.instance_network import INPUT
from maskmend.models.transfiner import Transfiner
from maskmend.models.zoo import resolve_weights
from maskmend.patcher import as_rle, extract_patches
from maskmend.patcher.images import load_image
from maskmend.patcher.instance_boxes import instance_boxes

SIDES = (28, 56, 112)
FORMS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "every cell of every level": {"regions": "full", "k": tuple(side * side for side in SIDES)},
}


@torch.no_grad()
def nodes(network: Transfiner, coarse: Path, images: Path, truth: Path, limit: int) -> dict[str, Any]:
    """Filled slots per crop and per instance, by level."""
    names = {image["id"]: image["file_name"] for image in json.loads(truth.read_text())["images"]}
    records = read_coco(coarse).records[:limit]
    per_crop: list[list[int]] = []
    per_instance: list[int] = []
    for record in records:
        image = load_image(images / names[record["image_id"]])
        rle = as_rle(record["segmentation"])
        boxes = instance_boxes(rle, tile=INPUT)
        if not len(boxes):
            continue
        crops = torch.from_numpy(extract_patches(image, rle, boxes, size=INPUT))
        found = [n.valid.sum(1) for part in crops.split(8) for n in network.forward_train(part).nodes]
        counts = [torch.cat(found[level :: len(network.k)]) for level in range(len(network.k))]
        per_crop += torch.stack(counts, 1).tolist()
        per_instance.append(int(sum(count.sum() for count in counts)))
    return {"crops": np.array(per_crop), "instances": np.array(per_instance)}


def _peak_kb() -> int:
    # Not getrusage: its peak includes that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _cost(arguments: dict[str, Any], pipe: Any) -> None:
    torch.set_num_threads(1)
    network = Transfiner(**arguments).eval()
    crop = torch.zeros(1, 4, INPUT, INPUT)
    crop[:, 3] = -1
    crop[:, 3, 60:160, 60:160] = 1
    before = _peak_kb()
    with torch.no_grad():
        began = time.monotonic()
        network(crop)
        first = time.monotonic() - began
        peak = _peak_kb()
        began = time.monotonic()
        network(crop)
        seconds = min(first, time.monotonic() - began)
    pipe.send({"seconds": seconds, "peak_mb": (peak - before) / 1024})


def cost(arguments: dict[str, Any]) -> dict[str, float]:
    """Of one crop, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_cost, args=(arguments, theirs))
    process.start()
    found: dict[str, float] = mine.recv()
    process.join()
    return found


def _macs(arguments: dict[str, Any]) -> float:
    # Shapes alone: the scores of every cell with every other would take gigabytes.
    with torch.device("meta"):
        network = Transfiner(**arguments)
    return count_macs(network, INPUT) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--coarse", type=Path, required=True)
    parser.add_argument("--weights", default="transfiner-small")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--plain", action="store_true", help="leave the costly comparison with every cell out")
    options = parser.parse_args()
    network = load_network(resolve_weights(options.weights))
    assert isinstance(network, Transfiner)
    found = nodes(network, options.coarse, options.images, options.gt, options.limit)
    print("| nodes per crop at | slots | median | mean | p95 | % of the cells |")
    print("| --- | --- | --- | --- | --- | --- |")
    for level, slots in enumerate(network.k):
        counts = found["crops"][:, level]
        middle, high = np.percentile(counts, [50, 95])
        share = 100 * counts.mean() / SIDES[level] ** 2
        print(f"| {SIDES[level]} | {slots} | {middle:.0f} | {counts.mean():.0f} | {high:.0f} | {share:.1f} |")
    total = found["instances"]
    print(f"\n{len(total)} instances, {len(found['crops'])} crops;", end=" ")
    print(f"nodes per instance: median {np.median(total):.0f}, mean {total.mean():.0f}\n")
    print("| | GMAC | seconds | peak MB |\n| --- | --- | --- | --- |")
    rows = []
    for label, changes in list(FORMS.items())[: 1 if options.plain else None]:
        rows.append((_macs(changes), *cost(changes).values()))
        print(f"| {label} | {rows[-1][0]:.2f} | {rows[-1][1]:.3f} | {rows[-1][2]:.0f} |", flush=True)
    if len(rows) > 1:
        print("| ratio | " + " | ".join(f"{b / a:.0f}" for a, b in zip(*rows, strict=True)) + " |")


if __name__ == "__main__":
    main()

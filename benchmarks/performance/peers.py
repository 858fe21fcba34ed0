"""End to end beside others, on the same photographs and masks, by turns: seconds and ratios as JSON.

    python benchmarks/performance/peers.py samples/coarse.json --images samples/images --json peers.json
    python benchmarks/performance/peers.py --wide --json wide.json
    python benchmarks/performance/peers.py samples/coarse.json --images samples/images --cascadepsp 2

Ways: `maskmend` with its defaults; `maskmend, one pass` without second looks and guard, which is the work that the
published pipeline does; `maskmend, torch`, the same as the first on PyTorch eager in fp32; `published`, BPR's pipeline shape
(published_shape.py) with our network, and `published, HRNet`, with BPR's own on random weights; GrabCut and the dense CRF of
benchmarks/quality/baselines.py. What needs a library that is not installed is left out, and said. Reading photographs
and encoding masks is part of every way. CascadePSP's package (cascadepsp.py), which takes seconds for an instance, gets
instances of its own, beside `maskmend` on the same ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cascadepsp
import cv2
import measuring
import published_shape
from scenes import Scene, from_results, synthetic

from maskmend.clients import Refiner
from maskmend.patcher import Rle
from maskmend.patcher.metrics import iou

sys.path.insert(0, str(Path(__file__).parents[1] / "quality"))
import baselines

OURS = "maskmend"
WIDE = (1024, 2048)
Way = Callable[[], list[Rle]]


def ours(scenes: list[Scene], refiner: Refiner) -> list[Rle]:
    """Refine every scene; gives the masks in order."""
    found = [refiner.refine(scene.photograph, [mask.to_coco() for mask in scene.masks]) for scene in scenes]
    return [Rle.from_coco(mask) for result in found for mask in result.rles]


def classical(scenes: list[Scene], name: str) -> list[Rle]:
    """The same by a baseline, each photograph read once, each instance in a crop round it."""
    masks = []
    for scene in scenes:
        image = baselines.read_image(scene.photograph)
        masks += [baselines.refine(image, mask, name)[0] for mask in scene.masks]
    return masks


def ways_of(scenes: list[Scene], folder: Path, threads: int) -> tuple[dict[str, Way], dict[str, str]]:
    """The ways that can be run here, and why the others cannot; `folder` is for the patches of the published shape."""
    first, once = Refiner(threads=threads), Refiner(threads=threads, passes=1, guard=False, arbitrate=False)
    ways: dict[str, Way] = {
        OURS: lambda: ours(scenes, first),
        f"{OURS}, one pass": lambda: ours(scenes, once),
    }
    missing: dict[str, str] = {}
    torch_ways = (f"{OURS}, torch", "published", "published, HRNet")
    if find_spec("torch") and find_spec("safetensors"):
        eager = Refiner(threads=threads, runtime="torch")
        small, hrnet = (published_shape.eager_network(name, threads) for name in ("bpr-small", "hrnet_w18_small"))
        ways[torch_ways[0]] = lambda: ours(scenes, eager)
        ways[torch_ways[1]] = lambda: published_shape.refine(scenes, small, folder)[0]
        ways[torch_ways[2]] = lambda: published_shape.refine(scenes, hrnet, folder)[0]
    else:
        missing |= dict.fromkeys(torch_ways, "PyTorch is not installed (the train extra)")
    for name in ("grabcut", "densecrf"):
        if baselines.available(name):
            ways[name] = lambda name=name: classical(scenes, name)
        else:
            missing[name] = f"{baselines.NEEDS[name]} is not installed (the bench extra)"
    return ways, missing


def compare(scenes: list[Scene], repeats: int, threads: int) -> dict[str, Any]:
    """Time every way by turns.

    Returns:
        JSON-able: `images`, `instances`, `repeats`, `threads`; `ways`: per way `clock_s`, `processor_s`, `runs`,
        `ms_per_instance` of the processors, and for all but `maskmend` `ratio` and `ratio_clock`, times what `maskmend`
        takes, for both published ways also `ratio_to_one_pass`; `missing`: why a way was not timed; `network_share` of the
        default way; `agreement`: the mean IoU of the masks of the published way and of ours with one pass, whose patches are
        the same and whose votes differ in their weights.
    """
    cv2.setNumThreads(1)
    instances = sum(len(scene.masks) for scene in scenes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways, missing = ways_of(scenes, folder, threads)
        times = measuring.by_turns(ways, repeats)
        agreement = _agreement(ways)
    for way, row in times.items():
        row["ms_per_instance"] = 1e3 * row["processor_s"] / instances
        if way != OURS:
            row["ratio"] = measuring.ratio(row, times[OURS])
            row["ratio_clock"] = measuring.ratio(row, times[OURS], "clock_s")
        if "published" in way:
            row["ratio_to_one_pass"] = measuring.ratio(row, times[f"{OURS}, one pass"])
    return {
        "images": len(scenes),
        "instances": instances,
        "repeats": repeats,
        "threads": threads,
        "ways": times,
        "missing": missing,
        "network_share": _network_share(scenes, threads),
        "agreement": agreement,
    }


def _agreement(ways: dict[str, Way]) -> float | None:
    """Mean IoU of what the published way and ours with one pass make of the same masks with the same network."""
    if "published" not in ways:
        return None
    pairs = zip(ways["published"](), ways[f"{OURS}, one pass"](), strict=True)
    found = [iou(a.to_dense(), b.to_dense()) for a, b in pairs]
    return sum(found) / len(found)


def _network_share(scenes: list[Scene], threads: int) -> float:
    """Part of the busy time, by the clock, that the network takes in `maskmend`."""
    refiner = Refiner(threads=threads)
    ours(scenes, refiner)
    refiner.stages.seconds.clear()
    ours(scenes, refiner)
    return refiner.stages.share("network")


def beside_cascadepsp(scenes: list[Scene], instances: int, repeats: int, threads: int) -> dict[str, Any]:
    """Time CascadePSP's package and ours on the largest mask of as many photographs as `instances` says, by turns.

    The package works on the whole photograph whatever the mask; ours takes longest on the largest.

    Returns:
        JSON-able, as `compare`; `network_calls` are those of one round of the package. Two or more would be needed for
        each image; with random weights its local step may find nothing to do, and is left out, which makes it faster
        than it would be.
    """
    chosen = [Scene(scene.photograph, [max(scene.masks, key=lambda mask: mask.area)]) for scene in scenes[:instances]]
    loaded, refiner = cascadepsp.load(threads), Refiner(threads=threads)

    def package() -> None:
        for scene in chosen:
            loaded.refine(baselines.read_image(scene.photograph), scene.masks[0].to_dense())

    ours(chosen, refiner)
    runs: dict[str, list[tuple[float, float]]] = {"segmentation-refinement": [], OURS: []}
    for _ in range(repeats):
        runs["segmentation-refinement"].append(measuring.spent(package))
        runs[OURS].append(measuring.spent(lambda: ours(chosen, refiner)))
    times = {name: measuring.summary(pairs) for name, pairs in runs.items()}
    for row in times.values():
        row["ms_per_instance"] = 1e3 * row["processor_s"] / len(chosen)
    package_row = times["segmentation-refinement"]
    package_row["ratio"] = measuring.ratio(package_row, times[OURS])
    package_row["ratio_clock"] = measuring.ratio(package_row, times[OURS], "clock_s")
    return {
        "images": len(chosen),
        "instances": len(chosen),
        "repeats": repeats,
        "threads": threads,
        "ways": times,
        "network_calls": loaded.calls / repeats,
    }


def print_table(figures: dict[str, Any]) -> None:
    """Print a Markdown table of what `compare` or `beside_cascadepsp` returned."""
    print(f"{figures['instances']} instances on {figures['images']} images, {figures['threads']} threads, medians of")
    print(f"{figures['repeats']} rounds by turns; ratios are times the processor seconds of {OURS} in the same round\n")
    print("| way | s by the clock | processor s | processor ms per instance | ratio | ratio by the clock |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, row in figures["ways"].items():
        ratios = [f"{row[key]:.1f}" if key in row else "1" for key in ("ratio", "ratio_clock")]
        print(
            f"| {name} | {row['clock_s']:.2f} | {row['processor_s']:.2f} | {row['ms_per_instance']:.1f} | "
            + " | ".join(ratios)
            + " |"
        )
    for name, reason in figures.get("missing", {}).items():
        print(f"not measured: {name}: {reason}")
    if figures.get("agreement") is not None:
        print(f"mean IoU of published and {OURS}, one pass: {figures['agreement']:.4f}")
    if "network_calls" in figures:
        print(f"calls of the package's network in a round: {figures['network_calls']:g}")
    if "network_share" in figures:
        print(f"network: {100 * figures['network_share']:.1f} % of the busy time of {OURS}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", help="COCO result list of maskmend degrade")
    parser.add_argument("--images", type=Path, help="folder of its photographs")
    parser.add_argument("--wide", action="store_true", help="instead: ten synthetic objects on 1024x2048 px")
    parser.add_argument("--limit", type=int, help="most instances of each photograph")
    parser.add_argument("--photographs", type=int, help="most photographs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the networks")
    parser.add_argument("--cascadepsp", type=int, metavar="N", help="beside CascadePSP's package alone, N instances")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not given.wide and (given.results is None or given.images is None):
        parser.error("give a result list and --images, or --wide")
    if given.cascadepsp and not cascadepsp.available():
        raise SystemExit("--cascadepsp needs PyTorch and the package; pip install --no-deps segmentation-refinement")
    for name in ("limit", "photographs", "repeats", "threads", "cascadepsp"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            parser.error(f"--{name} is {getattr(given, name)}; use 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        if given.wide:
            sizes = [150.0 + 350 * n / 9 for n in range(10)]
            scenes = [synthetic(Path(folder), *WIDE, sizes)]
        else:
            scenes = from_results(given.results, given.images, given.limit)[: given.photographs]
        if given.cascadepsp:
            figures = beside_cascadepsp(scenes, given.cascadepsp, given.repeats, given.threads)
        else:
            figures = compare(scenes, given.repeats, given.threads)
    print_table(figures)
    measuring.write({"machine": measuring.machine(), **figures}, given.json)


if __name__ == "__main__":
    main()

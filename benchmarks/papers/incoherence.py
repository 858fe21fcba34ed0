"""How much of an object's box is incoherent, and how many nodes the quadtree has (Mask Transfiner).

    python benchmarks/papers/incoherence.py --gt samples/instances.json

Every instance but crowds: its mask in its box, grown by `--expand` about the centre (outwards to whole pixels) and stretched
to a square of twice the finest level: where it shrinks by averaging, where it grows bilinearly, then at one half. `--draw`
scales the polygons in place of the pixels and rasterises them in the square, so that small objects get no staircases;
instances without polygons are then left out. Instances without a pixel always are.

The second table says what a perfect refiner would leave: the map starts as the mask at the coarsest size, every node of the
true maps gets its true value, and the cells of the finest level that are still wrong are counted, all instances together,
against those that were wrong with the start alone, upsampled by nearest neighbour.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from squares import Square, squares

from maskmend.patcher import MaskmendError
from maskmend.patcher.incoherence import Rule, Upsampling, incoherent_maps
from maskmend.patcher.quadtree import propagate, quadtree

PAPER_SHARE = 14.0


class Method(NamedTuple):
    """A rule, and whether all four children of a node are nodes, in place of those that the map marks."""

    label: str
    rule: Rule
    children: bool = False


METHODS = {
    "nearest": Method("Eq. 1", "nearest"),
    "nearest-children": Method("Eq. 1, all children of its cells", "nearest", True),
    "bilinear": Method("bilinear, each level", "bilinear"),
    "sampled": Method("bilinear, sampled from the finest", "sampled"),
}


def twice(cells: NDArray[np.bool_], times: int = 2) -> NDArray[np.bool_]:
    """A map at a multiple of its size, by nearest neighbour."""
    return cells.repeat(times, 0).repeat(times, 1)


def tree_maps(square: Square, method: Method, levels: int) -> list[NDArray[np.bool_]]:
    """The maps that the quadtree is built from, coarse to fine."""
    maps = incoherent_maps(square.mask, levels, rule=method.rule)[::-1]
    if not method.children:
        return maps
    split, wider = maps[0], [maps[0]]
    for cells in maps[1:]:
        wider.append(twice(split))
        split = wider[-1] & cells
    return wider


def measure(found: list[Square], method: Method, levels: int) -> dict[str, Any]:
    """Figures of one method over all instances.

    Returns:
        JSON-able: ``levels`` coarse to fine, each with ``side``, ``share_of_square`` (percent; median and mean over
        instances), ``share_of_box`` (percent, mean) and ``nodes`` (median, mean, p95, max); and ``coverage``: of the
        finest level's incoherent cells, the percentage that lies under incoherent cells of the coarsest, mean over
        instances that have any.
    """
    shares, of_box, counts, covered = [], [], [], []
    for square in found:
        maps = tree_maps(square, method, levels)
        share = [float(cells.mean()) for cells in maps]
        shares.append(share)
        of_box.append([one * square.expansion for one in share])
        counts.append(quadtree(maps).counts)
        if maps[-1].any():
            covered.append(float(twice(maps[0], 2 ** (levels - 1))[maps[-1]].mean()))
    nodes = np.array(counts)
    rows = []
    for level in range(levels):
        here = nodes[:, level]
        rows.append(
            {
                "side": len(found[0].mask) >> (levels - level),
                "share_of_square": {
                    "median": 100 * float(np.median([share[level] for share in shares])),
                    "mean": 100 * float(np.mean([share[level] for share in shares])),
                },
                "share_of_box": 100 * float(np.mean([share[level] for share in of_box])),
                "nodes": {
                    "median": float(np.median(here)),
                    "mean": float(here.mean()),
                    "p95": float(np.percentile(here, 95)),
                    "max": int(here.max()),
                },
            }
        )
    return {"levels": rows, "coverage": 100 * float(np.mean(covered)) if covered else 0.0}


def left_over(found: list[Square], method: Method, levels: int) -> dict[str, float]:
    """Percentage of wrong cells that true values at all nodes leave wrong.

    Returns:
        By ``UPSAMPLING, all`` (nodes of every level) and ``UPSAMPLING, finest`` (those of the finest alone).
    """
    ways: list[tuple[Upsampling, bool]] = [(way, inner) for way in ("nearest", "bilinear") for inner in (True, False)]
    wrong = dict.fromkeys(ways, 0)
    at_first = 0
    for square in found:
        tree = quadtree(tree_maps(square, method, levels))
        true = [square.mask[:: (step := len(square.mask) // side), ::step].astype(np.float32) for side in tree.sides]
        cells = [tree.cells(level) for level in range(levels)]
        values = [mask.reshape(-1)[places] for mask, places in zip(true, cells, strict=True)]
        at_first += int((twice(true[0] > 0, 2 ** (levels - 1)) != (true[-1] > 0)).sum())
        for way, inner in ways:
            reached = propagate(true[0], cells, values, upsampling=way, inner=inner)
            wrong[way, inner] += int(((reached >= 0.5) != (true[-1] > 0)).sum())
    names = {True: "all", False: "finest"}
    return {f"{way}, {names[inner]}": 100 * n / max(at_first, 1) for (way, inner), n in wrong.items()}


def print_table(results: dict[str, dict[str, Any]], factor: float, count: int) -> None:
    """Print what `measure` and `left_over` returned for each method, in Markdown."""
    print(f"{count} instances, box times {factor:g}; paper, Table 1: {PAPER_SHARE:g} % of the box, level not stated\n")
    print("| method | level | % of square: median | mean | % of box | nodes: median | mean | p95 | max | coverage % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, result in results.items():
        for row in result["levels"]:
            last = row is result["levels"][-1]
            coverage = f"{result['coverage']:.0f}" if last else ""
            n, share = row["nodes"], row["share_of_square"]
            cells = [METHODS[name].label, str(row["side"])]
            cells += [f"{value:.1f}" for value in (share["median"], share["mean"], row["share_of_box"])]
            cells += [f"{n[key]:.0f}" for key in ("median", "mean", "p95", "max")]
            print(f"| {' | '.join(cells)} | {coverage} |")
    ways = list(next(iter(results.values()))["left_over"])
    print(f"\n| % still wrong, true values at the nodes | {' | '.join(ways)} |")
    print("| --- |" + " --- |" * len(ways))
    for name, result in results.items():
        print(f"| {METHODS[name].label} | " + " | ".join(f"{result['left_over'][way]:.1f}" for way in ways) + " |")


def main() -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True, help="COCO instances file")
    parser.add_argument("--expand", type=float, default=1.0, help="sides of the square over those of the box, 1 to 4")
    parser.add_argument("--finest", type=int, default=112, help="side of the finest level in cells")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="rasterise polygons in the square")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args()
    if not 1 <= given.expand <= 4:
        parser.error("--expand must be 1 to 4")
    try:
        # A view of one value: its size is judged before there is anything of that size.
        incoherent_maps(np.broadcast_to(np.False_, (2 * max(given.finest, 0),) * 2), given.levels)
        found = list(squares(given.gt, given.expand, 2 * given.finest, given.draw))
    except MaskmendError as error:
        parser.error(str(error))
    if not found:
        parser.error(f"{given.gt.name} holds no instance to measure")
    results = {
        name: {**measure(found, method, given.levels), "left_over": left_over(found, method, given.levels)}
        for name, method in METHODS.items()
    }
    if given.json:
        print(json.dumps({"instances": len(found), "expand": given.expand, "methods": results}, indent=2))
    else:
        print_table(results, given.expand, len(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

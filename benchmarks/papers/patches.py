"""How many patches, and where to put them (BPR, Tables 7 and 4).

    python benchmarks/papers/patches.py --gt samples/instances.json --images samples/images

Coarse masks are made from the true ones as `maskmend degrade` does. The engine runs in one pass and without the guard, so
that what differs is the patches alone. Two tables:

- Overlap: the threshold of non-maximum suppression, from which a patch is dropped. 0 stands for patches that share no pixel
  with a better one; of identical ones there is one anyway. Coverage is of boundary pixels of the coarse mask; the oracle
  answers with the truth in every patch. Seconds are processor time of the engine, an image with all of its instances at a
  time, one thread, without reading files: the same on a busy machine.
- Extraction: the same network and the same masks. Patches chosen by suppression; a fixed grid of 64 px over the instance's
  box, of which the cells with a boundary pixel are kept; the whole instance, in a square with 15 % around it, scaled to the
  64 px that the network judges. Context around it is scaled alike. Larger crops are sampled, not averaged, as all are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cases import Cases, add_options, check, read_cases
from oracles import Boxes, Patches, PatchOracle, lesson, shown, through

from maskmend.models import load_refiner
from maskmend.models.refiner import NetworkRefiner
from maskmend.patcher import MaskmendError, OptionError, Rle, boundary_boxes
from maskmend.patcher.boundary import boundary_pixels
from maskmend.patcher.images import load_image
from maskmend.patcher.instance_boxes import instance_boxes
from maskmend.service import Engine, EngineOptions

THRESHOLDS = (0.0, 0.15, 0.25, 0.35, 0.45, 0.55)
PAPER_PER_IMAGE = {0.25: 135}
"""Cityscapes validation, 1024x2048."""
PATCH = 64
LARGEST = 1024
"""Side in px of the largest square whose context the engine cuts."""
# Below the IoU of two patches that share one pixel.
_NONE = 1e-6


def suppressed(mask: Rle, nms: float) -> Boxes:
    """Boxes of 64 px along the boundary; of `nms` 0 none that overlap."""
    return boundary_boxes(mask, patch=PATCH, nms=nms or _NONE)


def grid(mask: Rle) -> Boxes:
    """Cells of a grid of 64 px that hold a boundary pixel, int32 [N, 4], shifted into the frame.

    The grid begins at the first column and row with a boundary pixel.
    """
    pixels, _ = boundary_pixels(mask)
    if not len(pixels):
        return np.zeros((0, 4), np.int32)
    first = pixels.min(0)
    corners = first + PATCH * np.unique((pixels - first) // PATCH, axis=0)
    corners = np.maximum(np.minimum(corners, (mask.width - PATCH, mask.height - PATCH)), 0)
    # Cells at the far side of a small frame may have become the same.
    corners = np.unique(corners, axis=0)
    return np.hstack([corners, corners + PATCH]).astype(np.int32)


def whole(mask: Rle) -> Boxes:
    """One square round the instance, of 1024 px at most."""
    boxes = instance_boxes(mask, tiled=False)
    sides = boxes[:, 2:] - boxes[:, :2]
    spare = np.maximum(sides - LARGEST, 0)
    return np.hstack([boxes[:, :2] + spare // 2, boxes[:, 2:] - (spare - spare // 2)]).astype(np.int32)


SCHEMES: dict[str, Callable[[Rle], Boxes]] = {
    "dense, suppression at 0.25": lambda mask: suppressed(mask, 0.25),
    "grid of 64 px": grid,
    "whole instance": whole,
}


class SchemeOracle(PatchOracle):
    """The truth in boxes of another choice."""

    def __init__(self, choose: Callable[[Rle], Boxes]) -> None:
        super().__init__()
        self._choose = choose

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """Those of the scheme."""
        return self._choose(mask)


class SchemeRefiner(SchemeOracle):
    """A network with boxes of another choice; its context grows with the box. For one instance at a time."""

    def __init__(self, network: NetworkRefiner, choose: Callable[[Rle], Boxes]) -> None:
        super().__init__(choose)
        self._network = network
        self.patch, self.input_size, self.padding = network.patch, network.input_size, network.padding
        self.provenance = network.provenance
        self.looked: list[int] = []

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """Those of the scheme."""
        found = super().boxes(mask, nms, tiles)
        if len(found):
            self.padding = self._network.padding * int(found[0, 2] - found[0, 0]) // self._network.patch
        self.looked.append(len(found))
        return found

    def forward(self, patches: Patches) -> Patches:
        """See `NetworkRefiner.forward`."""
        return self._network.forward(patches)


def covered(mask: Rle, boxes: Boxes) -> tuple[int, int]:
    """Boundary pixels that lie in a box, and all of them."""
    pixels, _ = boundary_pixels(mask)
    x, y = pixels[:, :1], pixels[:, 1:]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    return int(np.count_nonzero(inside.any(1))), len(pixels)


def timed(network: NetworkRefiner, cases: Cases, nms: float) -> tuple[list[Rle], float]:
    """Every case through the network, image by image, and seconds of processor time per instance."""
    engine = Engine(network, EngineOptions(nms=nms or _NONE, passes=1, guard=False, arbitrate=False))
    refined: list[Rle] = []
    seconds = 0.0
    for path, group in groupby(cases.cases, key=lambda case: case.photograph):
        photograph, masks = load_image(path), [case.coarse for case in group]
        if not refined:
            engine.refine_image(photograph, masks)
        began = time.process_time()
        results = engine.refine_image(photograph, masks)
        seconds += time.process_time() - began
        refined += [result.mask for result in results]
    return refined, seconds / len(refined)


def overlap(network: NetworkRefiner, cases: Cases) -> list[dict[str, Any]]:
    """Rows of the first table, the coarse masks first."""
    rows: list[dict[str, Any]] = []
    refined: dict[str, list[Rle]] = {}
    for nms in THRESHOLDS:
        boxes = [suppressed(case.coarse, nms) for case in cases.cases]
        count = sum(map(len, boxes))
        reached = np.array([covered(case.coarse, each) for case, each in zip(cases.cases, boxes, strict=True)]).sum(0)
        refined[f"oracle {nms}"] = [
            through(PatchOracle(), lesson(case.truth), case.coarse, nms or _NONE) for case in cases.cases
        ]
        refined[f"network {nms}"], seconds = timed(network, cases, nms)
        rows.append(
            {
                "nms": nms,
                "per_instance": count / len(boxes),
                "per_image": count / cases.images,
                "covered": 100 * float(reached[0] / max(reached[1], 1)),
                "seconds": seconds,
            }
        )
    scores = cases.score(refined)
    for row in rows:
        row["oracle_iou"] = scores[f"oracle {row['nms']}"].mean_iou
        row["mean_iou"], row["f1px"] = (getattr(scores[f"network {row['nms']}"], key) for key in ("mean_iou", "f1px"))
    return [{"nms": None, "mean_iou": scores["coarse"].mean_iou, "f1px": scores["coarse"].f1px}, *rows]


def extraction(network: NetworkRefiner, cases: Cases) -> list[dict[str, Any]]:
    """Rows of the second table, the coarse masks first."""
    refined: dict[str, list[Rle]] = {}
    looked: dict[str, float] = {}
    for name, choose in SCHEMES.items():
        oracle, scheme = SchemeOracle(choose), SchemeRefiner(network, choose)
        refined[f"oracle {name}"] = [through(oracle, lesson(case.truth), case.coarse) for case in cases.cases]
        refined[name] = []
        for path, group in groupby(cases.cases, key=lambda case: case.photograph):
            photograph = load_image(path)
            refined[name] += [through(scheme, photograph, case.coarse) for case in group]
        looked[name] = float(np.sum(scheme.looked)) / len(cases.cases)
    scores = cases.score(refined)
    rows = []
    for name in ("coarse", *SCHEMES):
        row = {"scheme": name, "per_instance": looked.get(name)}
        row |= {key: getattr(scores[name], key) for key in ("mean_iou", "f1px", "boundary_ap")}
        oracle_scores = scores.get(f"oracle {name}")
        rows.append({**row, "oracle_iou": oracle_scores.mean_iou if oracle_scores else None})
    return rows


def print_tables(results: dict[str, dict[str, Any]]) -> None:
    """Print both tables for each kind, in Markdown."""
    head = ["kind", "threshold", "patches per instance", "per image", "paper, per image", "boundary covered %"]
    print(f"| {' | '.join([*head, 'oracle IoU', 'mean IoU', 'F@1', 'CPU ms per instance'])} |")
    print("| --- " * 10 + "|")
    for kind, result in results.items():
        for row in result["overlap"]:
            quality = [f"{row['mean_iou']:.4f}", f"{row['f1px']:.4f}"]
            if row["nms"] is None:
                cells = [kind, "coarse", "", "", "", "", "", *quality, ""]
            else:
                paper = PAPER_PER_IMAGE.get(row["nms"])
                cells = [kind, f"{row['nms']:g}", f"{row['per_instance']:.2f}", f"{row['per_image']:.1f}"]
                cells += [f"{paper or ''}", f"{row['covered']:.1f}", f"{row['oracle_iou']:.4f}", *quality]
                cells.append(f"{1e3 * row['seconds']:.1f}")
            print(f"| {' | '.join(cells)} |")
    print("\n| kind | extraction | patches per instance | oracle IoU | mean IoU | F@1 | boundary AP |")
    print("| --- " * 7 + "|")
    for kind, result in results.items():
        for row in result["extraction"]:
            cells = [kind, row["scheme"], shown(row["per_instance"], ".2f"), shown(row["oracle_iou"], ".4f")]
            cells += [f"{row[key]:.4f}" for key in ("mean_iou", "f1px", "boundary_ap")]
            print(f"| {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, kinds=["warp"], limit=14)
    parser.add_argument("--weights", default="bpr-small", help="of a refiner of patches of 64 px: a name or a path")
    given = parser.parse_args(arguments)
    check(parser, given)
    results = {}
    try:
        network = load_refiner("bpr", weights=given.weights, threads=1)
        if network.patch != PATCH:
            raise OptionError(
                f"--weights judge {network.patch} px of a patch; use weights of {PATCH} px", field="weights"
            )
        for kind in given.kinds:
            with tempfile.TemporaryDirectory() as work:
                cases = read_cases(given, kind, Path(work))
                results[kind] = {
                    "instances": len(cases.cases),
                    "overlap": overlap(network, cases),
                    "extraction": extraction(network, cases),
                }
    except MaskmendError as error:
        parser.error(str(error))
    if given.json:
        print(json.dumps(results, indent=1))
    else:
        print_tables(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())

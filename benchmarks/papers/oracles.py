"""What refinement could reach at most: the truth in place of the network (BPR and Mask Transfiner, Table 1 of each).

    python benchmarks/papers/oracles.py --gt samples/instances.json --images samples/images

Coarse masks are made from the true ones as `maskmend degrade` does; the papers had those of detectors, so that gains can be
compared and AP itself cannot. Every record has score 1.

The truth goes the way of a network's answer: masks become boxes, boxes become crops, the refiner answers, the answers are
put together, without the guard and in one pass. The engine refines one instance at a time, on an image that is no
photograph: its red channel is the true mask, its green one says where the truth may be told. An oracle reads both off the
crops that it is given, as a network reads colours, and answers with the coarse mask of the fourth channel elsewhere.

- BPR: patches of 64 px along the boundary. Truth within 1, 2 and 3 px of the coarse mask's edge (Euclidean distance to the
  nearest pixel of the other value), and everywhere in the patches.
- Mask Transfiner: one square crop round the instance, scaled to 224 px. Truth in the incoherent cells of the true mask at
  one level, and everywhere in the crop. A row without any truth says what the scaling alone does.

Then the check of the pipeline: with the truth everywhere in the patches, the mean IoU must be 0.995 or more over the
instances whose coarse edge is within reach, or the command ends with 1. Within reach, read in two ways: every wrong pixel
lies in a patch; every wrong pixel lies within 31 rows and columns of a boundary pixel, which is half a patch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from cases import Case, Cases, add_options, check, read_cases

from maskmend.clients.evaluate import FileScores, rle_iou
from maskmend.patcher import MaskmendError, Rle, boundary_boxes
from maskmend.patcher.boundary import boundary_pixels
from maskmend.patcher.crops import MEAN, STD
from maskmend.patcher.evidence import DEFAULT_CALIBRATION
from maskmend.patcher.guard import distance_to_edge
from maskmend.patcher.incoherence import Rule, incoherent_maps
from maskmend.patcher.instance_boxes import instance_boxes
from maskmend.service import Engine, EngineOptions

PAPER_BPR = {1: 9.4, 2: 14.2, 3: 17.8}
RULES: dict[Rule, str] = {"nearest": "Eq. 1", "bilinear": "bilinear"}
SIDES = (28, 56, 112)
ACCEPTED = 0.995
REACH = 31
PATCHES = "everywhere in the patches"
Patches = NDArray[np.float32]
Boxes = NDArray[np.int32]
Cells = NDArray[np.bool_]
Mark = Callable[[Cells], Cells]


def told(patches: Patches, channel: int) -> Patches:
    """A channel of the image that `lesson` made, 0 to 1, [N, S, S]."""
    return np.clip((patches[:, channel] * STD[channel] + MEAN[channel]) / 255, 0, 1)


def lesson(truth: Rle, where: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """An image uint8 [H, W, 3]: red is the truth, green is `where` it may be told; None for everywhere."""
    image = np.zeros((truth.height, truth.width, 3), np.uint8)
    image[..., 0] = np.where(truth.to_dense(), 255, 0)
    image[..., 1] = 255 if where is None else np.where(where, 255, 0)
    return image


class PatchOracle:
    """Stands in for a refiner of patches: tells the truth where it may."""

    patch, input_size, padding = 64, 64, 0

    def __init__(self) -> None:
        self.provenance: dict[str, str | int | float] = {"weights": "oracle"}
        self.calibration = DEFAULT_CALIBRATION  # of a guard that is off

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """Those of `BprRefiner`."""
        return boundary_boxes(mask, patch=self.patch, nms=nms)

    def forward(self, patches: Patches) -> Patches:
        """Probabilities float32 [N, S, S] of patches [N, 4, S, S]; 0 and 1 where the crop was not scaled."""
        return np.where(told(patches, 1) >= 0.5, told(patches, 0), patches[:, 3] > 0).astype(np.float32)


def incoherent(rule: Rule, side: int) -> Mark:
    """Marks the incoherent cells of the level that has `side` cells."""

    def mark(true: Cells) -> Cells:
        times = len(true) // side
        cells = incoherent_maps(true, len(SIDES), rule=rule)[::-1][SIDES.index(side)]
        return cells.repeat(times, 0).repeat(times, 1)

    return mark


class CropOracle(PatchOracle):
    """Stands in for a refiner of whole instances, one at a time: tells the truth in the marked pixels of the crop.

    Args:
        mark: which pixels those are, bool [S, S], given the true mask in the crop.

    Attributes:
        marked: share of the crop that they cover, within the frame, one entry per crop.
        wrong: pixels of the crops, within the frame, in which the coarse mask is wrong.
        reached: those of them that are marked.
    """

    patch, input_size, padding = 224, 224, 0

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marked: list[float] = []
        self.wrong = self.reached = 0
        self._framed: Cells = np.zeros((0, 0), bool)

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """One square round the instance."""
        found = instance_boxes(mask, tile=self.input_size, nms=nms, tiled=False)
        # What lies outside repeats the image's border, but is no object: it must not be counted.
        (x0, y0, x1, _), steps = found[0], (np.arange(self.input_size) + 0.5) / self.input_size
        x, y = x0 + steps * (x1 - x0), y0 + steps * (x1 - x0)
        self._framed = ((y >= 0) & (y < mask.height))[:, None] & ((x >= 0) & (x < mask.width))
        return found

    def forward(self, patches: Patches) -> Patches:
        """See `PatchOracle.forward`."""
        answers = []
        for truth, coarse in zip(told(patches, 0), patches[:, 3] > 0, strict=True):
            true = truth >= 0.5
            cells = self.mark(true)
            wrong = (true != coarse) & self._framed
            self.marked.append(float(cells[self._framed].mean()))
            self.wrong += int(np.count_nonzero(wrong))
            self.reached += int(np.count_nonzero(wrong & cells))
            answers.append(np.where(cells, truth, coarse))
        return np.stack(answers).astype(np.float32)


MARKS: dict[tuple[str, str], Mark] = {("nowhere", ""): np.zeros_like}
MARKS |= {(label, str(side)): incoherent(rule, side) for rule, label in RULES.items() for side in SIDES}
MARKS["everywhere", ""] = np.ones_like
"""By rule and level."""


def through(oracle: Any, image: NDArray[np.uint8], coarse: Rle, nms: float = 0.25) -> Rle:
    """One instance through the engine, in one pass and without the guard."""
    options = EngineOptions(nms=nms, passes=1, guard=False, arbitrate=False)
    return Engine(oracle, options).refine_image(image, [coarse])[0].mask


def near_edge(case: Case, pixels: int) -> NDArray[np.bool_]:
    """Pixels at most so far from the coarse mask's edge, bool [H, W]."""
    return np.asarray(distance_to_edge(case.coarse.to_dense().astype(np.uint8)) <= pixels)


def replaced(case: Case, pixels: int) -> Rle:
    """The coarse mask with the truth near its edge, without any pipeline: what `through` may reach."""
    near = near_edge(case, pixels)
    return Rle.from_dense(np.where(near, case.truth.to_dense(), case.coarse.to_dense()))


def within_reach(case: Case, nms: float) -> tuple[bool, bool]:
    """Whether every wrong pixel lies in a patch; whether it lies within `REACH` rows and columns of a boundary pixel."""
    wrong = case.truth.to_dense() ^ case.coarse.to_dense()
    far = np.ones(wrong.shape, np.uint8)
    pixels, _ = boundary_pixels(case.coarse)
    far[pixels[:, 1], pixels[:, 0]] = 0
    near = cv2.distanceTransform(far, cv2.DIST_C, 3) <= REACH if len(pixels) else far == 0
    open_to = np.ones_like(wrong)
    for x0, y0, x1, y1 in boundary_boxes(case.coarse, nms=nms):
        open_to[max(y0, 0) : y1, max(x0, 0) : x1] = False
    return not (wrong & open_to).any(), bool(near[wrong].all())


def gains(scores: dict[str, FileScores]) -> dict[str, dict[str, float | None]]:
    """AP in points and mean IoU, with the gain over the coarse masks; None where there is no object of a size."""
    found: dict[str, dict[str, float | None]] = {}
    for name, score in scores.items():
        found[name] = {"mean_iou": score.mean_iou}
        for key in ("ap", "ap_small", "ap_medium", "ap_large"):
            after, before = getattr(score, key), getattr(scores["coarse"], key)
            found[name][key] = 100 * after if after >= 0 else None
            found[name][f"{key}_gain"] = 100 * (after - before) if after >= 0 else None
    return found


def measure(cases: Cases, nms: float) -> dict[str, Any]:
    """All figures of one kind of coarse masks, JSON-able: `instances`, `bpr`, `transfiner`, `check`."""
    refined: dict[str, list[Rle]] = {}
    for far in PAPER_BPR:
        refined[f"{far} px"] = [
            through(PatchOracle(), lesson(case.truth, near_edge(case, far)), case.coarse, nms) for case in cases.cases
        ]
        refined[f"{far} px, no patches"] = [replaced(case, far) for case in cases.cases]
    refined[PATCHES] = [through(PatchOracle(), lesson(case.truth), case.coarse, nms) for case in cases.cases]
    oracles = {key: CropOracle(mark) for key, mark in MARKS.items()}
    for key, oracle in oracles.items():
        refined[" ".join(key)] = [through(oracle, lesson(case.truth), case.coarse) for case in cases.cases]
    scores = gains(cases.score(refined))
    told_in = ["coarse", *(f"{pixels} px" for pixels in PAPER_BPR), PATCHES]
    return {
        "instances": len(cases.cases),
        "bpr": [{"told": n, **scores[n], "plain": scores.get(f"{n}, no patches", {}).get("ap_gain")} for n in told_in],
        "transfiner": [
            {
                "rule": key[0],
                "level": key[1],
                "marked": 100 * float(np.mean(oracle.marked)),
                "reached": 100 * oracle.reached / max(oracle.wrong, 1),
                **scores[" ".join(key)],
            }
            for key, oracle in oracles.items()
        ],
        "check": acceptance(cases.cases, refined[PATCHES], nms),
    }


def acceptance(cases: list[Case], refined: list[Rle], nms: float) -> dict[str, dict[str, float | None]]:
    """Number, mean and least IoU of the instances within reach, by what that means."""
    reach = np.array([within_reach(case, nms) for case in cases])
    fit = np.array([rle_iou(case.truth, mask) for case, mask in zip(cases, refined, strict=True)])
    found: dict[str, dict[str, float | None]] = {}
    for column, meaning in enumerate(("every wrong pixel in a patch", f"every wrong pixel within {REACH} px")):
        here = fit[reach[:, column]]
        mean, least = (float(here.mean()), float(here.min())) if len(here) else (None, None)
        found[meaning] = {"instances": len(here), "mean_iou": mean, "least_iou": least}
    return found


def shown(value: float | None, form: str) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else format(value, form)


def print_tables(results: dict[str, dict[str, Any]]) -> None:
    """Print what `measure` returned for each kind, in Markdown."""
    sizes = ("ap_small_gain", "ap_medium_gain", "ap_large_gain")
    print("| kind | truth told | AP | gain | paper's gain | gain, no patches | small | medium | large | mean IoU |")
    print("| --- " * 10 + "|")
    for kind, result in results.items():
        for row in result["bpr"]:
            first = row["told"] == "coarse"
            paper = next((gain for pixels, gain in PAPER_BPR.items() if row["told"] == f"{pixels} px"), None)
            cells = [kind, "none" if first else row["told"], shown(row["ap"], ".1f")]
            cells += [shown(value, "+.1f") for value in (None if first else row["ap_gain"], paper, row["plain"])]
            cells += ["" if first else shown(row[size], "+.1f") for size in sizes]
            print(f"| {' | '.join(cells)} | {row['mean_iou']:.4f} |")
    print("\n| kind | truth told | level | % of the crop | % of the wrong pixels | AP | gain | mean IoU |")
    print("| --- " * 8 + "|")
    for kind, result in results.items():
        for row in result["transfiner"]:
            cells = [kind, row["rule"], row["level"], f"{row['marked']:.1f}", f"{row['reached']:.1f}"]
            cells += [shown(row["ap"], ".1f"), shown(row["ap_gain"], "+.1f"), f"{row['mean_iou']:.4f}"]
            print(f"| {' | '.join(cells)} |")
    print("\n| kind | within reach | instances | of | mean IoU | least |")
    print("| --- " * 6 + "|")
    for kind, result in results.items():
        for meaning, row in result["check"].items():
            cells = [kind, meaning, str(row["instances"]), str(result["instances"])]
            print(f"| {' | '.join(cells)} | {shown(row['mean_iou'], '.4f')} | {shown(row['least_iou'], '.4f')} |")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, kinds=["rcnn28", "polygon", "warp"], limit=14)
    parser.add_argument("--nms", type=float, default=0.25, help="overlap of patches")
    given = parser.parse_args(arguments)
    check(parser, given)
    results = {}
    try:
        EngineOptions(nms=given.nms)
        for kind in given.kinds:
            with tempfile.TemporaryDirectory() as work:
                results[kind] = measure(read_cases(given, kind, Path(work)), given.nms)
    except MaskmendError as error:
        parser.error(str(error))
    if given.json:
        print(json.dumps(results, indent=1))
    else:
        print_tables(results)
    means = [row["mean_iou"] for result in results.values() for row in result["check"].values()]
    # Where nothing is within reach nothing was checked.
    return int(not all(mean is not None and mean >= ACCEPTED for mean in means))


if __name__ == "__main__":
    sys.exit(main())

"""How far the boundary region of a convolution is from that of a distance (RefineMask, Table 12).

    python benchmarks/papers/boundary_regions.py --gt samples/instances.json

Every instance but crowds, its mask in its own box, stretched to a square of 28, 56 and 112 cells as `incoherence.py` does.
The paper defines the boundary region by the distance to the mask's contour and computes it by a convolution; its table
says how well the two agree. It leaves open what the contour is, how wide the region, and what lies outside the square, so
every reading is printed, and the one whose three figures are nearest to the paper's.

Distances are from centre to centre of cells, in cells:

- other value: to the nearest cell of the other value, Euclidean. By the larger of the two differences (Chebyshev) this is
  what the convolution computes, and is printed as a check.
- contour cells: to the nearest cell of the mask that has a 4-neighbour outside it, Euclidean or Chebyshev.
- edge: from the centre of a cell to the line between cells of different values, Euclidean.

Convolution: a kernel of (2w + 1)^2 with (2w + 1)^2 - 1 in its centre and -1 elsewhere, on the mask and on its complement; a
response above 0 (paper), or above a tenth of the kernel's area (official code).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from squares import squares

from maskmend.patcher import MaskmendError

SIDES = (28, 56, 112)
PAPER = (0.76, 0.75, 0.80)
WIDTHS = (1, 2)
SHARES = {"> 0": 0.0, "> 0.1 of the area": 0.1}
FRAMES = {"neither": "counts as neither", "background": "is background"}
DISTANCES = {
    "other, Chebyshev": "other value, Chebyshev",
    "other, Euclidean": "other value, Euclidean",
    "contour, Chebyshev": "contour cells, Chebyshev",
    "contour, Euclidean": "contour cells, Euclidean",
    "edge, Euclidean": "edge, Euclidean",
}
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
Cells = NDArray[np.bool_]


class Reading(NamedTuple):
    """One way to understand the paper; keys of the tables above."""

    distance: str
    share: str
    width: int
    frame: str


def framed(mask: Cells, width: int, frame: str) -> NDArray[np.uint8]:
    """A map with what lies around it as far as a region can see: background, or nothing."""
    room = width + 1 if frame == "background" else 0
    return np.pad(mask, room).astype(np.uint8)


def unframed(cells: Cells, mask: Cells) -> Cells:
    """The part of a map that `framed` did not add."""
    room = (len(cells) - len(mask)) // 2
    return cells[room : room + len(mask), room : room + len(mask)]


def exact_region(mask: Cells, width: int, distance: str, frame: str) -> Cells:
    """Cells whose distance to the contour is at most `width`.

    Args:
        mask: bool [s, s].
        width: in cells.
        distance: a key of `DISTANCES`.
        frame: a key of `FRAMES`.

    Returns:
        bool [s, s].
    """
    kind, metric = distance.split(", ")
    pixels = framed(mask, width, frame)
    steps = np.abs(np.arange(-width - 1, width + 2, dtype=np.float64))
    if kind == "edge":
        # From the centre of a cell to the border of another: half a cell less along each axis.
        steps = np.maximum(steps - 0.5, 0)
    length = np.hypot(steps[:, None], steps) if metric == "Euclidean" else np.maximum(steps[:, None], steps)
    within = (length <= width).astype(np.uint8)
    if kind == "contour":
        contour = pixels & cv2.dilate(1 - pixels, _CROSS)
        near = cv2.dilate(contour, within)
    else:
        near = np.where(pixels, cv2.dilate(1 - pixels, within), cv2.dilate(pixels, within))
    return unframed(np.asarray(near != 0), mask)


def convolution_region(mask: Cells, width: int, *, share: float = 0.0, frame: str = "neither") -> Cells:
    """Cells where the convolution of the mask, or of its complement, responds.

    The response is the number of cells of the other value under the kernel. Where part of the kernel lies outside the map
    and that counts as neither, it is compared with the share of the part that lies within.

    Args:
        mask: bool [s, s].
        width: in cells.
        share: of the kernel's area that the response must be above.
        frame: a key of `FRAMES`.

    Returns:
        bool [s, s].
    """
    pixels = framed(mask, width, frame)
    side = (2 * width + 1, 2 * width + 1)

    def total(values: NDArray[np.uint8]) -> NDArray[np.int32]:
        summed = cv2.boxFilter(values, cv2.CV_32S, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(summed, np.int32)

    seen = total(np.ones_like(pixels))
    inside = total(pixels)
    others = np.where(pixels, seen - inside, inside)
    return unframed(np.asarray(others > share * seen), mask)


def agreement(one: Cells, other: Cells) -> tuple[int, int]:
    """Cells that two regions share, and cells of either."""
    return int(np.count_nonzero(one & other)), int(np.count_nonzero(one | other))


def readings() -> Iterator[Reading]:
    """All of them, in the order of the table."""
    for width in WIDTHS:
        for frame in FRAMES:
            for distance in DISTANCES:
                for share in SHARES:
                    yield Reading(distance, share, width, frame)


def measure(gt: Path, draw: bool) -> tuple[dict[Reading, dict[str, list[float]]], int]:
    """IoU of the exact region and the convolution's.

    Returns:
        By reading: `mean` over the instances that have either region, and `pooled` (all cells of all instances), for each
        of `SIDES`. And the number of instances.
    """
    found: dict[Reading, dict[str, list[float]]] = {reading: {"mean": [], "pooled": []} for reading in readings()}
    count = 0
    for side in SIDES:
        masks = [square.mask for square in squares(gt, 1.0, side, draw)]
        count = len(masks)
        for reading, values in found.items():
            pairs = [
                agreement(
                    exact_region(mask, reading.width, reading.distance, reading.frame),
                    convolution_region(mask, reading.width, share=SHARES[reading.share], frame=reading.frame),
                )
                for mask in masks
            ]
            shared, joined = np.array([pair for pair in pairs if pair[1]] or [(0, 1)]).T
            values["mean"].append(float(np.mean(shared / joined)))
            values["pooled"].append(float(shared.sum() / joined.sum()))
    return found, count


def nearest(found: dict[Reading, dict[str, list[float]]]) -> list[tuple[float, Reading, str]]:
    """Mean difference from the paper's three figures, with reading and way of averaging, nearest first."""
    ranked = [
        (float(np.mean(np.abs(np.array(figures) - PAPER))), reading, way)
        for reading, values in found.items()
        for way, figures in values.items()
    ]
    return sorted(ranked, key=lambda entry: entry[0])


def print_table(found: dict[Reading, dict[str, list[float]]], count: int) -> None:
    """Print what `measure` returned, in Markdown."""
    shown = [f"{label} at {side}" for label in SHARES for side in SIDES]
    print(f"{count} instances, IoU as mean over them; paper, Table 12: 0.76, 0.75, 0.80 at 28, 56, 112\n")
    print(f"| width | outside | distance to the contour | {' | '.join(shown)} |")
    print("| --- " * (3 + len(shown)) + "|")
    for width in WIDTHS:
        for frame, meaning in FRAMES.items():
            for distance, label in DISTANCES.items():
                rows = [found[Reading(distance, share, width, frame)]["mean"] for share in SHARES]
                cells = [f"{value:.2f}" for row in rows for value in row]
                print(f"| {width} | {meaning} | {label} | {' | '.join(cells)} |")
    print("\n| nearest to the paper | width | outside | averaged | 28 | 56 | 112 | mean difference |")
    print("| --- " * 8 + "|")
    print(f"| paper | not stated | not stated | not stated | {' | '.join(f'{value:.2f}' for value in PAPER)} | |")
    for difference, reading, way in nearest(found)[:5]:
        figures = " | ".join(f"{value:.2f}" for value in found[reading][way])
        label = f"{DISTANCES[reading.distance]} against {reading.share}"
        ways = {"mean": "over instances", "pooled": "over cells"}
        print(f"| {label} | {reading.width} | {FRAMES[reading.frame]} | {ways[way]} | {figures} | {difference:.3f} |")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True, help="COCO instances file")
    parser.add_argument("--draw", action="store_true", help="rasterise polygons in the square")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    given = parser.parse_args(arguments)
    try:
        found, count = measure(given.gt, given.draw)
    except MaskmendError as error:
        parser.error(str(error))
    if not count:
        parser.error(f"{given.gt.name} holds no instance to measure")
    if given.json:
        rows = [{**reading._asdict(), **values} for reading, values in found.items()]
        print(json.dumps({"instances": count, "sides": SIDES, "paper": PAPER, "readings": rows}, indent=1))
    else:
        print_table(found, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""No harm: keeps the coarse mask where a refinement is unsure, goes too far, or leaves nothing.

Three means, from fine to coarse. `hold` lets a pixel change only when the patches are clearly for it. `guard` undoes
changes far from the coarse boundary, and drops fragments apart from the object. And it gives the whole instance back
when the refinement is not credible, or so slight that it is within the refiner's own error: that is what protects masks
that are already right, where a refiner has nothing to add but its noise, a fraction of a pixel along the whole edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.rle import Rle

HOLD = 0.2
"""Default of `hold`: a pixel changes when its mean probability is beyond 0.5 by more than this."""
REACH = 16
"""Farthest that an edge may move, in px."""
LEAST_IOU = 0.5
"""Least IoU of refined and coarse mask for a refinement to be believed."""

LEAST_SHIFT = (0.2, 10.0)
"""Least mean shift of the edge for a refinement to be more than the refiner's own error: so many px times certainty, and so
many px more over the square root of the object's area. A small object loses more by the same slip, and has fewer
patches to tell by. Chosen on validation data; docs/benchmarks.md has the curve."""

SURE = 0.8
"""Certainty from which a slighter shift is believed too."""
SURE_SHIFT = (0.2, 0.4)
"""Mean shifts, in px, that are believed when they are this certain. More than that on a small object is rather another idea
of where its edge lies (a halo, a neighbour) than a correction."""

EMPTY = "the refined mask is empty"
TOO_FAR = "the refined mask shares less than half of its area with the coarse mask"
ALREADY_RIGHT = "the coarse mask is already right as far as the refiner can tell"


@dataclass(frozen=True, slots=True)
class GuardResult:
    """What the guard lets through.

    Attributes:
        mask: the refined mask, or the coarse one where the guard abstained.
        confidence: 0 to 1, mean certainty |2p - 1| of the patches where the edge could run.
        abstained: why the coarse mask was kept whole; None when it was not.
    """

    mask: Rle
    confidence: float
    abstained: str | None


def hold(
    probabilities: NDArray[np.float32], coarse: NDArray[np.float32], strength: float = HOLD
) -> NDArray[np.float32]:
    """Move probabilities towards the coarse mask, so that only a clear vote changes a pixel.

    Adding `strength` times the coarse value to every patch moves the mean of overlapping patches by just as much: a
    background pixel becomes foreground above 0.5 + strength, a foreground pixel is given up below 0.5 - strength.

    Args:
        probabilities: float32 [N, P, P], foreground.
        coarse: float32 [N, P, P], -1 background, +1 foreground.
        strength: 0 (off) to 0.5 (nothing ever changes).

    Returns:
        float32 [N, P, P] in 0..1.
    """
    # Shrunk about one half so that the result stays within 0..1; the side of one half that a mean falls on is the same.
    moved = (probabilities - np.float32(0.5) + np.float32(strength) * coarse) / np.float32(1 + 2 * strength)
    return np.asarray(np.clip(moved + np.float32(0.5), 0.0, 1.0), np.float32)


def guard(
    coarse: Rle,
    refined: Rle,
    probabilities: NDArray[np.float32],
    coarse_patches: NDArray[np.float32],
    *,
    reach: int = REACH,
    least_iou: float = LEAST_IOU,
    least_shift: float | None = None,
) -> GuardResult:
    """Check one refined instance against its coarse mask.

    Args:
        coarse: the mask as it came.
        refined: the mask after reassembly.
        probabilities: float32 [N, P, P], foreground, of the instance's patches, before `hold`.
        coarse_patches: float32 [N, P, P], -1 background, +1 foreground.
        reach: changes farther than this from the coarse boundary are undone, in px.
        least_iou: below this IoU of refined and coarse mask the coarse one is kept.
        least_shift: when the edge moves by less than this on average, the coarse mask is kept. Counted in px, changed
            pixels over the length of the coarse edge, times how sure the patches are of the changes. By default what
            `LEAST_SHIFT` gives for the mask's area, and slight shifts that are very sure (`SURE`, `SURE_SHIFT`) pass too.
    """
    confidence = edge_confidence(probabilities)
    if refined.area == 0:
        return GuardResult(coarse, confidence, EMPTY)
    x0, y0, x1, y1 = _joint_box(coarse, refined)
    before, after = coarse.crop(x0, y0, x1, y1), refined.crop(x0, y0, x1, y1)
    kept = np.where((before != after) & (_distance_to_edge(before) > reach), before, after)
    kept = _without_fragments(kept, before)
    if not np.array_equal(kept, after):
        after = kept
        refined = from_crop(after, coarse.height, coarse.width, x0, y0)
    shared, joined = int(np.count_nonzero(before & after)), int(np.count_nonzero(before | after))
    if shared < least_iou * joined:
        return GuardResult(coarse, confidence, EMPTY if not after.any() else TOO_FAR)
    shift = np.count_nonzero(before != after) / max(_edge_length(before), 1)
    certainty = change_certainty(probabilities, coarse_patches)
    if least_shift is None:
        slight_but_sure = certainty > SURE and SURE_SHIFT[0] < shift < SURE_SHIFT[1]
        least_shift = 0.0 if slight_but_sure else LEAST_SHIFT[0] + LEAST_SHIFT[1] / max(coarse.area, 1) ** 0.5
    if shift * certainty < least_shift or not shift:
        return GuardResult(coarse, confidence, ALREADY_RIGHT)
    return GuardResult(refined, confidence, None)


def edge_confidence(probabilities: NDArray[np.float32]) -> float:
    """Mean of |2p - 1| over the pixels where the patches see a possible edge (p from 0.02 to 0.98); 1 if nowhere."""
    open_to_doubt = probabilities[(probabilities > 0.02) & (probabilities < 0.98)]
    if not open_to_doubt.size:
        return 1.0
    return float(np.abs(2 * open_to_doubt.astype(np.float64) - 1).mean())


def change_certainty(probabilities: NDArray[np.float32], coarse: NDArray[np.float32]) -> float:
    """Mean of 2q - 1 over the patch pixels that `hold` lets change, q being the probability of the change; 0 if none."""
    changed = (hold(probabilities, coarse) > 0.5) != (coarse > 0)
    if not changed.any():
        return 0.0
    side = np.where(coarse > 0, 1.0, -1.0)[changed]
    return float(np.mean(side * (1 - 2 * probabilities[changed].astype(np.float64))))


def from_crop(crop: NDArray[np.uint8], height: int, width: int, x0: int, y0: int) -> Rle:
    """A mask whose foreground is that of a crop at (x0, y0), uint8 [h, w] inside the frame."""
    columns, rows = np.nonzero(crop.T)
    places = (columns + x0) * height + rows + y0
    starts = np.concatenate([[True], places[1:] != places[:-1] + 1]) if places.size else np.zeros(0, bool)
    first = places[starts]
    last = places[np.concatenate([starts[1:], [True]])] if places.size else first
    edges = np.stack([first, last + 1], 1).ravel()
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    return Rle(height, width, (runs if runs[-1] else runs[:-1]).astype(np.uint32))


def _without_fragments(mask: NDArray[np.uint8], coarse: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask less its connected parts (8-neighbours) that share no pixel with the coarse mask."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if count <= 2:
        return mask
    old = np.zeros(count, bool)
    old[np.unique(labels[coarse > 0])] = True
    old[0] = False
    return np.asarray(old[labels], np.uint8)


def _edge_length(mask: NDArray[np.uint8]) -> int:
    """Background pixels next to the mask: the length of its edge in px."""
    return int(np.count_nonzero(cv2.dilate(mask, np.ones((3, 3), np.uint8)) != mask))


def _distance_to_edge(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distance in px of each pixel to the nearest pixel of the other value."""
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.maximum(outside, inside), np.float32)


def _joint_box(a: Rle, b: Rle) -> tuple[int, int, int, int]:
    """Box (x0, y0, x1, y1) around both, with a margin of one pixel inside the frame."""
    ax, ay, aw, ah = a.bbox
    bx, by, bw, bh = b.bbox
    x0, y0 = max(min(ax, bx) - 1, 0), max(min(ay, by) - 1, 0)
    return x0, y0, min(max(ax + aw, bx + bw) + 1, a.width), min(max(ay + ah, by + bh) + 1, a.height)

"""No harm: keeps the coarse mask where a refinement is unsure, goes too far, breaks the mask up, or leaves nothing.

From fine to coarse: `hold` lets a pixel change only when the patches are clearly for it. `guard` undoes changes far from
the coarse edge, keeps the mask in one piece (`topology`), undoes connected changes for which the evidence is thin, and
gives the whole instance back when what is left is not credible, or so slight that it is within the refiner's own error.
That last is what protects masks that are already right, where a refiner has nothing to add but its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _bits, _blend, _near
from maskmend.patcher.changes import Regions, measure_changes
from maskmend.patcher.columns import Columns
from maskmend.patcher.defaults import CAUTION, HOLD, LEAST_IOU, REACH
from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import DEFAULT_CALIBRATION, Calibration, Evidence
from maskmend.patcher.field import field_at
from maskmend.patcher.rle import Rle
from maskmend.patcher.topology import tidy

EMPTY = "the refined mask is empty"
TOO_FAR = "the refined mask shares less than half of its area with the coarse mask"
ALREADY_RIGHT = "the coarse mask is already right as far as the refiner can tell"

Votes = Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]
"""Of each pass: boxes int32 [N, 4] and foreground probabilities float32 [N, P, P], before `hold`."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How strict the guard is.

    Attributes:
        caution: 0 to 1. Changes, and whole instances, are given back when the estimated chance that they are an
            improvement is less; 0 gives back none for that reason.
        reach: changes farther than this from the coarse edge are undone, 0 to 1024 px.
        topology: keep the mask in one piece; see `tidy`.
        calibration: of the weights that refined.

    Raises:
        OptionError: `caution` or `reach` is out of range.
    """

    caution: float = CAUTION
    reach: int = REACH
    topology: bool = True
    calibration: Calibration = DEFAULT_CALIBRATION

    def __post_init__(self) -> None:
        if not 0 <= self.caution <= 1:
            raise OptionError(f"caution is {self.caution}; use 0 to 1", field="caution")
        if not 0 <= self.reach <= 1024:
            raise OptionError(f"reach is {self.reach}; use 0 to 1024 px", field="reach")


@dataclass(frozen=True, slots=True)
class GuardResult:
    """What the guard lets through.

    Attributes:
        mask: the refined mask, or the coarse one where the guard abstained.
        confidence: 0 to 1, mean certainty |2p - 1| of the patches where the edge could run.
        score: 0 to 1, estimated chance that the refined mask is better than the coarse one; 1 when nothing changed.
        abstained: why the coarse mask was kept whole; None when it was not.
        undone: pixels of single changes that were undone, by reason: `reach`, `topology`, `evidence`.
    """

    mask: Rle
    confidence: float
    score: float
    abstained: str | None
    undone: dict[str, int] = field(default_factory=dict)


def hold(
    probabilities: NDArray[np.float32], coarse: NDArray[np.float32], strength: float | NDArray[np.float32] = HOLD
) -> NDArray[np.float32]:
    """Move probabilities towards the coarse mask, so that only a clear vote changes a pixel.

    Adding `strength` times the coarse value to every patch moves the mean of overlapping patches by just as much: a
    background pixel becomes foreground above 0.5 + strength, a foreground pixel is given up below 0.5 - strength.

    Args:
        probabilities: float32 [N, P, P], foreground.
        coarse: float32 [N, P, P], -1 background, +1 foreground.
        strength: 0 (off) to 0.5 (nothing ever changes); of all patches, or of each, float32 [N, 1, 1].

    Returns:
        float32 [N, P, P] in 0..1.
    """
    # Shrunk about one half so that the result stays within 0..1; the side of one half that a mean falls on is the same.
    held = np.empty(probabilities.shape, np.float32)
    # Compiled loops are several times as fast over pixels without gaps, so a copy of a view pays.
    sides = np.ascontiguousarray(coarse, np.float32)
    each = np.broadcast_to(np.asarray(strength, np.float64).reshape(-1), len(probabilities))
    _blend.hold(probabilities, sides, each.astype(np.float32), (1 + 2 * each).astype(np.float32), held)
    return held


def guard(
    image: NDArray[np.uint8],
    coarse: Rle,
    refined: Rle,
    votes: Votes,
    options: GuardOptions | None = None,
) -> GuardResult:
    """Check one refined instance against its coarse mask.

    Args:
        image: uint8 [H, W, 3], RGB.
        coarse: the mask as it came.
        refined: the mask after the last pass.
        votes: what the patches said, pass by pass; a later pass replaces an earlier one where it looked again.
        options: how strict to be; the defaults when not given.
    """
    options = options or GuardOptions()
    confidence = edge_confidence(votes)
    if refined == coarse:
        return GuardResult(coarse, confidence, 1.0, ALREADY_RIGHT)
    seen = examine(image, coarse, refined, votes, options)
    believed = seen.evidence.without_doubtful(options.caution, options.calibration)
    undone = {**seen.undone, "evidence": int(_bits.count(believed.bits ^ seen.evidence.after.bits))}
    undone = {reason: count for reason, count in undone.items() if count}
    score = seen.evidence.chance(believed, options.calibration)
    reason = _incredible(seen.evidence.before, believed)
    if reason is None and score < options.caution:
        reason = ALREADY_RIGHT
    if reason is not None:
        return GuardResult(coarse, confidence, score, reason, undone)
    x0, y0, _, _ = seen.region
    mask = believed.to_rle(coarse.height, coarse.width, x0, y0) if undone else refined
    return GuardResult(mask, confidence, score, None, undone)


@dataclass(frozen=True, slots=True)
class Examination:
    """What the guard judges by.

    Attributes:
        region: (x0, y0, x1, y1) in px of the image, that the evidence is about.
        evidence: for the changes left after the distance and the topology of them were checked.
        undone: pixels of changes that did not pass these two checks.
    """

    region: tuple[int, int, int, int]
    evidence: Evidence
    undone: dict[str, int]


def examine(image: NDArray[np.uint8], coarse: Rle, refined: Rle, votes: Votes, options: GuardOptions) -> Examination:
    """Undo what goes too far or breaks the mask up, and gather the evidence for the rest. Arguments as of `guard`."""
    region = _region(coarse, options.reach)
    before, near = Columns.of(coarse, region), Columns.of(refined, region)
    inside = int(_bits.count(before.bits ^ near.bits))
    far = (
        changed_pixels(coarse, refined)
        - inside
        + int(_near.drop_far(near.bits, before.bits, near.height, options.reach))
    )
    after = tidy(near, before) if options.topology else near
    undone = {"reach": far, "topology": int(_bits.count(after.bits ^ near.bits))}
    x0, y0, _, _ = region
    regions = Regions.of(Columns(before.bits ^ after.bits, before.height))
    said = field_at(votes, regions.starts, regions.columns, x0, y0)
    changes = measure_changes(before, after, regions, said, np.ascontiguousarray(image), x0, y0)
    return Examination(region, Evidence(before, after, changes, before.edge_length()), undone)


def edge_confidence(votes: Votes) -> float:
    """Mean of |2p - 1| over the pixels where the patches see a possible edge (p from 0.02 to 0.98); 1 if nowhere."""
    count, total = 0, 0.0
    for _, probabilities in votes:
        values = probabilities.ravel()
        found = int(_near.uncertain(values))
        count += found
        total += float(_near.certainties(values, found).sum())
    return total / count if count else 1.0


def edge_length(mask: NDArray[np.uint8]) -> int:
    """Background pixels next to a mask, uint8 [h, w] of 0 and 1: the length of its edge in px."""
    return Columns.of_dense(mask).edge_length()


def distance_to_edge(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distance in px, [H, W], of each pixel of a mask [H, W] to the nearest pixel of the other value."""
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.maximum(outside, inside), np.float32)


def changed_pixels(a: Rle, b: Rle) -> int:
    """Pixels in which two masks of one size differ, counted on their runs."""
    if a is b:
        return 0
    return int(_near.differing(a.counts, b.counts))


def _incredible(before: Columns, after: Columns) -> str | None:
    """Why a refined mask is not believed at all, if so."""
    if not after.bits.any():
        return EMPTY
    shared, joined = _bits.overlap(before.bits, after.bits)
    if shared < LEAST_IOU * joined:
        return TOO_FAR
    return ALREADY_RIGHT if shared == joined else None


def _region(coarse: Rle, reach: int) -> tuple[int, int, int, int]:
    """Box (x0, y0, x1, y1) within the frame around all that a refinement may change, and a pixel more."""
    x, y, w, h = coarse.bbox
    room = reach + 1
    return max(x - room, 0), max(y - room, 0), min(x + w + room, coarse.width), min(y + h + room, coarse.height)

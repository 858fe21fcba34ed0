"""The in-process pipeline: one image and its coarse masks in, refined masks out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle, boundary_boxes, extract_patches, reassemble
from maskmend.patcher.arbitrate import arbitrate
from maskmend.patcher.defaults import CAUTION, HOLD, REACH
from maskmend.patcher.errors import ImageError, MaskError, OptionError
from maskmend.patcher.field import fade
from maskmend.patcher.guard import GuardOptions, GuardResult, changed_pixels, edge_confidence, guard, hold
from maskmend.service.stages import StageTimes

EMPTY_MASK = "the coarse mask is empty"
FULL_MASK = "the coarse mask fills the image"
GROUP = 256
"""Patches held at once, at most, unless a single instance has more."""
AGAIN = 1.0
"""Mean shift of the edge within a patch, in px, from which the next pass looks there again."""


class PatchRefiner(Protocol):
    """What the engine needs of a refiner; see `maskmend.models.BprRefiner`."""

    patch: int
    input_size: int
    padding: int
    provenance: dict[str, str | int | float]

    def forward(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Foreground probability [N, P, P] of patches [N, 4, S, S]."""


@dataclass(frozen=True, slots=True)
class InstanceResult:
    """One refined instance.

    Attributes:
        mask: refined, or coarse where the guard abstained.
        confidence: 0 to 1, certainty of the patches along the edge; 1 when there was nothing to look at.
        score: 0 to 1, estimated chance that the refined mask is better than the coarse one; 1 without the guard.
        abstained: why the coarse mask was kept; None when it was not.
        changed_pixels: pixels in which the two differ.
        patches: looked at, in all passes.
        undone: pixels of changes that did not pass, by reason: `reach`, `topology`, `evidence`, `arbitrate`.
    """

    mask: Rle
    confidence: float
    score: float
    abstained: str | None
    changed_pixels: int
    patches: int
    undone: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Proposal:
    """One instance on its way to the guard.

    Attributes:
        index: of the instance among the masks given.
        coarse: its mask as it came.
        boxes: int32 [N, 4], to be looked at next.
        previous: its mask before the last pass.
        refined: its mask after the last pass.
        votes: boxes and probabilities of each pass so far.
    """

    index: int
    coarse: Rle
    boxes: NDArray[np.int32]
    previous: Rle
    refined: Rle
    votes: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = field(default_factory=list)


class Engine:
    """Refines the instances of one image at a time.

    Args:
        refiner: from `maskmend.models.load_refiner`.
        nms: IoU from which a box is dropped; see `boundary_boxes`.
        passes: how often the result may be refined again, 1 to 5. From the second pass on, only those patches are looked
            at again in which the edge moved by `AGAIN` px or more.
        guard: keep the coarse mask where the refinement is not credible.
        caution: 0 to 1, how likely an improvement must be for the guard to let it through.
        reach: farthest that the guard lets an edge move, in px.
        topology: have the guard keep masks in one piece.
        arbitrate: let no two instances of an image take a pixel that their coarse masks did not share.
        batch_size: patches given to the refiner at once; does not change the result.

    Attributes:
        stages: seconds per stage since the engine was made.
        provenance: everything that decides the result: weights, runtime, options.
    """

    def __init__(
        self,
        refiner: PatchRefiner,
        *,
        nms: float = 0.25,
        passes: int = 3,
        guard: bool = True,
        caution: float = CAUTION,
        reach: int = REACH,
        topology: bool = True,
        arbitrate: bool = True,
        batch_size: int = 32,
    ) -> None:
        if not 1 <= passes <= 5:
            raise OptionError(f"passes is {passes}; use 1 to 5", field="passes")
        if not 1 <= batch_size <= 4096:
            raise OptionError(f"batch_size is {batch_size}; use 1 to 4096", field="batch_size")
        if not 0 < nms < 1:
            raise OptionError(f"nms is {nms}; use an IoU between 0 and 1, such as 0.25", field="nms")
        self._options = GuardOptions(caution=caution, reach=reach, topology=topology)
        self._refiner, self._nms, self._passes, self._guard = refiner, nms, passes, guard
        self._arbitrate, self._batch_size = arbitrate, batch_size
        self.stages = StageTimes()
        self.provenance: dict[str, str | int | float] = {
            **refiner.provenance,
            "nms": nms,
            "passes": passes,
            "guard": int(guard),
            "caution": caution,
            "reach": reach,
            "topology": int(topology),
            "arbitrate": int(arbitrate),
        }

    def refine_image(self, image: NDArray[np.uint8], masks: Sequence[Rle]) -> list[InstanceResult]:
        """Refine the instances of one image.

        Args:
            image: uint8 [H, W, 3], RGB.
            masks: of the image's size.

        Returns:
            One result per mask, in their order. Without `arbitrate` a result depends on its own mask and the image alone.

        Raises:
            ImageError: the image is not uint8 [H, W, 3].
            MaskError: a mask is of another size.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(f"image is {image.dtype} {image.shape}; uint8 [H, W, 3] RGB is needed", field="image")
        for number, mask in enumerate(masks):
            if (mask.height, mask.width) != image.shape[:2]:
                raise MaskError(
                    f"masks[{number}] is {mask.width}x{mask.height} px but the image is "
                    f"{image.shape[1]}x{image.shape[0]} px; if the image carries an EXIF rotation, the exif option says "
                    "whether it is applied",
                    field=f"masks[{number}]",
                )
        results = [self._unrefined(mask) for mask in masks]
        for work in self.propose(image, {n: mask for n, mask in enumerate(masks) if results[n].abstained is None}):
            results[work.index] = self._finish(image, work)
        return self._settled(masks, results) if self._arbitrate else results

    def propose(self, image: NDArray[np.uint8], masks: Mapping[int, Rle]) -> Iterator[Proposal]:
        """Refine without the guard's judgement.

        Args:
            image: uint8 [H, W, 3], RGB.
            masks: by index, of the image's size, neither empty nor full.
        """
        for group in self._groups(masks):
            for number in range(self._passes):
                self._pass(image, group, number)
            yield from group

    def _unrefined(self, mask: Rle) -> InstanceResult:
        area = mask.area
        reason = EMPTY_MASK if area == 0 else FULL_MASK if area == mask.height * mask.width else None
        return InstanceResult(mask, 1.0, 1.0, reason, 0, 0)

    def _groups(self, masks: Mapping[int, Rle]) -> Iterator[list[Proposal]]:
        """Instances in turn, as many at a time as keep the patches few enough to hold."""
        group: list[Proposal] = []
        patches = 0
        for index, mask in masks.items():
            with self.stages.measure("boxes"):
                boxes = boundary_boxes(mask, patch=self._refiner.patch, nms=self._nms)
            if group and patches + len(boxes) > GROUP:
                yield group
                group, patches = [], 0
            group.append(Proposal(index, mask, boxes, mask, mask))
            patches += len(boxes)
        if group:
            yield group

    def _pass(self, image: NDArray[np.uint8], group: list[Proposal], number: int) -> None:
        """Refine each instance of a group once, from the second time on only where it pays."""
        if number:
            with self.stages.measure("boxes"):
                for work in group:
                    work.boxes = self._boxes_again(work)
        group = [work for work in group if len(work.boxes)]
        if not group:
            return
        refiner = self._refiner
        with self.stages.measure("crops"):
            crops = [
                extract_patches(image, work.refined, work.boxes, size=refiner.input_size, padding=refiner.padding)
                for work in group
            ]
            patches = np.concatenate(crops)
        with self.stages.measure("network"):
            probabilities = np.concatenate(
                [
                    refiner.forward(patches[start : start + self._batch_size])
                    for start in range(0, len(patches), self._batch_size)
                ]
            )
        start = 0
        with self.stages.measure("reassemble"):
            for work in group:
                part = slice(start, start + len(work.boxes))
                start = part.stop
                self._reassemble(work, patches[part], probabilities[part])

    def _boxes_again(self, work: Proposal) -> NDArray[np.int32]:
        """Boxes along the new edge, of those places where it moved far in the last pass."""
        if work.refined == work.previous or not len(work.boxes) or work.refined.area == 0:
            return work.boxes[:0]
        side = self._refiner.patch
        boxes = boundary_boxes(work.refined, patch=side, nms=self._nms)
        if not len(boxes):
            return boxes
        (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        moved = work.previous.crop(x0, y0, x1, y1) ^ work.refined.crop(x0, y0, x1, y1)
        total = cv2.integral(moved)  # with a row and a column of zeros in front
        left, top = boxes[:, 0] - x0, boxes[:, 1] - y0
        inside = total[top + side, left + side] - total[top, left + side] - total[top + side, left] + total[top, left]
        # An edge that crosses the patch is about as long as its side.
        return np.asarray(boxes[inside >= AGAIN * side])

    def _reassemble(self, work: Proposal, patches: NDArray[np.float32], probabilities: NDArray[np.float32]) -> None:
        votes = hold(probabilities, self._coarse_patches(patches), HOLD) if self._guard else probabilities
        work.votes.append((work.boxes, probabilities))
        work.previous, work.refined = work.refined, reassemble(work.refined, work.boxes, fade(votes))

    def _finish(self, image: NDArray[np.uint8], work: Proposal) -> InstanceResult:
        with self.stages.measure("guard"):
            if self._guard:
                checked = guard(image, work.coarse, work.refined, work.votes, self._options)
            else:
                checked = GuardResult(work.refined, edge_confidence(work.votes), 1.0, None)
            return InstanceResult(
                checked.mask,
                checked.confidence,
                checked.score,
                checked.abstained,
                changed_pixels(work.coarse, checked.mask),
                sum(len(boxes) for boxes, _ in work.votes),
                checked.undone,
            )

    def _settled(self, masks: Sequence[Rle], results: list[InstanceResult]) -> list[InstanceResult]:
        """Results after `arbitrate`."""
        with self.stages.measure("guard"):
            kept = arbitrate(masks, [r.mask for r in results], [r.confidence for r in results])
            for n, (mask, result) in enumerate(zip(kept, results, strict=True)):
                if mask is not result.mask:
                    lost = changed_pixels(result.mask, mask)
                    results[n] = replace(
                        result,
                        mask=mask,
                        changed_pixels=changed_pixels(masks[n], mask),
                        undone={**result.undone, "arbitrate": lost},
                    )
        return results

    def _coarse_patches(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mask channel at the size of the patch, without the context around it."""
        refiner = self._refiner
        scale = refiner.input_size / (refiner.patch + 2 * refiner.padding)
        places = ((np.arange(refiner.patch) + refiner.padding + 0.5) * scale).astype(np.int64)
        return patches[:, 3][:, places[:, None], places[None, :]]

"""The in-process pipeline: one image and its coarse masks in, refined masks out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle, extract_patches, reassemble
from maskmend.patcher.arbitrate import arbitrate, companies
from maskmend.patcher.errors import ImageError, MaskError, OptionError
from maskmend.patcher.evidence import Calibration
from maskmend.patcher.field import fade
from maskmend.patcher.guard import GuardResult, changed_pixels, edge_confidence, guard, hold
from maskmend.service.options import EngineOptions
from maskmend.service.proposal import Proposal, pieces_of, sides_of, to_side
from maskmend.service.selection import selection_of
from maskmend.service.stages import StageTimes

EMPTY_MASK = "the coarse mask is empty"
FULL_MASK = "the coarse mask fills the image"
Patches = NDArray[np.float32]
Look = Callable[[list[tuple[Rle, NDArray[np.int32]]], float | None], list[tuple[Patches, Rle]]]
GROUP = 256
"""Patches of 128 px held at once, at most; of larger ones as many as take the same room."""


class PatchRefiner(Protocol):
    """What the engine needs of a refiner; see `maskmend.models.refiner.NetworkRefiner`."""

    patch: int
    input_size: int
    padding: int
    provenance: dict[str, str | int | float]
    calibration: Calibration

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> NDArray[np.int32]:
        """Where to look: int32 [N, 4], squares of one size."""

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


class Engine:
    """Refines the instances of one image at a time; one thread at a time may use it.

    Args:
        refiner: from `maskmend.models.load_refiner`.
        options: how; the defaults when not given.
        batch_size: patches given to the refiner at once; does not change the result.

    Attributes:
        stages: seconds per stage since the engine was made.
        check: called before patches are cut for the network; what it raises ends the work.
        provenance: everything that decides the result: weights, runtime, options.
    """

    def __init__(self, refiner: PatchRefiner, options: EngineOptions | None = None, *, batch_size: int = 32) -> None:
        if not 1 <= batch_size <= 4096:
            raise OptionError(f"batch_size is {batch_size}; use 1 to 4096", field="batch_size")
        self._refiner, self._options, self._batch_size = refiner, options or EngineOptions(), batch_size
        self._selection = selection_of(refiner, self._options)
        self._guard_options = self._options.guard_options(refiner.calibration)
        self._most = max(1, GROUP * 128**2 // max(128, refiner.input_size) ** 2)
        self.stages = StageTimes()
        self.check: Callable[[], None] = lambda: None
        self._room: Patches | None = None
        chosen = {name: int(v) if isinstance(v, bool) else v for name, v in asdict(self._options).items()}
        self.provenance: dict[str, str | int | float] = {**refiner.provenance, **chosen}

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
        found = dict(self.refine_each(image, masks))
        return [found[n] for n in range(len(masks))]

    def refine_each(self, image: NDArray[np.uint8], masks: Sequence[Rle]) -> Iterator[tuple[int, InstanceResult]]:
        """As `refine_image`, each result with its index, as soon as no other instance can change it any more.

        Raises:
            ImageError: see `Engine.refine_image`, as for what else is raised.
            MaskError: see there.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(f"image is {image.dtype} {image.shape}; uint8 [H, W, 3] RGB is needed", field="image")
        for number, mask in enumerate(masks):
            if (mask.height, mask.width) != image.shape[:2]:
                raise MaskError(
                    f"masks[{number}] is {mask.width}x{mask.height} px but the image is "
                    f"{image.shape[1]}x{image.shape[0]} px; if the image carries an EXIF rotation, exif_policy says "
                    "whether it is applied",
                    field=f"masks[{number}]",
                )
        companies = self._companies(masks)
        results: dict[int, InstanceResult] = {}
        for index, result in self._judged(image, masks):
            results[index] = result
            company = companies[index]
            if all(n in results for n in company):
                yield from zip(company, self._settled(masks, results, company), strict=True)

    def _judged(self, image: NDArray[np.uint8], masks: Sequence[Rle]) -> Iterator[tuple[int, InstanceResult]]:
        """Each instance on its own, after the guard."""
        workable = {}
        for index, mask in enumerate(masks):
            untouched = self._unrefined(mask)
            if untouched.abstained is None:
                workable[index] = mask
            else:
                yield index, untouched
        for work in self.propose(image, workable):
            yield work.index, self._finish(image, work)

    def _companies(self, masks: Sequence[Rle]) -> list[list[int]]:
        """For each instance those that it may have to share pixels with, directly or through others, itself included."""
        if not self._options.arbitrate:
            return [[n] for n in range(len(masks))]
        far = self._options.reach if self._options.guard else self._options.passes * self._refiner.input_size
        return companies([mask.bbox for mask in masks], far)

    def propose(self, image: NDArray[np.uint8], masks: Mapping[int, Rle]) -> Iterator[Proposal]:
        """Refine without the guard's judgement.

        Args:
            image: uint8 [H, W, 3], RGB.
            masks: by index, of the image's size, neither empty nor full.
        """
        # A runtime with a device of its own does whole passes there: the image goes up once.
        looks = getattr(self._refiner, "looks", None) if self._selection.on_device else None
        look = None if looks is None else looks.on(image)
        for group in self._groups(masks):
            for number in range(self._options.passes):
                self._pass(image, group, number, look)
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
                work = self._selection.first(index, mask)
            if group and patches + len(work.boxes) > self._most:
                yield group
                group, patches = [], 0
            group.append(work)
            patches += len(work.boxes)
        if group:
            yield group

    def _pass(self, image: NDArray[np.uint8], group: list[Proposal], number: int, look: Look | None) -> None:
        """Refine each instance of a group once, from the second time on only where it pays."""
        if number:
            with self.stages.measure("boxes"):
                for work in group:
                    work.boxes = self._boxes_again(image, work)
        group = [work for work in group if len(work.boxes)]
        if not group:
            return
        if look is not None:
            self._pass_there(look, group)
            return
        found: dict[int, list[tuple[Patches, Patches]]] = {work.index: [] for work in group}
        for pieces in pieces_of(group, self._most):
            patches = self._crops(image, pieces)
            with self.stages.measure("network"):
                size = self._batch_size
                parts = [self._refiner.forward(patches[i : i + size]) for i in range(0, len(patches), size)]
                probabilities = np.concatenate(parts)
            start = 0
            with self.stages.measure("reassemble"):
                for work, boxes in pieces:
                    part = slice(start, start + len(boxes))
                    start = part.stop
                    scaled = to_side(probabilities[part], int(boxes[0, 2] - boxes[0, 0]))
                    found[work.index].append((scaled, self._votes(work, boxes, patches[part], scaled)))
        with self.stages.measure("reassemble"):
            for work in group:
                probabilities, votes = (np.concatenate(parts) for parts in zip(*found[work.index], strict=True))
                work.votes.append((work.boxes, probabilities))
                work.previous, work.refined = work.refined, reassemble(work.refined, work.boxes, votes)

    def _pass_there(self, look: Look, group: list[Proposal]) -> None:
        """As `_pass`, on a device; see `maskmend.models.device_looks.DeviceLooks`."""
        strength = self._guard_options.calibration.strength if self._options.guard else None
        with self.stages.measure("network"):
            seen = look([(work.refined, work.boxes) for work in group], strength)
        for work, (probabilities, refined) in zip(group, seen, strict=True):
            work.votes.append((work.boxes, probabilities))
            work.previous, work.refined = work.refined, refined

    def _crops(self, image: NDArray[np.uint8], pieces: list[tuple[Proposal, NDArray[np.int32]]]) -> Patches:
        """Patches of the boxes, in memory that the next call uses again."""
        self.check()
        refiner, start = self._refiner, 0
        with self.stages.measure("crops"):
            if self._room is None:
                # Only what is written into takes memory.
                self._room = np.empty((self._most, 4, refiner.input_size, refiner.input_size), np.float32)
            for work, boxes in pieces:
                out = self._room[start : start + len(boxes)]
                extract_patches(image, work.refined, boxes, size=refiner.input_size, padding=refiner.padding, out=out)
                start += len(boxes)
            return self._room[:start]

    def _boxes_again(self, image: NDArray[np.uint8], work: Proposal) -> NDArray[np.int32]:
        """Boxes along the new edge, of those places where it moved far in the last pass."""
        if work.refined == work.previous or not len(work.boxes) or work.refined.area == 0:
            return work.boxes[:0]
        return self._selection.again(image, work)

    def _votes(self, work: Proposal, boxes: NDArray[np.int32], patches: Patches, probabilities: Patches) -> Patches:
        """What is averaged: probabilities held back by the guard, and fading towards the patches' borders."""
        if self._options.guard:
            known = sides_of(work.refined, boxes, patches, self._refiner.padding)
            probabilities = hold(probabilities, known, self._selection.strength(work, probabilities, known))
        return fade(probabilities)

    def _finish(self, image: NDArray[np.uint8], work: Proposal) -> InstanceResult:
        with self.stages.measure("guard"):
            if self._options.guard:
                checked = guard(image, work.coarse, work.refined, work.votes, self._selection.tables(work))
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

    def _settled(
        self, masks: Sequence[Rle], results: Mapping[int, InstanceResult], company: Sequence[int]
    ) -> list[InstanceResult]:
        """Results of a company after `arbitrate`."""
        found = [results[n] for n in company]
        if len(found) < 2:
            return found
        with self.stages.measure("guard"):
            coarse = [masks[n] for n in company]
            kept = arbitrate(coarse, [r.mask for r in found], [r.confidence for r in found])
            for n, (mask, result) in enumerate(zip(kept, found, strict=True)):
                if mask is not result.mask:
                    lost = changed_pixels(result.mask, mask)
                    found[n] = replace(
                        result,
                        mask=mask,
                        changed_pixels=changed_pixels(coarse[n], mask),
                        undone={**result.undone, "arbitrate": lost},
                    )
        return found

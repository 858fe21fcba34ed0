"""The in-process pipeline: one image and its coarse masks in, refined masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle, boundary_boxes, extract_patches, reassemble
from maskmend.patcher.errors import ImageError, MaskError, OptionError
from maskmend.patcher.guard import HOLD, edge_confidence, guard, hold
from maskmend.service.stages import StageTimes

EMPTY_MASK = "the coarse mask is empty"
FULL_MASK = "the coarse mask fills the image"
GROUP = 1024
"""Patches held at once, at most, unless a single instance has more."""


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
        abstained: why the coarse mask was kept; None when it was not.
        changed_pixels: pixels in which the two differ.
        patches: looked at in the last pass.
    """

    mask: Rle
    confidence: float
    abstained: str | None
    changed_pixels: int
    patches: int


@dataclass(slots=True)
class _Work:
    """One instance on its way."""

    index: int
    coarse: Rle
    boxes: NDArray[np.int32]


class Engine:
    """Refines the instances of one image at a time.

    Args:
        refiner: from `maskmend.models.load_refiner`.
        nms: IoU from which a box is dropped; see `boundary_boxes`.
        passes: how often the result is refined again, 1 to 5.
        use_guard: keep the coarse mask where the refinement is not credible.
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
        passes: int = 1,
        guard: bool = True,
        batch_size: int = 32,
    ) -> None:
        if not 1 <= passes <= 5:
            raise OptionError(f"passes is {passes}; use 1 to 5", field="passes")
        if not 1 <= batch_size <= 4096:
            raise OptionError(f"batch_size is {batch_size}; use 1 to 4096", field="batch_size")
        if not 0 < nms < 1:
            raise OptionError(f"nms is {nms}; use an IoU between 0 and 1, such as 0.25", field="nms")
        self._refiner, self._nms, self._passes, self._guard = refiner, nms, passes, guard
        self._batch_size = batch_size
        self.stages = StageTimes()
        self.provenance: dict[str, str | int | float] = {
            **refiner.provenance,
            "nms": nms,
            "passes": passes,
            "guard": int(guard),
        }

    def refine_image(self, image: NDArray[np.uint8], masks: Sequence[Rle]) -> list[InstanceResult]:
        """Refine the instances of one image.

        Args:
            image: uint8 [H, W, 3], RGB.
            masks: of the image's size.

        Returns:
            One result per mask, in their order. A result depends on its own mask and the image alone.

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
        current = {n: mask for n, mask in enumerate(masks) if results[n].abstained is None}
        for _ in range(self._passes):
            for group in self._groups(current):
                for work, result in self._refine_group(image, group, masks):
                    results[work.index] = result
            current = {n: r.mask for n, r in enumerate(results) if n in current and r.abstained is None}
        return results

    def _unrefined(self, mask: Rle) -> InstanceResult:
        area = mask.area
        reason = EMPTY_MASK if area == 0 else FULL_MASK if area == mask.height * mask.width else None
        return InstanceResult(mask, 1.0, reason, 0, 0)

    def _groups(self, masks: dict[int, Rle]) -> Iterator[list[_Work]]:
        """Instances in turn, as many at a time as keep the patches few enough to hold."""
        group: list[_Work] = []
        patches = 0
        for index, mask in masks.items():
            with self.stages.measure("boxes"):
                boxes = boundary_boxes(mask, patch=self._refiner.patch, nms=self._nms)
            if group and patches + len(boxes) > GROUP:
                yield group
                group, patches = [], 0
            group.append(_Work(index, mask, boxes))
            patches += len(boxes)
        if group:
            yield group

    def _refine_group(
        self, image: NDArray[np.uint8], group: list[_Work], masks: Sequence[Rle]
    ) -> Iterator[tuple[_Work, InstanceResult]]:
        refiner = self._refiner
        with self.stages.measure("crops"):
            crops = [
                extract_patches(image, work.coarse, work.boxes, size=refiner.input_size, padding=refiner.padding)
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
        for work in group:
            part = slice(start, start + len(work.boxes))
            start = part.stop
            yield work, self._finish(work, masks[work.index], patches[part], probabilities[part])

    def _finish(
        self, work: _Work, coarse: Rle, patches: NDArray[np.float32], probabilities: NDArray[np.float32]
    ) -> InstanceResult:
        with self.stages.measure("reassemble"):
            sides = self._coarse_patches(patches)
            votes = hold(probabilities, sides, HOLD) if self._guard else probabilities
            refined = reassemble(work.coarse, work.boxes, votes)
        with self.stages.measure("guard"):
            if self._guard:
                checked = guard(coarse, refined, probabilities, sides)
                mask, confidence, abstained = checked.mask, checked.confidence, checked.abstained
            else:
                mask, confidence, abstained = refined, edge_confidence(probabilities), None
        return InstanceResult(mask, confidence, abstained, changed_pixels(coarse, mask), len(work.boxes))

    def _coarse_patches(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mask channel at the size of the patch, without the context around it."""
        refiner = self._refiner
        scale = refiner.input_size / (refiner.patch + 2 * refiner.padding)
        places = ((np.arange(refiner.patch) + refiner.padding + 0.5) * scale).astype(np.int64)
        return patches[:, 3][:, places[:, None], places[None, :]]


def changed_pixels(a: Rle, b: Rle) -> int:
    """Pixels in which two masks of one size differ, counted on their runs."""
    if a is b:
        return 0
    edges = np.sort(np.concatenate([np.cumsum(a.counts, dtype=np.int64), np.cumsum(b.counts, dtype=np.int64)]))
    # Between the first and second change, third and fourth, ... exactly one of the two is foreground.
    edges = edges[: len(edges) // 2 * 2]
    return int((edges[1::2] - edges[::2]).sum())

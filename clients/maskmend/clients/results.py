"""What a refinement gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle


@dataclass(frozen=True, slots=True)
class RefinedInstance:
    """One instance.

    Attributes:
        rle: the refined mask as a compressed COCO RLE dict.
        box: (x, y, width, height) in px.
        area: foreground pixels.
        confidence: 0 to 1, certainty of the patches along the edge.
        score: 0 to 1, the guard's estimate of the chance that the refined mask is better; 1 without the guard.
        abstained: why the coarse mask was kept; None when it was not.
        changed_pixels: pixels in which the refined mask differs from the coarse one.
        undone: pixels of changes that did not pass, by reason: `reach`, `topology`, `evidence`, `arbitrate`.
        max_displacement_px: farthest that the edge moved.
    """

    rle: dict[str, Any]
    box: tuple[int, int, int, int]
    area: int
    confidence: float
    score: float
    abstained: str | None
    changed_pixels: int
    undone: dict[str, int]
    max_displacement_px: float


@dataclass(frozen=True)
class RefineResult:
    """Refined instances of one image, in the order of the masks given.

    Attributes:
        height: of the image in px.
        width: of the image in px.
        instances: one per mask.
        provenance: what made them: weights and their SHA-256, runtime, precision, options.
        timings: busy seconds by stage; from a server also `queue` and `total`.
        request_id: as the server's log has it; empty in process.
    """

    height: int
    width: int
    instances: list[RefinedInstance]
    provenance: dict[str, str | int | float]
    timings: dict[str, float] = field(default_factory=dict)
    request_id: str = ""

    @property
    def rles(self) -> list[dict[str, Any]]:
        """Masks as compressed COCO RLE dicts."""
        return [instance.rle for instance in self.instances]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """Masks as bool [N, H, W], made when first asked for."""
        dense = [Rle.from_coco(rle).to_dense() for rle in self.rles]
        return np.stack(dense) if dense else np.zeros((0, self.height, self.width), bool)

    def __len__(self) -> int:
        return len(self.instances)

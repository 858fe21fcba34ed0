"""Which patches of an instance are looked at, how far each is believed, and by which tables the guard judges the outcome."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from maskmend.models.registry import REFINERS
from maskmend.patcher import Rle
from maskmend.patcher.cover import covering_boxes
from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import ADAPTIVE_CALIBRATION, DEFAULT_CALIBRATION, Calibration
from maskmend.patcher.guard import GuardOptions, guard
from maskmend.service.options import EngineOptions
from maskmend.service.proposal import Proposal, moved_far

MARGIN: Final = 0
"""Of the sparse look in px: no boundary pixel lies nearer to the sides of the patch that covers it best."""
AGAIN: Final = 1.0
"""Mean shift of the edge round a boundary pixel, in px, from which it is looked at again where the guard is undecided."""
FAR: Final = 6.0
"""The same where it is not."""
EASED: Final = 1.0
"""Mean shift of the edge within a patch, in px, from which what the patch says is not held back."""
UNDECIDED: Final = (-0.15, 0.05)
"""How far the guard's score may lie from `caution` for it to be undecided."""

Boxes = NDArray[np.int32]
Probabilities = NDArray[np.float32]


class BoxRefiner(Protocol):
    """What a selection needs of a refiner; see `maskmend.models.refiner.NetworkRefiner`."""

    patch: int
    provenance: dict[str, str | int | float]
    calibration: Calibration

    def boxes(self, mask: Rle, nms: float, tiles: bool = True) -> Boxes:
        """Where to look: int32 [N, 4], squares of one size."""


class Dense:
    """As the refiner says, and again wherever the edge moved by a pixel or more.

    Args:
        refiner: says where to look.
        options: of the engine.

    Attributes:
        on_device: whether a device's own passes can do it; see `DeviceLooks`.
    """

    on_device = True

    def __init__(self, refiner: BoxRefiner, options: EngineOptions) -> None:
        self._refiner, self._options = refiner, options
        self._guard_options = options.guard_options(refiner.calibration)

    def first(self, index: int, mask: Rle) -> Proposal:
        """An instance, by index and coarse mask, with the boxes of its first pass."""
        return Proposal(index, mask, self._boxes(mask), mask, mask)

    def again(self, image: NDArray[np.uint8], work: Proposal) -> Boxes:
        """Boxes int32 [N, 4] of the next pass.

        Args:
            image: uint8 [H, W, 3], RGB.
            work: changed by the pass before, and not to nothing.
        """
        return moved_far(work.previous, work.refined, self._boxes(work.refined))

    def strength(self, work: Proposal, probabilities: Probabilities, known: Probabilities) -> float | Probabilities:
        """How far probabilities are held back; see `hold`.

        Args:
            work: the instance that they are of.
            probabilities: float32 [N, P, P], foreground.
            known: float32 [N, P, P], the mask so far as -1 and +1.

        Returns:
            One number, or float32 [N, 1, 1].
        """
        return self._guard_options.calibration.strength

    def tables(self, work: Proposal) -> GuardOptions:
        """What the guard judges an instance by."""
        return self._guard_options

    def _boxes(self, mask: Rle) -> Boxes:
        return self._refiner.boxes(mask, self._options.nms, self._options.tiles)


class Adaptive(Dense):
    """About three fifths of the patches, for masks about as good: docs/performance-patches.md.

    A sparse look covers the boundary with as few boxes as it can, and a patch that moves its edge by `EASED` px or more is
    believed as it is: taking the edge the rest of the way, because `hold` kept it back, is most of what a second look does
    to a mask. What it does besides is to make the guard sure. So the guard, by tables of its own for sparse looks, judges
    each instance after the first. Where it is undecided, the instance gets a closer look wherever the edge moved by `AGAIN`
    px, and is judged by the usual tables; else only where it moved by `FAR` px. An instance that `Dense` covers by one box
    is left to it: there is nothing to save.

    Raises:
        OptionError: the refiner is one of whole instances.
    """

    on_device = False

    def __init__(self, refiner: BoxRefiner, options: EngineOptions) -> None:
        super().__init__(refiner, options)
        name = refiner.provenance.get("refiner")
        if name in REFINERS and REFINERS[str(name)].crop != "patch":
            raise OptionError(
                f"patches is adaptive, but {name} looks at whole instances, not along the boundary; use patches dense, or a "
                "refiner of patches such as bpr",
                field="patches",
            )
        # Weights that came with tables keep them.
        own = refiner.calibration != DEFAULT_CALIBRATION
        self._sparse_options = options.guard_options(refiner.calibration if own else ADAPTIVE_CALIBRATION)

    def first(self, index: int, mask: Rle) -> Proposal:
        """See `Dense.first`."""
        work = super().first(index, mask)
        if len(work.boxes) > 1:
            work.care = "sparse"
            work.boxes = covering_boxes(mask, patch=self._refiner.patch, margin=MARGIN)
        return work

    def again(self, image: NDArray[np.uint8], work: Proposal) -> Boxes:
        """See `Dense.again`."""
        if work.care == "plain":
            return super().again(image, work)
        if len(work.votes) == 1 and self._options.guard and self._is_undecided(image, work):
            work.care = "closer"
        by = AGAIN if work.care == "closer" else FAR
        return covering_boxes(work.refined, patch=self._refiner.patch, margin=0, before=work.previous, moved=by)

    def strength(self, work: Proposal, probabilities: Probabilities, known: Probabilities) -> float | Probabilities:
        """See `Dense.strength`."""
        full = self.tables(work).calibration.strength
        if work.care == "plain":
            return full
        # Pixels that change although they are held back, were this the only patch.
        changed = np.count_nonzero((probabilities - np.float32(0.5)) * known < -np.float32(full), axis=(1, 2))
        kept = changed < EASED * probabilities.shape[-1]
        return np.where(kept, np.float32(full), np.float32(0))[:, None, None]

    def tables(self, work: Proposal) -> GuardOptions:
        """See `Dense.tables`."""
        return self._sparse_options if work.care == "sparse" else self._guard_options

    def _is_undecided(self, image: NDArray[np.uint8], work: Proposal) -> bool:
        score = guard(image, work.coarse, work.refined, work.votes, self._sparse_options).score
        below, above = UNDECIDED
        return self._options.caution + below <= score < self._options.caution + above


def selection_of(refiner: BoxRefiner, options: EngineOptions) -> Dense:
    """What `options.patches` asks for."""
    return (Adaptive if options.patches == "adaptive" else Dense)(refiner, options)

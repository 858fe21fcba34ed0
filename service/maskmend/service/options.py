"""What one refinement may be told, wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.errors import OptionError
from maskmend.patcher.evidence import DEFAULT_CALIBRATION, Calibration
from maskmend.patcher.guard import GuardOptions

Patches = Literal["dense", "adaptive"]
NMS: Final = 0.25


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How instances are refined.

    Attributes:
        nms: IoU from which a box is dropped, 0.15 (fewest patches) to 0.55 (best quality); see `boundary_boxes`.
        passes: how often the result may be refined again, 1 to 5. From the second pass on, only those patches are looked
            at again in which the edge moved by a pixel or more.
        guard: keep the coarse mask where the refinement is not credible.
        caution: 0 to 1, how likely an improvement must be for the guard to let it through.
        reach: farthest that the guard lets an edge move, in px.
        topology: have the guard keep masks in one piece.
        arbitrate: let no two instances of an image take a pixel that their coarse masks did not share.
        tiles: have refiners of whole instances look at a large one in several boxes, so that they see it no smaller than it
            is; otherwise in one, which is quicker and coarser. Refiners of patches do not ask.
        patches: `dense` covers the boundary by `nms`, and looks again wherever the edge moved. `adaptive` takes about
            three fifths of the patches for masks about as good: see `Adaptive`. For refiners of patches, and without `nms`.

    Raises:
        OptionError: a value is out of range.
    """

    nms: float = NMS
    passes: int = 3
    guard: bool = True
    caution: float = CAUTION
    reach: int = REACH
    topology: bool = True
    arbitrate: bool = True
    tiles: bool = True
    patches: Patches = "dense"

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= 5:
            raise OptionError(f"passes is {self.passes}; use 1 to 5", field="passes")
        if not 0 < self.nms < 1:
            raise OptionError(f"nms is {self.nms}; use an IoU between 0 and 1, such as 0.25", field="nms")
        if self.patches not in get_args(Patches):
            raise OptionError(f"patches is {str(self.patches)[:64]!r}; use dense or adaptive", field="patches")
        if self.patches == "adaptive" and self.nms != NMS:
            raise OptionError(
                f"nms is {self.nms}, which means nothing with patches adaptive; leave it out, or use patches dense",
                field="nms",
            )
        self.guard_options()

    def guard_options(self, calibration: Calibration = DEFAULT_CALIBRATION) -> GuardOptions:
        """The guard's share of them, for weights of this calibration."""
        return GuardOptions(caution=self.caution, reach=self.reach, topology=self.topology, calibration=calibration)

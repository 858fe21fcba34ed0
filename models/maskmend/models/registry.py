"""Refiners by name. A new one takes a network in a file of its own, and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_REFINER = "bpr"


@dataclass(frozen=True, slots=True)
class RefinerKind:
    """What is particular to a refiner.

    Attributes:
        crop: `patch`, along the boundary, or `instance`, a whole one or tiles of a large one.
        network: module and class; `architectures` knows it by the refiner's name.
        weights: shipped set that is used when none is named.
    """

    crop: Literal["patch", "instance"]
    network: str
    weights: str


REFINERS = {
    "bpr": RefinerKind("patch", "maskmend.models.boundary_unet:BoundaryUnet", "bpr-small"),
    "transfiner": RefinerKind("instance", "maskmend.models.transfiner:Transfiner", "transfiner-small"),
    "refinemask": RefinerKind("instance", "maskmend.models.refinemask:RefineMask", "refinemask-small"),
    "sharpmask": RefinerKind("instance", "maskmend.models.sharpmask:SharpMask", "sharpmask-small"),
}

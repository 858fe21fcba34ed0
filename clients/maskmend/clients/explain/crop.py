"""One crop that a network was asked about, and what it said there, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.explain.picks import Pick
from maskmend.patcher.crops import MEAN, STD

if TYPE_CHECKING:
    from maskmend.models.explain import Explanation, Look

_TOP: Final = 12
"""Nodes that are named of all that one looks at."""


class Crop(NamedTuple):
    """One crop: what the network was given, and where it lies.

    Attributes:
        explained: what the network did.
        photo: uint8 [S, S, 3] RGB, the image as the network saw it.
        x0: left side in px of the image, context included.
        y0: upper side.
        side: of the crop in px of the image.
    """

    explained: Explanation
    photo: NDArray[np.uint8]
    x0: int
    y0: int
    side: int

    @classmethod
    def of(cls, explained: Explanation, patch: NDArray[np.float32], box: Sequence[int], padding: int) -> Crop:
        """Of a patch float32 [4, S, S] of `extract_patches`, cut at a box with this context round it."""
        colours = patch[:3].transpose(1, 2, 0) * np.array(STD, np.float32) + np.array(MEAN, np.float32)
        photo = np.clip(np.round(colours), 0, 255).astype(np.uint8)
        return cls(explained, photo, box[0] - padding, box[1] - padding, box[2] - box[0] + 2 * padding)

    def share(self, x: float, y: float) -> tuple[float, float]:
        """A point of the image as a share of the crop."""
        return (x - self.x0) / self.side, (y - self.y0) / self.side

    def place(self, pick: Pick) -> tuple[float, float]:
        """The middle of a node in px of the image."""
        level = self.explained.levels[pick.level]
        unit = self.side / level.side
        return (
            self.x0 + (float(level.column[pick.node]) + 0.5) * unit,
            self.y0 + (float(level.row[pick.node]) + 0.5) * unit,
        )


def facts_of_crop(crop: Crop, picks: Sequence[Pick]) -> dict[str, Any]:
    """Nodes and attention as data: cells (row, column) of a level, px of the image, shares of 1."""
    explained = crop.explained
    levels = [
        {
            "side": level.side,
            "slots": level.slots,
            "nodes": len(level.row),
            "share": round(len(level.row) / level.side**2, 6),
            "turned": turned(level.before, level.after),
            "at": np.stack([level.row, level.column], 1).tolist(),
            "before": _rounded(level.before),
            "after": _rounded(level.after),
        }
        for level in explained.levels
    ]
    return {
        "crop": {"x0": crop.x0, "y0": crop.y0, "side": crop.side},
        "levels": levels,
        "points": [_point(crop, pick) for pick in picks],
    }


def _point(crop: Crop, pick: Pick) -> dict[str, Any]:
    level, (x, y) = crop.explained.levels[pick.level], crop.place(pick)
    found: dict[str, Any] = {
        "x": round(x, 3),
        "y": round(y, 3),
        "side": level.side,
        "row": int(level.row[pick.node]),
        "column": int(level.column[pick.node]),
        "before": round(float(level.before[pick.node]), 6),
        "after": round(float(level.after[pick.node]), 6),
    }
    if crop.explained.attention:
        for name, rollout in (("last_layer", False), ("all_layers", True)):
            found[name] = _looked_at(crop.explained, crop.explained.look(*pick, rollout=rollout))
    return found


def _looked_at(explained: Explanation, look: Look) -> dict[str, Any]:
    """Where the attention goes: the share of each level and of the reference tokens, and the nodes that get most."""
    every = [
        (-float(weight), level.side, int(r), int(c))
        for level, weights in zip(explained.levels, look.nodes, strict=True)
        for weight, r, c in zip(weights, level.row, level.column, strict=True)
    ]
    return {
        "reference": None if look.reference is None else round(float(look.reference.sum()), 6),
        "levels": [round(float(weights.sum()), 6) for weights in look.nodes],
        "most": [
            {"side": side, "row": r, "column": c, "weight": round(-w, 6)} for w, side, r, c in sorted(every)[:_TOP]
        ],
    }


def turned(before: NDArray[np.float32], after: NDArray[np.float32]) -> int:
    """How many values of two maps [H, W] are on different sides of one half."""
    return int(np.count_nonzero((before > 0.5) != (after > 0.5)))


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(value, 6) for value in values.tolist()]

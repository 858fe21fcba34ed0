"""Instances on their way to the guard, and their boxes in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle
from maskmend.patcher.displacement import changed_within

AGAIN = 1.0
"""Mean shift of the edge within a patch, in px, from which the next pass looks there again."""


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
        care: how it is looked at; see `Adaptive`. `plain` is the way of `Dense`.
    """

    index: int
    coarse: Rle
    boxes: NDArray[np.int32]
    previous: Rle
    refined: Rle
    votes: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = field(default_factory=list)
    care: Literal["plain", "sparse", "closer"] = "plain"


def moved_far(previous: Rle, refined: Rle, boxes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Those of the boxes int32 [N, 4] within which the edge moved by `AGAIN` px or more between two masks."""
    if not len(boxes):
        return boxes
    side = int(boxes[0, 2] - boxes[0, 0])
    # An edge that crosses the patch is about as long as its side.
    return np.asarray(boxes[changed_within(previous, refined, boxes) >= AGAIN * side])


def to_side(probabilities: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Probabilities [N, P, P] at the size of their boxes: float32 [N, side, side], resized bilinearly where it differs."""
    if probabilities.shape[-1] == side:
        return probabilities
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_LINEAR) for each in probabilities])


def sides_of(mask: Rle, boxes: NDArray[np.int32], patches: NDArray[np.float32], padding: int) -> NDArray[np.float32]:
    """A mask in the boxes as -1 and +1, float32 [N, side, side], whatever size the network sees it in.

    Args:
        mask: of the image's size.
        boxes: int32 [N, 4], squares of one side.
        patches: float32 [N, 4, S, S] of these boxes, the mask in the last plane.
        padding: px that the patches reach beyond the boxes on every side.
    """
    side = int(boxes[0, 2] - boxes[0, 0])
    if patches.shape[-1] == side + 2 * padding:
        return patches[:, 3, padding : padding + side, padding : padding + side]
    return np.stack([mask.crop(*box) for box in boxes.tolist()]).astype(np.float32) * 2 - 1


def pieces_of(group: list[Proposal], most: int) -> Iterator[list[tuple[Proposal, NDArray[np.int32]]]]:
    """The boxes of a group, int32 [n, 4], `most` at a time: a single ragged mask may have tens of thousands."""
    pieces: list[tuple[Proposal, NDArray[np.int32]]] = []
    room = most
    for work in group:
        start = 0
        while start < len(work.boxes):
            boxes = work.boxes[start : start + room]
            pieces.append((work, boxes))
            start += len(boxes)
            room -= len(boxes)
            if not room:
                yield pieces
                pieces, room = [], most
    if pieces:
        yield pieces

"""Between instances: no pixel goes to two of them that their coarse masks did not share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.columns import Columns
from maskmend.patcher.errors import OptionError
from maskmend.patcher.rle import Rle
from maskmend.patcher.topology import connected_to

Part = tuple[int, int, NDArray[np.uint64]]
"""Bit columns of a part of the frame, and its first column and row, in px; the row a multiple of 64, so that words fit."""


def arbitrate(coarse: Sequence[Rle], refined: Sequence[Rle], confidence: Sequence[float]) -> list[Rle]:
    """Settle which of two refined masks keeps a pixel that both have and their coarse masks did not both have.

    The instance whose coarse mask had the pixel keeps it. If neither had, the more confident one does, and of two equally
    confident ones the first. What is left apart from the object by that goes too. No instance loses a pixel of its own
    coarse mask.

    Args:
        coarse: the masks as they came, all of one image.
        refined: the refined masks, in the same order.
        confidence: one number per instance, such as `GuardResult.confidence`.

    Returns:
        One mask per instance. Masks that lose nothing are returned as they are.

    Raises:
        OptionError: the three are not of one length.
    """
    if not len(coarse) == len(refined) == len(confidence):
        raise OptionError(
            f"{len(coarse)} coarse masks, {len(refined)} refined ones, {len(confidence)} confidences; give as many of each",
            field="refined",
        )
    lost: dict[int, list[Part]] = {}
    changed = [before is not after for before, after in zip(coarse, refined, strict=True)]
    boxes = np.array([mask.bbox for mask in refined], np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    for a, b in _touching(boxes, changed):
        x0, y0 = (int(v) for v in np.maximum(boxes[a, :2], boxes[b, :2]))
        x1, y1 = (int(v) for v in np.minimum(boxes[a, 2:], boxes[b, 2:]))
        part = x0, y0 - y0 % 64, x1, y1
        both = Columns.of(refined[a], part).bits & Columns.of(refined[b], part).bits
        if not both.any():
            continue
        had_a, had_b = Columns.of(coarse[a], part).bits, Columns.of(coarse[b], part).bits
        rest = both & ~had_a & ~had_b
        a_first = confidence[a] >= confidence[b]
        lost.setdefault(a, []).append((*part[:2], (both & ~had_a & had_b) | (rest * (not a_first))))
        lost.setdefault(b, []).append((*part[:2], (both & ~had_b & had_a) | (rest * bool(a_first))))
    return [_without(mask, lost[n], coarse[n]) if n in lost else mask for n, mask in enumerate(refined)]


def companies(boxes: Sequence[tuple[int, int, int, int]], reach: int) -> list[list[int]]:
    """Which instances may come to share pixels, when no edge moves farther than `reach`.

    Args:
        boxes: (x, y, width, height) in px around each coarse mask.
        reach: in px.

    Returns:
        For each instance the indices, in order, of all that it is linked with by overlapping boxes, itself included.
        Those of one company share one list.
    """
    grown = np.array(boxes, np.int64).reshape(-1, 4)
    grown[:, 2:] += grown[:, :2] + reach
    grown[:, :2] -= reach
    company = [[n] for n in range(len(grown))]
    for a, b in _touching(grown, [True] * len(grown)):
        if company[a] is not company[b]:
            small, large = sorted((company[a], company[b]), key=len)
            large.extend(small)
            for n in small:
                company[n] = large
    for members in {id(members): members for members in company}.values():
        members.sort()
    return company


def _touching(boxes: NDArray[np.int64], changed: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Pairs (a < b) whose boxes (x0, y0, x1, y1) overlap and of which at least one was changed."""
    order = np.argsort(boxes[:, 0], kind="stable")
    # Sorted by their left side, all that can still touch follow, up to the first that begins right of this one.
    ends = np.searchsorted(boxes[order, 0], boxes[order, 2]).tolist()
    sides, numbers = boxes[order].tolist(), order.tolist()
    for place, n in enumerate(numbers):
        _, top, _, bottom = sides[place]
        for other in range(place + 1, ends[place]):
            m = numbers[other]
            left, first, right, last = sides[other]
            if min(bottom, last) > max(top, first) and right > left and (changed[n] or changed[m]):
                yield min(n, m), max(n, m)


def _without(mask: Rle, lost: list[Part], coarse: Rle) -> Rle:
    if not any(bits.any() for _, _, bits in lost):
        return mask
    x, y, width, height = mask.bbox
    region = x, y - y % 64, x + width, y + height
    kept = Columns.of(mask, region)
    for x0, y0, bits in lost:
        column, word = x0 - x, (y0 - region[1]) // 64
        kept.bits[column : column + bits.shape[0], word : word + bits.shape[1]] &= ~bits
    joined = connected_to(kept, Columns.of(coarse, region))
    return joined.to_rle(mask.height, mask.width, *region[:2])

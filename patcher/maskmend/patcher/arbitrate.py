"""Between instances: no pixel goes to two of them that their coarse masks did not share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.columns import Columns
from maskmend.patcher.errors import OptionError
from maskmend.patcher.rle import Rle
from maskmend.patcher.topology import connected_to


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
    lost: dict[int, list[tuple[int, int, NDArray[np.bool_]]]] = {}
    changed = [before is not after for before, after in zip(coarse, refined, strict=True)]
    boxes = np.array([mask.bbox for mask in refined], np.int64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    for a, b in _touching(boxes, changed):
        x0, y0 = (int(v) for v in np.maximum(boxes[a, :2], boxes[b, :2]))
        x1, y1 = (int(v) for v in np.minimum(boxes[a, 2:], boxes[b, 2:]))
        both = (refined[a].crop(x0, y0, x1, y1) & refined[b].crop(x0, y0, x1, y1)) > 0
        if not both.any():
            continue
        had_a, had_b = coarse[a].crop(x0, y0, x1, y1) > 0, coarse[b].crop(x0, y0, x1, y1) > 0
        a_first = confidence[a] >= confidence[b]
        lost.setdefault(a, []).append((x0, y0, both & ~had_a & (had_b | (not a_first))))
        lost.setdefault(b, []).append((x0, y0, both & ~had_b & (had_a | a_first)))
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
    for place, n in enumerate(order):
        # Sorted by their left side, all that can still touch follow, up to the first that begins right of this one.
        end = np.searchsorted(boxes[order, 0], boxes[n, 2])
        for m in order[place + 1 : end]:
            overlap = min(boxes[n, 3], boxes[m, 3]) > max(boxes[n, 1], boxes[m, 1])
            if overlap and boxes[m, 2] > boxes[m, 0] and (changed[n] or changed[m]):
                yield int(min(n, m)), int(max(n, m))


def _without(mask: Rle, lost: list[tuple[int, int, NDArray[np.bool_]]], coarse: Rle) -> Rle:
    if not any(part.any() for _, _, part in lost):
        return mask
    x, y, width, height = mask.bbox
    kept = mask.crop(x, y, x + width, y + height)
    for x0, y0, part in lost:
        kept[y0 - y : y0 - y + part.shape[0], x0 - x : x0 - x + part.shape[1]][part] = 0
    joined = connected_to(Columns.of_dense(kept), Columns.of(coarse, (x, y, x + width, y + height)))
    return joined.to_rle(mask.height, mask.width, x, y)

"""Which nodes to show the attention of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from maskmend.models.explain import Explanation

COUNT: Final = 3
"""Nodes that are picked where nobody says which."""


class Pick(NamedTuple):
    """A node: the index of its level, and its index there."""

    level: int
    node: int


def finest(explained: Explanation) -> int | None:
    """Index of the finest level that has nodes; None where there are none at all."""
    return max((n for n, level in enumerate(explained.levels) if len(level.row)), default=None)


def most_changed(explained: Explanation, count: int = COUNT) -> list[Pick]:
    """Nodes of the finest level whose probability changed most and that lie apart: a fifth of the crop, less where it must.

    Of nodes that changed as much, the better one first.
    """
    at = finest(explained)
    if at is None:
        return []
    level = explained.levels[at]
    order = np.argsort(-np.abs(level.after - level.before), kind="stable")
    wanted = min(count, len(order))
    apart = level.side / 5
    chosen: list[int] = []
    while len(chosen) < wanted:
        chosen = []
        for node in order.tolist():
            gaps = [np.hypot(level.row[node] - level.row[n], level.column[node] - level.column[n]) for n in chosen]
            if min(gaps, default=np.inf) >= apart:
                chosen.append(node)
            if len(chosen) == wanted:
                break
        apart = apart / 2
    return [Pick(at, node) for node in chosen]


def nearest(explained: Explanation, places: Sequence[tuple[float, float]]) -> list[Pick]:
    """The nodes of the finest level nearest to places (x, y), each a share of the crop; of equally near ones the better."""
    at = finest(explained)
    if at is None:
        return []
    level = explained.levels[at]
    x, y = (level.column + 0.5) / level.side, (level.row + 0.5) / level.side
    return [Pick(at, int(np.argmin(np.hypot(x - place[0], y - place[1])))) for place in places]

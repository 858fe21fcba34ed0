"""Nodes to show."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskmend.clients.explain.picks import finest, most_changed, nearest


class Level:
    """What `picks` asks of a level."""

    def __init__(self, side: int, cells: list[tuple[int, int]], changes: list[float]) -> None:
        self.side = side
        self.row, self.column = (np.array([cell[n] for cell in cells], np.int64) for n in (0, 1))
        self.before, self.after = np.zeros(len(cells), np.float32), np.array(changes, np.float32)


class Crop:
    def __init__(self, *levels: Level) -> None:
        self.levels = levels


def test_picked_nodes_changed_most_and_lie_apart() -> None:
    cells = [(10, 10), (10, 11), (60, 60), (10, 30), (61, 60)]
    crop: Any = Crop(Level(28, [(1, 1)], [1.0]), Level(112, cells, [0.9, -0.8, -0.7, 0.6, 0.95]), Level(224, [], []))
    assert finest(crop) == 1
    assert [pick.node for pick in most_changed(crop, 2)] == [4, 0]
    # The third lies nearer to the first than a fifth of the crop: all others do, too.
    assert [pick.node for pick in most_changed(crop)] == [4, 0, 3]
    assert [pick.node for pick in most_changed(crop, 9)] == [4, 0, 1, 2, 3]
    assert [pick.node for pick in nearest(crop, [(0.55, 0.55), (0.0, 0.0), (30.5 / 112, 0.1)])] == [4, 0, 3]
    nothing: Any = Crop(Level(28, [], []))
    assert finest(nothing) is None
    assert most_changed(nothing) == nearest(nothing, [(0.5, 0.5)]) == []

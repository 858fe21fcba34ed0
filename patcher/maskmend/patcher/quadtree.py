"""Quadtree of incoherent cells, and how refined values travel down it (Mask Transfiner, Ke et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import MaskError, OptionError
from maskmend.patcher.incoherence import MAX_SIDE, Upsampling, doubled
from maskmend.patcher.rle import is_whole

CHILDREN: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) of a cell's children within it, in the order in which candidates are listed."""


@dataclass(frozen=True, slots=True, eq=False)
class Quadtree:
    """Nodes of a quadtree as one sequence, coarse to fine, each level in raster order.

    Attributes:
        sides: cells along a side, one number per level, each twice the one before.
        nodes: int32 [N, 2], (row, column) of each node in cells of its own level.
        parents: int32 [N], index into `nodes` of each node's parent; -1 at the coarsest level.
        offsets: int64 [levels + 1]; the nodes of level l are those from offsets[l] to offsets[l + 1].
    """

    sides: tuple[int, ...]
    nodes: NDArray[np.int32]
    parents: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of nodes of each level, coarse to fine."""
        return tuple(int(count) for count in np.diff(self.offsets))

    def level(self, number: int) -> NDArray[np.int32]:
        """Nodes of one level, int32 [n, 2] (row, column); 0 is the coarsest."""
        return self.nodes[self.offsets[number] : self.offsets[number + 1]]

    def cells(self, number: int) -> NDArray[np.int64]:
        """Raster index (row * side + column) of the nodes of one level, int64 [n], ascending."""
        nodes = self.level(number).astype(np.int64)
        return nodes[:, 0] * self.sides[number] + nodes[:, 1]


@dataclass(frozen=True, slots=True, eq=False)
class TopNodes:
    """A level's slots, the best score first.

    Attributes:
        index: int64 [k], raster index (row * side + column) into the level; 0 where the slot is not valid.
        valid: bool [k]; valid slots come first and no two have the same index.
    """

    index: NDArray[np.int64]
    valid: NDArray[np.bool_]


def quadtree(maps: Sequence[NDArray[np.generic]]) -> Quadtree:
    """Nodes from maps: a cell is a node where its map says so and its parent is a node.

    Args:
        maps: bool or uint8 [s, s], [2s, 2s], ...: coarse to fine; every value but 0 says so. The side of the last is at
            most 4096.

    Raises:
        MaskError: there are no maps, or they are not such arrays.
    """
    sides = _sides(maps, "maps", "bool", "uint8")
    nodes: list[NDArray[np.int32]] = []
    parents: list[NDArray[np.int32]] = []
    number = np.zeros((0, 0), np.int32)
    before = 0
    for level, cells in enumerate(maps):
        here = cells != 0
        if level:
            above = number.repeat(2, 0).repeat(2, 1)
            here = here & (above >= 0)
        found = np.argwhere(here).astype(np.int32)
        nodes.append(found)
        parents.append(above[here] if level else np.full(len(found), -1, np.int32))
        number = np.full(here.shape, -1, np.int32)
        number[here] = np.arange(before, before + len(found), dtype=np.int32)
        before += len(found)
    offsets = np.cumsum([0, *map(len, nodes)]).astype(np.int64)
    return Quadtree(sides, np.concatenate(nodes), np.concatenate(parents), offsets)


def top_nodes(
    scores: Sequence[NDArray[np.float32]], k: Sequence[int], threshold: float | Sequence[float]
) -> list[TopNodes]:
    """Nodes from scores, a fixed number of slots per level: what the exported graph does.

    Candidates of the coarsest level are all its cells, those of each further level the four children of every slot
    above, in slot order and then in that of `CHILDREN`. A score below `threshold` counts as minus infinity, and so does
    that of a child of a slot that is not valid. The k best candidates, at equal scores the earlier ones, are the slots
    of the level. Slots at minus infinity, or without a candidate, are not valid.

    Args:
        scores: float32 [s, s], [2s, 2s], ...: coarse to fine, without NaN; the side of the last is at most 4096.
        k: slots per level, each 1 to 2**24.
        threshold: lowest score of a node, one for all levels or one per level, rounded to float32; minus infinity
            takes every cell.

    Returns:
        The slots of each level, coarse to fine.

    Raises:
        OptionError: scores, `k` or `threshold` are not as described.
    """
    try:
        sides = _sides(scores, "scores", "float32")
    except MaskError as error:
        raise OptionError(str(error), field="scores") from None
    if any(np.isnan(level).any() for level in scores):
        raise OptionError("scores hold NaN; send numbers", field="scores")
    if len(k) != len(sides) or not all(is_whole(most) and 1 <= most <= MAX_SIDE**2 for most in k):
        raise OptionError(f"k must be {len(sides)} integers from 1 to {MAX_SIDE**2}, one per level", field="k")
    thresholds = list(threshold) if isinstance(threshold, (list, tuple)) else [threshold] * len(sides)
    if len(thresholds) != len(sides) or not all(map(_is_number, thresholds)):
        raise OptionError(f"threshold must be a number, or {len(sides)}, one per level", field="threshold")
    with np.errstate(over="ignore"):
        lowest = np.array(thresholds, np.float64).astype(np.float32)
    found: list[TopNodes] = []
    for side, level, most, least in zip(sides, scores, k, lowest, strict=True):
        if found:
            candidates, open_ = _children(found[-1], side)
        else:
            candidates, open_ = np.arange(side * side), np.ones(side * side, np.bool_)
        values = level.reshape(-1)[candidates]
        values[~open_ | (values < least)] = -np.inf
        best = np.argsort(-values, kind="stable")[:most]
        valid = np.zeros(most, np.bool_)
        valid[: len(best)] = values[best] > -np.inf
        index = np.zeros(most, np.int64)
        index[: len(best)] = candidates[best]
        index[~valid] = 0
        found.append(TopNodes(index, valid))
    return found


def propagate(
    start: NDArray[np.float32],
    cells: Sequence[NDArray[np.integer[Any]]],
    values: Sequence[NDArray[np.float32]],
    *,
    upsampling: Upsampling = "nearest",
    inner: bool = True,
) -> NDArray[np.float32]:
    """Bring a coarse map to the finest level, with the values of nodes in their places.

    At each level, coarse to fine, the nodes' values overwrite the map; between levels it is doubled.

    Args:
        start: float32 [s, s], the map of the coarsest level. It is not changed.
        cells: per level, coarse to fine, the raster indices (row * side + column) of its nodes, integers [n], each but
            once: `Quadtree.cells`, or the valid part of `TopNodes.index`.
        values: per level float32 [n], in the same order.
        upsampling: ``"nearest"`` as in the paper, or ``"bilinear"`` (half-pixel centres) as in the official code.
        inner: whether nodes of the levels before the finest count; the finest ones always do.

    Returns:
        float32 [s * 2**(levels - 1), s * 2**(levels - 1)].

    Raises:
        MaskError: `start` is no such array, or the result would have a side above 4096.
        OptionError: cells, values or `upsampling` are not as described.
    """
    if upsampling not in ("nearest", "bilinear"):
        raise OptionError("upsampling must be 'nearest' or 'bilinear'", field="upsampling")
    if not cells or len(cells) != len(values):
        raise OptionError("cells and values must have one array per level, one level or more", field="cells")
    side = _side(start, "start", ("float32",), "start")
    # Compared by the number of levels first: 2**levels of a long list is a number of its own size.
    if len(cells) > MAX_SIDE.bit_length() or side * 2 ** (len(cells) - 1) > MAX_SIDE:
        raise MaskError(
            f"start of side {side} over {len(cells)} levels leads beyond a side of {MAX_SIDE}", field="start"
        )
    current = start.copy()
    for level, (places, new) in enumerate(zip(cells, values, strict=True)):
        if level:
            current = doubled(current, upsampling)
        _check_places(places, new, current.size, level)
        if inner or level == len(cells) - 1:
            current.reshape(-1)[places] = new
    return current


def _children(above: TopNodes, side: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Raster indices of the children of all slots at a level of the given side, and whether their parents are valid."""
    row, column = np.divmod(above.index, side // 2)
    steps = np.array(CHILDREN)
    rows = 2 * row[:, None] + steps[:, 0]
    columns = 2 * column[:, None] + steps[:, 1]
    return (rows * side + columns).reshape(-1), above.valid.repeat(4)


def _sides(arrays: object, field: str, *kinds: str) -> tuple[int, ...]:
    """Sides of square arrays, each twice the one before."""
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise MaskError(f"{field} must be a list of one array or more, coarse to fine", field=field)
    sides: list[int] = []
    for level, array in enumerate(arrays):
        side = _side(array, f"{field}[{level}]", kinds, field)
        if sides and side != 2 * sides[-1]:
            fault = f"{field}[{level}] has a side of {side} after {sides[-1]}"
            raise MaskError(f"{fault}; send them coarse to fine, each twice as large", field=field)
        sides.append(side)
    return tuple(sides)


def _side(array: object, where: str, kinds: tuple[str, ...], field: str) -> int:
    wanted = f"send {' or '.join(kinds)} [s, s]"
    if not isinstance(array, np.ndarray):
        raise MaskError(f"{where} is {type(array).__name__}; {wanted}", field=field)
    if array.dtype.str not in [np.dtype(kind).str for kind in kinds] or array.ndim != 2 or len(set(array.shape)) > 1:
        raise MaskError(f"{where} is {array.dtype} {list(array.shape)}; {wanted}", field=field)
    if not 1 <= len(array) <= MAX_SIDE:
        raise MaskError(f"{where} has a side of {len(array)}; use 1 to {MAX_SIDE}", field=field)
    return len(array)


def _is_number(value: object) -> bool:
    if isinstance(value, (float, np.floating)):
        return not np.isnan(value)
    return is_whole(value)


def _check_places(places: object, new: object, size: int, level: int) -> None:
    if not isinstance(places, np.ndarray) or places.ndim != 1 or places.dtype.kind not in "iu":
        raise OptionError(f"cells[{level}] must be an integer array with one axis", field="cells")
    if not isinstance(new, np.ndarray) or new.shape != places.shape or new.dtype != np.float32:
        raise OptionError(f"values[{level}] must be float32 [{len(places)}], one per cell", field="values")
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < size:
        raise OptionError(f"cells[{level}] hold an index outside 0 to {size - 1}", field="cells")
    if len(np.unique(places)) < len(places):
        raise OptionError(f"cells[{level}] name a cell twice; leave slots out that are not valid", field="cells")

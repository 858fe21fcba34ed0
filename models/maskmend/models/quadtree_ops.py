"""Quadtree nodes as tensors: which cells are nodes, what is read at them and written back, with static shapes.

A level is a square grid of cells over the crop. Levels go from coarse to fine, each of twice the side of the one before, so
that cell (row, column) has the children (2 row, 2 column), (2 row, 2 column + 1), (2 row + 1, 2 column) and
(2 row + 1, 2 column + 1). Everything here can be exported: the number of slots is fixed, and those left over are invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_NEVER = float("-inf")


class Nodes(NamedTuple):
    """Nodes of one level, best first.

    Attributes:
        row: int64 [B, k], 0 where the slot is invalid.
        column: int64 [B, k], likewise.
        valid: bool [B, k].
        side: of the level in cells.
    """

    row: Tensor
    column: Tensor
    valid: Tensor
    side: int

    @property
    def index(self) -> Tensor:
        """Raster index into the level, int64 [B, k]; 0 where the slot is invalid."""
        return self.row * self.side + self.column


def top_nodes(scores: Sequence[Tensor], k: Sequence[int], thresholds: Sequence[float]) -> list[Nodes]:
    """Choose the best cells of each level among the children of those chosen before.

    Agrees bit for bit with `maskmend.patcher.quadtree.top_nodes` where all thresholds are the same.

    Args:
        scores: float32 [B, s, s] per level, s twice that of the level before.
        k: slots per level.
        thresholds: per level; a cell below it is no node.

    Returns:
        Nodes per level by descending score; of equal ones the child of the earlier slot first, or the earlier child.
    """
    chosen: list[Nodes] = []
    for score, count, threshold in zip(scores, k, thresholds, strict=True):
        side = int(score.shape[-1])
        flat = score.flatten(1)
        if not chosen:
            cells = torch.arange(side, device=score.device)
            row = cells.repeat_interleave(side).expand_as(flat)
            column = cells.repeat(side).expand_as(flat)
            allowed = flat >= threshold
        else:
            parent = chosen[-1]
            child = torch.arange(4, device=score.device)
            row = (2 * parent.row.unsqueeze(2) + child // 2).flatten(1)
            column = (2 * parent.column.unsqueeze(2) + child % 2).flatten(1)
            flat = flat.gather(1, row * side + column)
            allowed = parent.valid.unsqueeze(2).expand(-1, -1, 4).flatten(1) & (flat >= threshold)
        flat = torch.where(allowed, flat, _NEVER)
        missing = count - int(flat.shape[1])
        if missing > 0:
            flat = functional.pad(flat, (0, missing), value=_NEVER)
            row, column = functional.pad(row, (0, missing)), functional.pad(column, (0, missing))
        best, at = _largest(flat, count)
        valid = best > _NEVER
        chosen.append(Nodes(row.gather(1, at) * valid, column.gather(1, at) * valid, valid, side))
    return chosen


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row and where they are; of equal ones the first."""
    if torch.onnx.is_in_onnx_export():
        # ONNX promises this order of equal values, PyTorch's own topk does not.
        best, at = torch.topk(values, count, dim=1)
    else:
        best, at = torch.sort(values, dim=1, descending=True, stable=True)
    return best[:, :count], at[:, :count]


def neighbourhoods(features: Tensor, nodes: Nodes) -> Tensor:
    """Read the 3x3 cells around each node in raster order, zeros beyond the crop.

    Args:
        features: float [B, C, s, s].
        nodes: of that level.

    Returns:
        float [B, k, 9, C].
    """
    channels, width = int(features.shape[1]), nodes.side + 2
    rows = functional.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
    around = torch.arange(9, device=features.device)
    # In the padded map the node's own cell is one further down and to the right.
    corner = nodes.row * width + nodes.column
    index = corner.unsqueeze(2) + (around // 3) * width + around % 3
    crop = torch.arange(index.shape[0], device=features.device) * (width * width)
    index = index + crop.view(-1, 1, 1)
    return rows.index_select(0, index.flatten()).reshape(-1, int(nodes.row.shape[1]), 9, channels)


def read_cells(values: Tensor, nodes: Nodes) -> Tensor:
    """Read one value per node: float [B, k] of [B, 1, s, s]."""
    return values.flatten(1).gather(1, nodes.index)


def write_cells(values: Tensor, nodes: Nodes, new: Tensor) -> Tensor:
    """Overwrite the cells of valid nodes.

    Args:
        values: float [B, 1, s, s].
        nodes: of that level; valid ones are unique.
        new: float [B, k].
    """
    flat = values.flatten(1)
    # Invalid slots have an index that a valid one may have too, so they write into a cell of their own behind the last.
    spare = torch.cat([flat, flat[:, :1]], 1)
    index = torch.where(nodes.valid, nodes.index, nodes.side * nodes.side)
    written = spare.scatter(1, index, new)[:, : nodes.side * nodes.side]
    # Not sizes: the exporter follows this, and so knows that there is one channel.
    return written.view_as(values)


def propagate(
    base: Tensor, nodes: Sequence[Nodes], new: Sequence[Tensor], side: int, *, mode: str, inner: bool
) -> Tensor:
    """Overwrite nodes level by level while the map grows.

    Args:
        base: float [B, 1, s, s], s the side of the coarsest level.
        nodes: per level, coarse to fine.
        new: float [B, k] per level.
        side: of the result in cells, s times a power of two.
        mode: `nearest` or `bilinear` (align_corners False) between levels.
        inner: False overwrites at the last of the levels only.

    Returns:
        float [B, 1, side, side].
    """
    corners = False if mode == "bilinear" else None
    values = base
    for level, (at, value) in enumerate(zip(nodes, new, strict=True)):
        if level:
            values = functional.interpolate(values, scale_factor=2.0, mode=mode, align_corners=corners)
        if inner or level == len(nodes) - 1:
            values = write_cells(values, at, value)
    while int(values.shape[-1]) < side:
        values = functional.interpolate(values, scale_factor=2.0, mode=mode, align_corners=corners)
    return values


def incoherent_maps(target: Tensor, levels: int, *, closed: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Cells whose detail is lost one level down: Eq. 1 of Mask Transfiner, as `max-pool differs from min-pool`.

    Args:
        target: uint8 [B, 1, S, S] with 0, 1 and 2 for unsure, S a multiple of `2 ** levels`.
        levels: how many, the finest of them of side S / 2.
        closed: a cell with an incoherent child counts as incoherent itself. Eq. 1 looks at every second pixel of the level
            below, and so leaves children without parents.

    Returns:
        Incoherent bool [B, 1, s, s] per level, coarse to fine; and which cells are sure, likewise.
    """
    true, unsure = (target == 1).float(), (target == 2).float()
    incoherent: list[Tensor] = []
    sure: list[Tensor] = []
    for level in range(levels):
        found = functional.max_pool2d(true, 2) != -functional.max_pool2d(-true, 2)
        known = functional.max_pool2d(unsure, 2) == 0
        found = found & known
        if closed and level:
            found = found | (functional.max_pool2d(incoherent[0].float(), 2) > 0)
        incoherent.insert(0, found)
        sure.insert(0, known)
        true, unsure = true[:, :, ::2, ::2], unsure[:, :, ::2, ::2]
    return incoherent, sure


def lost_maps(
    target: Tensor, coarse: Tensor, levels: int, *, closed: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Cells to look at: those that are incoherent, and those in which the coarse mask is wrong anywhere.

    In the paper the coarse mask is the truth made smaller, and Eq. 1 finds what it lost. One from anywhere is also wrong
    where the truth is all of one value.

    Args:
        target: see `incoherent_maps`, as for `levels` and `closed`.
        coarse: bool [B, 1, S, S].
        levels: see there.
        closed: see there.

    Returns:
        As `incoherent_maps`. With `closed`, wrong cells have parents too.
    """
    found, sure = incoherent_maps(target, levels, closed=closed)
    wrong = ((target == 1) ^ coarse) & (target != 2)
    pooled = [functional.max_pool2d(wrong.float(), 2 ** (levels - level)) > 0 for level in range(levels)]
    return [on | bad for on, bad in zip(found, pooled, strict=True)], sure


def passing_cells(mask: Tensor, levels: int) -> list[Tensor]:
    """Cells that a mask's own edge passes: those that are not constant together with the pixels around them.

    Args:
        mask: float [B, 1, S, S] of two values.
        levels: how many, the finest of them of side S / 2.

    Returns:
        bool [B, 1, s, s] per level, coarse to fine.
    """
    # Without the ring of one pixel an edge between two cells would pass neither.
    ringed = functional.pad(mask, (1, 1, 1, 1), mode="replicate")
    found = []
    for level in range(levels, 0, -1):
        size = 2**level
        pool = (size + 2, size)
        found.append(functional.max_pool2d(ringed, *pool) != -functional.max_pool2d(-ringed, *pool))
    return found


def spread(side: int, like: Tensor) -> Tensor:
    """A number of its own in [0, 1) for each cell: float [1, side, side], on the device of `like`.

    The cells above any value lie evenly over the level (multiples of the golden ratio).
    """
    turns = torch.arange(side * side, dtype=torch.float64) * ((math.sqrt(5) - 1) / 2)
    return (turns % 1).to(like).reshape(1, side, side)


def sine_table(side: int, channels: int) -> Tensor:
    """Sines and cosines of the place of each row (or column) of a level.

    Args:
        side: of the level in cells.
        channels: even; half of them sines.

    Returns:
        float32 [side, channels] of cell centres as a share of the crop, so that levels agree. Wavelengths run from twice the
        crop to a cell or two of 112.
    """
    centre = (torch.arange(side) + 0.5) / side
    half = channels // 2
    frequency = math.pi * 112 ** (torch.arange(half) / max(1, half - 1))
    angle = centre.unsqueeze(1) * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)

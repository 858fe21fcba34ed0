"""The picture of Mask Transfiner: nodes per level, how what they say travels from coarse to fine, what nodes look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.clients.explain.crop import Crop, turned
from maskmend.clients.explain.drawing import (
    BLACK,
    GAP,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    Key,
    Panel,
    Picture,
    View,
    caption,
    cells,
    cross,
    dimmed,
    figure,
    heat,
    label,
    laid_over,
    legend,
    row,
    scaled,
)
from maskmend.clients.explain.first_pass import FirstPass
from maskmend.clients.explain.overview import OUTLINES, boxes_on, instance_view, outlines_on, outlines_view, verdict
from maskmend.clients.explain.picks import Pick
from maskmend.patcher import Rle

if TYPE_CHECKING:
    from maskmend.models.explain import Look

SIDE: Final = 336
"""Of a panel in px: three for each of the 112 cells."""
WIDTH: Final = 5 * SIDE + 4 * GAP


def draw_transfiner(first: FirstPass, chosen: int, crop: Crop, picks: Sequence[Pick], title: str) -> Picture:
    """The whole picture.

    Args:
        first: of the instance.
        chosen: box in detail.
        crop: of that box.
        picks: nodes to show the attention of.
        title: one line on top.
    """
    parts = [caption(title, WIDTH, scale=0.62), row([*_overview(first, chosen), *_nodes(crop)], SIDE)]
    keys = [
        *OUTLINES,
        *[Key("every box before suppression", GREY, line=True)] * (len(first.dense) > 1),
        *[Key("box", YELLOW, line=True)] * (len(first.boxes) > 1),
        Key(f"box {chosen}", PURPLE, line=True),
        Key("nodes", ORANGE),
    ]
    parts += [legend(keys, WIDTH), row(_propagation(crop), SIDE)]
    parts.append(
        legend(
            [
                Key("foreground probability 0 to 1"),
                Key("where it is one half", SKY, line=True),
                Key("where it was", RED, line=True),
            ],
            WIDTH,
        )
    )
    if not picks or not crop.explained.attention:
        why = "there are no nodes in this box" if not picks else "the network has none, or too many nodes to keep it"
        return figure([*parts, caption(f"No attention to show: {why}.", WIDTH)])
    for number, pick in enumerate(picks):
        parts.append(row(_attention(crop, number, pick), SIDE))
    scale = "attention of the node at the cross: from 0 to what one of a hundred others gets, or more"
    return figure([*parts, legend([Key(scale)], WIDTH)])


def _overview(first: FirstPass, chosen: int) -> list[Panel]:
    view = instance_view(first, SIDE, SIDE)
    count = len(first.boxes)
    boxes = f"{count} of {len(first.dense)} boxes" if len(first.dense) > 1 else "one box"
    return [
        Panel(
            boxes_on(first, view, chosen, [chosen]),
            f"1. The instance: {boxes} of {first.side} px; box {chosen} in detail",
        ),
        Panel(outlines_on(first, outlines_view(first, SIDE, SIDE)), verdict(first)),
    ]


def _nodes(crop: Crop) -> list[Panel]:
    panels = []
    ground = scaled(crop.photo, (SIDE, SIDE))
    for number, level in enumerate(crop.explained.levels):
        count = len(level.row)
        picture = laid_over(ground, ORANGE, 0.62 * _cells(level.side, level.row, level.column))
        text = f"{level.side}x{level.side}: {count} nodes, {count / level.side**2:.1%} of the crop"
        used = f", all {level.slots} slots used" if count == level.slots else ""
        panels.append(Panel(picture, f"{'2. ' if not number else ''}{text}{used}"))
    return panels


def _cells(side: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 in some cells of a level, with lines between cells that have room for them: float32 [SIDE, SIDE]."""
    on = np.zeros((side, side), np.float32)
    on[rows, columns] = 1
    drawn = cells(on, SIDE)
    size = SIDE // side
    if size > 4:
        drawn[size - 1 :: size] = 0
        drawn[:, size - 1 :: size] = 0
    return drawn


def _propagation(crop: Crop) -> list[Panel]:
    explained = crop.explained
    panels = [Panel(_probability_on(crop, explained.coarse), "3. The coarse mask, as the network has it")]
    before = explained.coarse
    for level, values in zip(explained.levels, explained.maps, strict=True):
        moved = turned(before, values)
        text = f"after {level.side}x{level.side}: {moved} of 112x112 cells changed sides"
        panels.append(Panel(_probability_on(crop, values), text))
        before = values
    moved = turned(explained.coarse, explained.maps[-1])
    panels.append(
        Panel(
            _probability_on(crop, explained.probability),
            f"the probability given back: {moved} cells changed sides in all",
        )
    )
    return panels


def _probability_on(crop: Crop, values: NDArray[np.float32]) -> Picture:
    picture = laid_over(dimmed(scaled(crop.photo, (SIDE, SIDE))), heat(_spread_out(values)), 0.65)
    for each, colour in ((crop.explained.coarse, RED), (values, SKY)):
        View(0, 0, each.shape[1], each.shape[0], SIDE / each.shape[0]).outline(
            picture, Rle.from_dense(each > 0.5), colour, 1
        )
    return picture


def _spread_out(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square values at the size of a panel."""
    return np.asarray(cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT), np.float32)


def _attention(crop: Crop, number: int, pick: Pick) -> list[Panel]:
    level = crop.explained.levels[pick.level]
    x, y = crop.place(pick)
    before, after = level.before[pick.node], level.after[pick.node]
    name = f"{'4. ' if not number else ''}Node {number + 1} at ({x:.1f}, {y:.1f})"
    panels = [Panel(_close(crop, pick, number), f"{name}: probability {before:.2f} before, {after:.2f} after")]
    for rollout in (False, True):
        look = crop.explained.look(*pick, rollout=rollout)
        which = "all layers" if rollout else "last layer"
        nodes = sum(float(weights.sum()) for weights in look.nodes)
        itself = float(look.nodes[pick.level][pick.node])
        text = f"{which}: all nodes get {nodes:.0%}, the node itself {itself:.1%}"
        panels.append(Panel(_marked(crop, pick, _nodes_heat(crop, pick, look)), text))
        if look.reference is not None:
            picture = laid_over(
                dimmed(scaled(crop.photo, (SIDE, SIDE))),
                heat(cells(look.reference / _bright(look.reference), SIDE)),
                0.65,
            )
            text = f"{which}: the 14x14 reference tokens get {1 - nodes:.0%}"
            panels.append(Panel(_marked(crop, pick, picture), text))
    return panels


def _bright(weights: NDArray[np.float32]) -> float:
    """What the brightest colour stands for: a few of very many would leave the others dark."""
    return max(float(np.quantile(weights, 0.99)), 1e-9) if weights.size else 1.0


def _nodes_heat(crop: Crop, pick: Pick, look: Look) -> Picture:
    others = np.concatenate(
        [np.delete(weights, pick.node) if n == pick.level else weights for n, weights in enumerate(look.nodes)]
    )
    picture = dimmed(scaled(crop.photo, (SIDE, SIDE)))
    for level, weights in zip(crop.explained.levels, look.nodes, strict=True):
        # Children are drawn over their parents.
        values = np.zeros((level.side, level.side), np.float32)
        values[level.row, level.column] = weights / _bright(others)
        picture = laid_over(picture, heat(cells(values, SIDE)), 0.9 * _cells(level.side, level.row, level.column))
    return picture


def _marked(crop: Crop, pick: Pick, picture: Picture) -> Picture:
    x, y = crop.share(*crop.place(pick))
    cross(picture, round(x * SIDE), round(y * SIDE))
    return picture


def _close(crop: Crop, pick: Pick, number: int) -> Picture:
    """A quarter of the crop round a node, the node's cell framed."""
    x, y = crop.share(*crop.place(pick))
    size = crop.photo.shape[0]
    quarter = size // 4
    left, top = (min(max(round(v * size) - quarter // 2, 0), size - quarter) for v in (x, y))
    view = View(left, top, left + quarter, top + quarter, SIDE / quarter)
    picture = view.photo(crop.photo)
    unit = size / crop.explained.levels[pick.level].side
    finest = crop.explained.maps[-1].shape[0]
    for values, colour in ((crop.explained.coarse, RED), (crop.explained.maps[-1], SKY)):
        # Outlines are those of the 112 cells, which the photograph has two px for.
        large = Rle.from_dense(cells(values > 0.5, size // finest * finest))
        view.outline(picture, large, colour)
    half = unit / 2
    view.box(picture, [x * size - half, y * size - half, x * size + half, y * size + half], BLACK, 5)
    view.box(picture, [x * size - half, y * size - half, x * size + half, y * size + half], YELLOW, 2)
    px, py = view.place(x * size, y * size)
    label(picture, str(number + 1), px, py - round(half * view.scale) - 14)
    cv2.rectangle(picture, (0, 0), (SIDE - 1, SIDE - 1), BLACK, 1)
    return picture

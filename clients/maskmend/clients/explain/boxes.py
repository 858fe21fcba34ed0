"""The picture for any refiner: where its boxes lie, what it says of their crops, what comes of it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.clients.explain.drawing import (
    BLACK,
    GAP,
    GREY,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    Colour,
    Key,
    Panel,
    Picture,
    View,
    caption,
    dimmed,
    figure,
    heat,
    label,
    laid_over,
    legend,
    row,
)
from maskmend.clients.explain.first_pass import FirstPass
from maskmend.clients.explain.overview import OUTLINES, boxes_on, instance_view, outlines_on, verdict
from maskmend.patcher import Rle
from maskmend.patcher.field import probability_field

WIDTH: Final = 1728
_LARGE: Final = (WIDTH - 2 * GAP) // 3
_COLUMNS: Final = 8
_FEW: Final = 2
_WIDE: Final = (WIDTH - 3 * GAP) // 4
_MOST: Final = 280


def draw_boxes(first: FirstPass, chosen: int, title: str) -> Picture:
    """The whole picture.

    Args:
        first: of the instance.
        chosen: box in detail, the first of the strip.
        title: one line on top.
    """
    shown = shown_boxes(first, chosen)
    view = instance_view(first, _LARGE, _LARGE)
    panels = [
        Panel(
            boxes_on(first, view, chosen, shown),
            f"1. Boxes of {first.side} px: {len(first.dense)} along the boundary, {len(first.boxes)} kept at an IoU "
            f"below {first.nms:g}",
        ),
        Panel(
            _probability_on(first, view),
            "2. Foreground probability in the first pass, averaged over the boxes that cover a pixel",
        ),
        Panel(outlines_on(first, view), f"3. {verdict(first)}"),
    ]
    others = [Key("kept, shown below", SKY, line=True)] * (len(shown) > 1)
    others += [Key("kept", YELLOW, line=True)] * (len(shown) < len(first.boxes))
    keys = [
        Key("every box", GREY, line=True),
        *others,
        Key(f"box {chosen}", PURPLE, line=True),
        Key("probability 0 to 1"),
        *OUTLINES,
    ]
    return figure(
        [
            caption(title, WIDTH, scale=0.62),
            row(panels, _LARGE),
            legend(keys, WIDTH),
            caption(f"4. {_strip_title(first, shown, chosen)}", WIDTH),
            *_strip(first, shown),
        ]
    )


def shown_boxes(first: FirstPass, chosen: int) -> list[int]:
    """The boxes of the strip: the chosen one, then the most changed others."""
    changed = first.changed()
    others = [int(n) for n in np.argsort(-changed, kind="stable") if n != chosen]
    return [chosen, *others][:_COLUMNS]


def _probability_on(first: FirstPass, view: View) -> Picture:
    field = probability_field(first.boxes, first.probabilities, (view.x0, view.y0, view.x1, view.y1)).mean
    seen = np.isfinite(field)
    values = view.values(np.where(seen, field, 0).astype(np.float32))
    return laid_over(dimmed(view.photo(first.image)), heat(values), 0.7 * view.values(seen.astype(np.float32)))


def _strip_title(first: FirstPass, shown: list[int], chosen: int) -> str:
    changed = first.changed()
    most = f"Box {chosen} and the boxes that changed most" if len(shown) > 1 else f"Box {chosen}, the only one"
    numbers = ", ".join(f"{n}: {changed[n]} px" for n in shown)
    return f"{most} in the first pass ({numbers})"


def _strip(first: FirstPass, shown: list[int]) -> list[Picture]:
    """Image, coarse mask, probability and result of boxes: one box a column, or a row where there are few."""
    few = len(shown) <= _FEW
    tile = _WIDE if few else min(_MOST, (WIDTH - (len(shown) - 1) * GAP) // len(shown))
    views = [View.within(first.boxes[n].tolist(), tile, tile) for n in shown]
    photos = [view.photo(first.image) for view in views]
    said = [heat(view.values(first.probabilities[n])) for n, view in zip(shown, views, strict=True)]
    kinds = {
        "image": photos,
        "coarse mask": _masks_on(photos, views, first.coarse, RED),
        "foreground probability that the network gives": said,
        "after the first pass": _masks_on(photos, views, first.refined, SKY),
    }
    for tiles in kinds.values():
        for number, each in zip(shown, tiles, strict=True):
            label(each, str(number), 0, 0)
            cv2.rectangle(each, (0, 0), (tile - 1, tile - 1), BLACK, 1)
    if few:
        return [row([Panel(tiles[n], name) for name, tiles in kinds.items()], tile) for n in range(len(shown))]
    return [
        part
        for name, tiles in kinds.items()
        for part in (caption(name, WIDTH), row([Panel(t, "") for t in tiles], tile))
    ]


def _masks_on(photos: list[Picture], views: list[View], mask: Rle, colour: Colour) -> list[Picture]:
    made = []
    for photo, view in zip(photos, views, strict=True):
        inside: NDArray[np.float32] = view.values(mask.crop(view.x0, view.y0, view.x1, view.y1)).astype(np.float32)
        tile = laid_over(photo, colour, 0.35 * inside)
        view.outline(tile, mask, colour)
        made.append(tile)
    return made

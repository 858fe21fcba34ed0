"""What the pictures of all refiners begin with: the instance, the boxes along it, its outlines, what became of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.explain.drawing import (
    BLACK,
    GREEN,
    GREY,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    Key,
    Picture,
    View,
    label,
    laid_over,
)
from maskmend.clients.explain.first_pass import FirstPass

_RIM: Final = 6
OUTLINES: Final = (
    Key("coarse mask", RED, line=True),
    Key("after the first pass", SKY, line=True),
    Key("result of all passes and the guard", GREEN, line=True),
)
"""Of the legend, for `outlines_on`."""


def instance_view(first: FirstPass, width: int, height: int) -> View:
    """The instance with its boxes, as large as fits; nothing beyond the image's frame."""
    x, y, w, h = first.coarse.bbox
    (left, top), (right, bottom) = first.boxes[:, :2].min(0), first.boxes[:, 2:].max(0)
    region = (
        max(0, min(left, x) - _RIM),
        max(0, min(top, y) - _RIM),
        min(first.coarse.width, max(right, x + w) + _RIM),
        min(first.coarse.height, max(bottom, y + h) + _RIM),
    )
    return View.within(region, width, height)


def outlines_view(first: FirstPass, width: int, height: int) -> View:
    """The instance before and after, as large as fits."""
    found = [mask.bbox for mask in (first.coarse, first.refined, first.result.mask) if mask.area]
    x0, y0 = min(x for x, _, _, _ in found), min(y for _, y, _, _ in found)
    x1, y1 = max(x + w for x, _, w, _ in found), max(y + h for _, y, _, h in found)
    frame = first.coarse
    region = (max(0, x0 - _RIM), max(0, y0 - _RIM), min(frame.width, x1 + _RIM), min(frame.height, y1 + _RIM))
    return View.within(region, width, height)


def boxes_on(first: FirstPass, view: View, chosen: int, numbered: list[int]) -> Picture:
    """The photograph with all boxes, those kept and the chosen one; `numbered` ones have their number."""
    picture = laid_over(view.photo(first.image), BLACK, 0.3)
    # Thousands of boxes would hide everything: each is faint, and where many lie they add up.
    veil: NDArray[np.float32] = np.zeros(picture.shape[:2], np.float32)
    for box in first.dense.tolist():
        (left, top), (right, bottom) = view.place(*box[:2]), view.place(*box[2:])
        left, top, right, bottom = max(left, 0), max(top, 0), max(right, 1), max(bottom, 1)
        for x in (left, right - 1):
            veil[top:bottom, min(x, veil.shape[1] - 1)] += 1
        for y in (top, bottom - 1):
            veil[min(y, veil.shape[0] - 1), left:right] += 1
    usual = max(1.5, float(veil[veil > 0].mean()) if veil.any() else 0.0)
    picture = laid_over(picture, GREY, 0.75 * (1 - np.exp(-0.5 * veil / usual)))
    view.outline(picture, first.coarse, RED)
    for number, box in enumerate(first.boxes.tolist()):
        if number not in numbered:
            view.box(picture, box, YELLOW)
    for number in reversed(numbered):
        view.box(picture, first.boxes[number].tolist(), PURPLE if number == chosen else SKY, 2)
    for number in reversed(numbered):
        x0, y0, x1, y1 = first.boxes[number].tolist()
        label(picture, str(number), *view.place((x0 + x1) / 2, (y0 + y1) / 2))
    return picture


def outlines_on(first: FirstPass, view: View) -> Picture:
    """The photograph with the outlines before, after the first pass, and in the end."""
    picture = view.photo(first.image)
    for mask, colour in ((first.coarse, RED), (first.refined, SKY), (first.result.mask, GREEN)):
        view.outline(picture, mask, colour)
    return picture


def verdict(first: FirstPass) -> str:
    """What became of the instance, in one sentence."""
    result = first.result
    if result.abstained:
        return f"Kept as it came: {result.abstained}"
    return f"Result: {result.changed_pixels} px changed after {result.patches} boxes in all passes, score {result.score:.2f}"

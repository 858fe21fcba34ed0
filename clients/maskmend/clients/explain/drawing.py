"""What pictures are put together from: views of an image, cells and heat over it, captions, legends, rows of panels.

Pictures are uint8 [H, W, 3] RGB. Colours are those of Okabe and Ito, which people with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle
from maskmend.patcher.outlines import trace

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""
Colour = tuple[int, int, int]

ORANGE: Final = (230, 159, 0)
SKY: Final = (86, 180, 233)
GREEN: Final = (0, 158, 115)
YELLOW: Final = (240, 228, 66)
RED: Final = (213, 94, 0)
PURPLE: Final = (204, 121, 167)
BLACK: Final = (0, 0, 0)
WHITE: Final = (255, 255, 255)
GREY: Final = (190, 190, 190)

GAP: Final = 12
MARGIN: Final = 20
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_SCALE: Final = 0.47
_LINE: Final = 19
_FRACTION: Final = 4
"""Bits behind the point of what OpenCV draws: edges of pixels do not fall on whole pixels of a scaled picture."""


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of an image, scaled to a picture.

    Attributes:
        x0: left side in px of the image, as are `y0`, `x1` and `y1`; it may lie beyond the frame.
        y0: see there.
        x1: see there.
        y1: see there.
        scale: px of the picture per px of the image.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float

    @classmethod
    def within(cls, region: Sequence[int], width: int, height: int) -> View:
        """As large as fits `width` x `height` px."""
        x0, y0, x1, y1 = (int(value) for value in region)
        return cls(x0, y0, x1, y1, min(width / (x1 - x0), height / (y1 - y0)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture in px."""
        return max(1, round((self.x1 - self.x0) * self.scale)), max(1, round((self.y1 - self.y0) * self.scale))

    def photo(self, image: Picture) -> Picture:
        """The image there; beyond its frame its border is repeated, as in patches."""
        height, width = image.shape[:2]
        if 0 <= self.y0 < self.y1 <= height and 0 <= self.x0 < self.x1 <= width:
            return scaled(image[self.y0 : self.y1, self.x0 : self.x1], self.size)
        rows = np.arange(self.y0, self.y1).clip(0, height - 1)
        columns = np.arange(self.x0, self.x1).clip(0, width - 1)
        return scaled(image[rows[:, None], columns], self.size)

    def values(self, values: NDArray[Any]) -> NDArray[Any]:
        """One value per px of the rectangle, float or bool [y1 - y0, x1 - x0], at the size of the picture."""
        return np.asarray(cv2.resize(values, self.size, interpolation=cv2.INTER_NEAREST_EXACT))

    def outline(self, picture: Picture, mask: Rle, colour: Colour, thickness: int = 2) -> None:
        """Draw the outline of a mask and of its holes, along the sides of its pixels."""
        # Where the object leaves the rectangle it is cut beyond the picture, so that the cut is not seen.
        rim = 2 + int(np.ceil(thickness / self.scale))
        framed = np.pad(mask.crop(self.x0 - rim, self.y0 - rim, self.x1 + rim, self.y1 + rim), 1)
        corners, ends, _ = trace(framed)
        shift = (corners - (1 + rim)) * self.scale
        for start, stop in pairwise([0, *ends.tolist()]):
            _lines(picture, shift[start:stop], colour, thickness)

    def box(self, picture: Picture, box: Sequence[int], colour: Colour, thickness: int = 1) -> None:
        """Draw a box (x0, y0, x1, y1) in px of the image."""
        left, top, right, bottom = (
            (value - origin) * self.scale for value, origin in zip(box, (self.x0, self.y0) * 2, strict=True)
        )
        _lines(picture, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), colour, thickness)

    def place(self, x: float, y: float) -> tuple[int, int]:
        """A point of the image in px of the picture."""
        return round((x - self.x0) * self.scale), round((y - self.y0) * self.scale)


def _lines(picture: Picture, corners: NDArray[Any], colour: Colour, thickness: int) -> None:
    # Coordinates of OpenCV are those of pixels' centres.
    points = np.round((corners - 0.5) * 2**_FRACTION).astype(np.int32)
    cv2.polylines(picture, [points], True, colour, thickness, cv2.LINE_AA, _FRACTION)


def scaled(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture of another width and height in px."""
    smaller = size[0] < picture.shape[1]
    made = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(made, np.uint8)


def dimmed(picture: Picture) -> Picture:
    """In grey and darker, for heat to stand out from."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.repeat((grey * 0.7).astype(np.uint8)[:, :, None], 3, axis=2)


def heat(values: NDArray[Any]) -> Picture:
    """Viridis colours of values 0 to 1, float [H, W]."""
    levels = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, :, ::-1], np.uint8)


def laid_over(picture: Picture, over: Picture | Colour, share: NDArray[Any] | float) -> Picture:
    """One picture, or colour, over another; `share` of it is seen, a number or float [H, W]."""
    weight = np.asarray(share, np.float32)
    weight = weight[:, :, None] if weight.ndim == 2 else weight
    mixed = picture * (1 - weight) + np.asarray(over, np.float32) * weight
    return np.asarray(np.round(mixed), np.uint8)


def cells(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Values of square cells, float or bool [s, s], at `side` px, a multiple of s."""
    size = side // values.shape[0]
    return np.repeat(np.repeat(values, size, axis=0), size, axis=1)


def cross(picture: Picture, x: int, y: int, colour: Colour = WHITE) -> None:
    """Mark a point, seen on any ground."""
    for thickness, shade in ((5, BLACK), (2, colour)):
        for dx, dy in ((1, 1), (1, -1)):
            cv2.line(picture, (x - 7 * dx, y - 7 * dy), (x + 7 * dx, y + 7 * dy), shade, thickness, cv2.LINE_AA)


def label(picture: Picture, text: str, x: int, y: int) -> None:
    """Write a short text, white on a black plate, centred on a point and within the picture."""
    (width, height), below = cv2.getTextSize(text, _FONT, _SCALE, 1)
    left = min(max(x - width // 2, 4), picture.shape[1] - width - 5)
    base = min(max(y + height // 2, height + 4), picture.shape[0] - below - 1)
    cv2.rectangle(picture, (left - 4, base - height - 4), (left + width + 4, base + 4), BLACK, -1)
    cv2.putText(picture, text, (left, base), _FONT, _SCALE, WHITE, 1, cv2.LINE_AA)


def caption(text: str, width: int, *, lines: int = 0, scale: float = _SCALE) -> Picture:
    """Text on white, broken to a width in px; at least `lines` lines high."""
    broken = _broken(text, width, scale)
    step = round(_LINE * scale / _SCALE)
    out = np.full((step * max(lines, len(broken)) + 4, width, 3), 255, np.uint8)
    for number, line in enumerate(broken):
        cv2.putText(out, line, (0, step * (number + 1) - 5), _FONT, scale, BLACK, 1, cv2.LINE_AA)
    return out


def lines_of(text: str, width: int) -> int:
    """Lines that a caption takes."""
    return len(_broken(text, width, _SCALE))


def _broken(text: str, width: int, scale: float) -> list[str]:
    lines: list[str] = []
    # Its letters are those of ASCII.
    for word in text.encode("ascii", "replace").decode("ascii").split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and cv2.getTextSize(longer, _FONT, scale, 1)[0][0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Panel(NamedTuple):
    """A picture and what it says."""

    picture: Picture
    text: str


def row(panels: Sequence[Panel], width: int) -> Picture:
    """Panels side by side, each in a column of `width` px, captions above where there are any."""
    lines = max(lines_of(panel.text, width) for panel in panels)
    height = max(panel.picture.shape[0] for panel in panels)
    columns = []
    for panel in panels:
        h, w = panel.picture.shape[:2]
        column = np.full((height, width, 3), 255, np.uint8)
        left = (width - w) // 2
        column[:h, left : left + w] = panel.picture
        columns.append(np.vstack([caption(panel.text, width, lines=lines), column]) if lines else column)
    gap = np.full((columns[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for column in columns for part in (gap, column)][1:]
    return np.hstack(parts)


class Key(NamedTuple):
    """One entry of a legend: what a colour means; without one, what viridis does."""

    text: str
    colour: Colour | None = None
    line: bool = False


def legend(keys: Sequence[Key], width: int) -> Picture:
    """What colours mean, from left to right, in as many lines as it takes."""
    lines: list[list[Picture]] = [[]]
    room = width
    for key in keys:
        entry = _entry(key, width)
        if entry.shape[1] > room and lines[-1]:
            lines.append([])
            room = width
        lines[-1].append(entry)
        room -= entry.shape[1]
    return np.vstack([_wide(np.hstack(line), width) for line in lines])


def _entry(key: Key, most: int) -> Picture:
    swatch = 90 if key.colour is None else 26
    text_width = cv2.getTextSize(key.text, _FONT, _SCALE, 1)[0][0]
    out = np.full((24, min(most, swatch + 8 + text_width + 26), 3), 255, np.uint8)
    if key.colour is None:
        out[6:18, :swatch] = heat(np.tile(np.linspace(0, 1, swatch), (12, 1)))
    elif key.line:
        out[10:14, :swatch] = key.colour
    else:
        out[5:19, :swatch] = key.colour
    cv2.putText(out, key.text, (swatch + 8, 17), _FONT, _SCALE, BLACK, 1, cv2.LINE_AA)
    return out


def figure(parts: Sequence[Picture]) -> Picture:
    """Rows from top to bottom, on white."""
    width = max(part.shape[1] for part in parts)
    gap = np.full((GAP, width, 3), 255, np.uint8)
    rows = [each for part in parts for each in (gap, _wide(part, width))][1:]
    return np.pad(np.vstack(rows), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255)


def _wide(part: Picture, width: int) -> Picture:
    return np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255)


def as_png(picture: Picture) -> bytes:
    """The file of a picture."""
    return bytes(cv2.imencode(".png", picture[:, :, ::-1])[1])

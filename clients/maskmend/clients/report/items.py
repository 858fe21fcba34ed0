"""What a report is made of: instances with two masks each, and what is said about all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskmend.clients.formats.base import Instance
from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement
from maskmend.patcher.guard import changed_pixels, edge_length

LIMIT = 5000
"""Instances that a page shows unless told otherwise: the most changed ones."""
SIDE = 512
"""Longest side of a photograph's crop in px, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Item:
    """One instance, read when its turn comes.

    Attributes:
        number: of its record in the file, from 0.
        instance: what the file says of it.
        photograph: gives its path; may raise ImageError.
        masks: gives the masks before and after, of the height and width in px that it is called with; may raise MaskError.
        confidence: 0 to 1, see `RefinedInstance`; None where nobody knows.
        score: the same.
        abstained: why the mask was kept; None when it was not.
    """

    number: int
    instance: Instance
    photograph: Callable[[], Path]
    masks: Callable[[int, int], tuple[Rle, Rle]]
    confidence: float | None = None
    score: float | None = None
    abstained: str | None = None


@dataclass(frozen=True)
class About:
    """What a page says besides its instances. All of it may come from strangers; the page shows it as text.

    Attributes:
        title: of the page.
        sides: what the masks before and after are called.
        counts: figures for the head of the page: name, value, and a few words or none.
        facts: what made the masks: name and value.
        errors: records that were left alone: `index`, `code`, `message`.
        totals: heading and rows of a table of scores, see `totals_table`; empty without ground truth.
        note: why there are no totals though ground truth was given.
        labels: names of categories by COCO's id, for files that name none themselves.
    """

    title: str
    sides: tuple[str, str] = ("coarse", "refined")
    counts: Sequence[tuple[str, int, str]] = ()
    facts: Sequence[tuple[str, str]] = ()
    errors: Sequence[dict[str, Any]] = ()
    totals: Sequence[Sequence[str]] = field(default_factory=list)
    note: str = ""
    labels: Mapping[Any, str] = field(default_factory=dict)

    def label(self, instance: Instance) -> str:
        """The name of an instance's category: its own, else that of its id, else the id itself."""
        number = instance.fields.get("category_id")
        if instance.label or not isinstance(number, (int, str)):
            return instance.label
        return self.labels.get(number) or f"category {number}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What changed between two masks of one size.

    Attributes:
        changed: pixels in which they differ.
        farthest: farthest that a changed pixel lies from the mask before, in px; see `max_displacement`.
        shift: pixels added less pixels removed, over the length of the edge before: how far it moved outwards on
            average, in px. 0 where there was no edge.
        area: pixels of the mask after.
    """

    changed: int
    farthest: float
    shift: float
    area: int


def measure(before: Rle, after: Rle) -> Figures:
    """What changed between two masks of one size."""
    changed = changed_pixels(before, after)
    if not changed:
        return Figures(0, 0.0, 0.0, after.area)
    x, y, width, height = before.bbox
    edge = edge_length(before.crop(x - 1, y - 1, x + width + 1, y + height + 1)) if width else 0
    shift = (after.area - before.area) / edge if edge else 0.0
    return Figures(changed, max_displacement(before, after), shift, after.area)

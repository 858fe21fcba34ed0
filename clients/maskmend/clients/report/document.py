"""The report as data: what the page's script reads. Everything that is said of all instances is worked out here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskmend.clients.evaluate import TOLERANCE
from maskmend.clients.report.histograms import histogram, steps
from maskmend.clients.report.items import About, Figures, Item
from maskmend.clients.report.truth import MEASURES, Fit

COLUMNS = (
    *("number", "image", "label", "outcome", "changed", "farthest", "shift", "area"),
    *("confidence", "score", "segmenter", "before", "after"),
)
CHANGED, SAME = "changed", "unchanged"
ERRORS_LISTED = 200
LONGEST_TEXT = 300


@dataclass(slots=True)
class Row:
    """What is known of an instance.

    Attributes:
        item: the instance.
        image: name of its photograph.
        figures: what changed.
        fit: of its masks to the true one; None where there is none.
        place: where its crop waits, and how many bytes it has; None where it has none.
    """

    item: Item
    image: str
    figures: Figures
    fit: Fit | None
    place: tuple[int, int] | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """The larger, the more changed; of equals the earlier record first."""
        return self.figures.changed, -self.item.number


def document(
    rows: Sequence[Row], shown: Sequence[Row], failed: Sequence[dict[str, Any]], about: About, with_truth: bool
) -> dict[str, Any]:
    """What the page's script reads.

    Args:
        rows: all instances that could be measured.
        shown: those that have a crop, in the order of their crops.
        failed: those that could not be measured: `index`, `code`, `message`.
        about: what else the page says.
        with_truth: whether there is ground truth.

    Returns:
        JSON values only. `rows` holds a list for each instance shown, in the order of `columns`; names of images, labels and
        outcomes are numbers in it. No text is longer than `LONGEST_TEXT`.
    """
    errors = [*about.errors, *failed]
    outcomes = [CHANGED, SAME]
    outcomes += [
        reason for reason, _ in Counter(row.item.abstained for row in rows if row.item.abstained).most_common()
    ]
    tallied = Counter(_outcome(row) for row in rows)
    images = list(dict.fromkeys(row.image for row in shown))
    named = [about.label(row.item.instance) for row in shown]
    labels = sorted(set(named))
    numbers = [{name: n for n, name in enumerate(names)} for names in (images, labels, outcomes)]
    return {
        "title": shown_text(about.title),
        "sides": [shown_text(name) for name in about.sides],
        "counts": [[shown_text(name), value, shown_text(hint)] for name, value, hint in about.counts],
        "outcomes": [[shown_text(name), tallied[name]] for name in outcomes],
        "histograms": _histograms(rows),
        "gains": _gains(rows) if with_truth else None,
        "totals": [[shown_text(cell) for cell in row] for row in about.totals],
        "note": shown_text(about.note),
        "facts": [[shown_text(name), shown_text(value)] for name, value in about.facts],
        "errors": [
            [e.get("index"), shown_text(e.get("code")), shown_text(e.get("message"))] for e in errors[:ERRORS_LISTED]
        ],
        "failed": len(errors),
        "all": len(rows),
        "measures": list(MEASURES),
        "images": [shown_text(name) for name in images],
        "labels": [shown_text(name) for name in labels],
        "columns": list(COLUMNS),
        "rows": [_cells(row, name, *numbers) for row, name in zip(shown, named, strict=True)],
    }


def _cells(row: Row, label: str, images: dict[str, int], labels: dict[str, int], outcomes: dict[str, int]) -> list[Any]:
    """One row of the report, in the order of `COLUMNS`."""
    item, figures = row.item, row.figures
    return [
        item.number,
        images[row.image],
        labels[label],
        outcomes[_outcome(row)],
        figures.changed,
        round(figures.farthest, 2),
        round(figures.shift, 3),
        figures.area,
        *(short(value) for value in (item.confidence, item.score, item.instance.score)),
        *((short(row.fit.before[0]), short(row.fit.after[0])) if row.fit is not None else (None, None)),
    ]


def _histograms(rows: Sequence[Row]) -> list[dict[str, object]]:
    moved = [row.figures for row in rows if row.figures.changed]
    confidences = [row.item.confidence for row in rows if row.item.confidence is not None]
    scores = [row.item.score for row in rows if row.item.score is not None]
    gains = [row.fit.gain for row in rows if row.fit is not None and row.figures.changed]
    changed = f"{len(moved)} changed instances"
    made = [
        histogram("Farthest that an edge moved", "px", [f.farthest for f in moved], steps(0, 20, 20), changed),
        histogram("Mean shift of an edge, outwards above 0", "px", [f.shift for f in moved], steps(-4, 4, 32), changed),
        histogram("Score: chance of an improvement", "", scores, steps(0, 1, 20), f"{len(scores)} instances"),
        histogram("Confidence", "", confidences, steps(0, 1, 20), f"{len(confidences)} instances"),
        histogram("Gain of IoU with ground truth", "", gains, steps(-0.2, 0.2, 40), f"{len(gains)} changed instances"),
    ]
    return [one.as_dict() for one in made if any(one.counts)]


def _gains(rows: Sequence[Row]) -> dict[str, Any]:
    """Instances with a true one, and how many of them came nearer to it or farther from it."""
    gains = [row.fit.gain for row in rows if row.fit is not None]
    return {
        "matched": len(gains),
        "improved": sum(gain > TOLERANCE for gain in gains),
        "harmed": sum(gain < -TOLERANCE for gain in gains),
        "tolerance": TOLERANCE,
    }


def _outcome(row: Row) -> str:
    return row.item.abstained or (CHANGED if row.figures.changed else SAME)


def short(value: float | None) -> float | None:
    """A figure with four digits behind the point; None for what is none."""
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def shown_text(value: Any) -> str:
    """A text that may come from a stranger, cut off where it is too long to show."""
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

"""Figures of all instances, counted into bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in bins.

    Attributes:
        title: what was measured.
        unit: of it; empty where it has none.
        edges: of the bins, one more than there are counts. A bin holds its lower edge, the last one its upper edge too.
        counts: values in each bin; what lies beyond the edges is in the first and last one.
        note: what else to know.
    """

    title: str
    unit: str
    edges: list[float]
    counts: list[int]
    note: str

    def as_dict(self) -> dict[str, object]:
        """The form that the page reads."""
        return asdict(self)


def histogram(title: str, unit: str, values: Sequence[float], edges: Sequence[float], note: str = "") -> Histogram:
    """Count values into bins; values beyond the outer edges go into the outer bins."""
    within = np.clip(np.asarray(values, np.float64), edges[0], edges[-1])
    counts, _ = np.histogram(within, np.asarray(edges, np.float64))
    return Histogram(title, unit, [float(edge) for edge in edges], [int(count) for count in counts], note)


def steps(first: float, last: float, count: int) -> list[float]:
    """Edges of `count` bins of one width."""
    return [round(first + (last - first) * n / count, 6) for n in range(count + 1)]

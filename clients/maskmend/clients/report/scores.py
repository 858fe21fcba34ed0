"""Scores of `evaluate` in words: names of measures, numbers as text, a table in HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

SCORE_LABELS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "boundary_ap": "boundary AP",
    "mean_iou": "mean IoU",
    "f1px": "boundary F, 1 px",
    "f3px": "boundary F, 3 px",
    "mba": "mBA",
    "improved": "improved",
    "harmed": "harmed",
}


def format_score(key: str, value: float, column: int) -> str:
    """A score as text: percentages for `improved` and `harmed` (a dash in the first column), -1 as n/a."""
    if key in ("improved", "harmed"):
        return "–" if column == 0 else f"{value:.1f} %"
    return "n/a" if value < 0 else f"{value:.4f}"


def score_table(files: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """HTML table of `evaluate` scores, one column per file."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = ""
    for key, label in SCORE_LABELS.items():
        cells = "".join(f"<td>{format_score(key, file[key], n)}</td>" for n, file in enumerate(files))
        body += f"<tr><th>{label}</th>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{body}</table>"

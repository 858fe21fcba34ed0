"""What a job did, to look at: the report page, pictures before and after, scores in words."""

from maskmend.clients.report.pictures import Shown, before_after, montage, shown_instance, write_png
from maskmend.clients.report.scores import SCORE_LABELS, format_score, score_table
from maskmend.clients.report.sheet import write_html

__all__ = [
    "SCORE_LABELS",
    "Shown",
    "before_after",
    "format_score",
    "montage",
    "score_table",
    "shown_instance",
    "write_html",
    "write_png",
]

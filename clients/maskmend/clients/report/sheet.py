"""One plain page of facts, a table and before/after pictures, without a script: what the demo writes."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2

from maskmend.clients.report.pictures import Shown, before_after


def write_html(
    path: Path, title: str, facts: Sequence[tuple[str, str]], items: Sequence[Shown], table: str = ""
) -> None:
    """Write one self-contained page: facts, an optional table (HTML), and before/after pictures."""
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts)
    figures = "".join(_figure(item) for item in items)
    path.write_text(_PAGE.format(title=html.escape(title), rows=rows, table=table, figures=figures), encoding="utf-8")


def _figure(item: Shown) -> str:
    picture = before_after(item)
    data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    source = base64.b64encode(data).decode("ascii")
    caption, details = html.escape(item.caption), html.escape(item.details)
    return (
        f'<figure><img alt="{caption}: coarse mask left, refined mask right" src="data:image/jpeg;base64,{source}">'
        f"<figcaption><b>{caption}</b> {details}</figcaption></figure>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; --line: #8884; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }}
td {{ font-variant-numeric: tabular-nums; }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 1.2rem; }}
figure {{ margin: 0; }} img {{ max-width: 100%; border-radius: 6px; }}
figcaption {{ font-size: .88rem; opacity: .85; }}
.key b:first-child {{ color: rgb(235,60,50); }} .key b:last-child {{ color: rgb(30,160,70); }}
</style></head><body>
<h1>{title}</h1>
<p class="key"><b>Red, left: the coarse mask.</b> <b>Green, right: the refined mask.</b></p>
<table>{rows}</table>
{table}
<div class="gallery">{figures}</div>
</body></html>
"""

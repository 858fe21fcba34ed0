"""Scripts that pages would fetch from other hosts are left out.

The notebook converter writes one that gets a diagram library when a page has diagrams. Ours have none, and nobody should
have to read that far to be sure.
"""

from __future__ import annotations

import re
from typing import Any

_SCRIPT = re.compile(r"<script\b[^>]*>.*?</script>", re.DOTALL | re.IGNORECASE)
_ELSEWHERE = re.compile(r"""(?:\bimport\(|\bsrc=|\bfrom\s|Url\s*=)\s*["']?https?://""")


def on_post_page(output: str, **_: Any) -> str:
    """Drop script elements that load from an address of another host."""
    return _SCRIPT.sub(lambda match: "" if _ELSEWHERE.search(match[0]) else match[0], output)

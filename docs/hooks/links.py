"""Links of the pages that lead out of docs/, to source files and folders.

On a forge they are relative links and work. The site has no such files: there they point to the same path in the repository
where `repo_url` is set in mkdocs.yml, and are the name of the file otherwise. A link to a file that does not exist ends the
build, here as for pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<target>\.\./[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"^(```|~~~).*?^\1[ \t]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Rewrite the links of one page, outside its code."""
    docs = Path(config["docs_dir"]).resolve()
    blocks = [match.span() for match in _CODE.finditer(markdown)]
    here = (docs / page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        if any(begin <= match.start() < end for begin, end in blocks):
            return match[0]
        made = link(match["text"], match["target"], here, docs, config.get("repo_url"), page.file.src_uri)
        return match[0] if made is None else made

    return _LINK.sub(rewritten, markdown)


def link(text: str, target: str, here: Path, docs: Path, repository: str | None, page: str) -> str | None:
    """One link as the site has it; None where it stays within the pages.

    Args:
        text: of the link.
        target: relative to the page.
        here: folder of the page.
        docs: folder of all pages; beside it lies the rest of the repository.
        repository: address of the repository, or None.
        page: its path, for messages.

    Raises:
        PluginError: there is no such file.
    """
    path = Path(os.path.normpath(here / target))
    if path.is_relative_to(docs):
        return None
    if not path.exists() or not path.is_relative_to(docs.parent):
        raise PluginError(f"{page}: the link to {target} leads nowhere")
    name = path.relative_to(docs.parent).as_posix()
    if repository:
        kind = "tree" if path.is_dir() else "blob"
        return f"[{text}]({repository.rstrip('/')}/{kind}/HEAD/{name})"
    return f'<span title="in the repository: {name}">{text}</span>'

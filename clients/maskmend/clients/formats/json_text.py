"""JSON files written back in the layout they came in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskmend.clients.json_files import BOM, parse_text, text_of
from maskmend.patcher.errors import JobError


@dataclass(frozen=True, slots=True)
class Layout:
    """How a JSON text is laid out.

    Attributes:
        indent: of a level, spaces or tabs; None for all on one line.
        spaced: a space after colons, and after commas on one line.
        ascii: other characters are escaped.
        slashes: slashes are escaped too, as in exports of Label Studio.
        crlf: lines end as on Windows.
        end: what stands behind the document.
        mark: the file begins with a byte order mark.
    """

    indent: str | None = None
    spaced: bool = True
    ascii: bool = True
    slashes: bool = False
    crlf: bool = False
    end: str = ""
    mark: bool = False

    def encoded(self, document: Any) -> bytes:
        """A document in this layout, as Python's own `json.dump` writes it: unchanged values come out as they came in."""
        comma = "," if self.indent is not None or not self.spaced else ", "
        separators = (comma, ": " if self.spaced else ":")
        text = json.dumps(document, indent=self.indent, ensure_ascii=self.ascii, separators=separators)
        if self.slashes:
            # Nothing but strings holds them.
            text = text.replace("/", "\\/")
        if self.crlf:
            # Strings have their line breaks escaped.
            text = text.replace("\n", "\r\n")
        try:
            return (BOM if self.mark else b"") + (text + self.end).encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair has no UTF-8; escaped it may stand in JSON.
            return replace(self, ascii=True).encoded(document)


def read_json_text(path: Path, field: str) -> tuple[Any, Layout]:
    """Parse a strict JSON file, and see how it is laid out.

    Raises:
        JobError: not readable, not JSON in UTF-8, NaN or infinity, or nested too deeply.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field=field) from error
    try:
        text = text_of(data)
        document = parse_text(text)
    except ValueError as error:
        raise JobError(f"{path} {error}", field=field) from error
    first = re.match(r"\s*[\[{](\r?\n)?([ \t]*)", text)
    return document, Layout(
        indent=first[2] if first is not None and first[1] else None,
        spaced=re.search(r'": ', text[:100_000]) is not None,
        ascii=text.isascii(),
        slashes="\\/" in text and re.search(r"(?<!\\)/", text) is None,
        crlf=first is not None and first[1] == "\r\n",
        end=text[len(text.rstrip()) :],
        mark=data.startswith(BOM),
    )

"""JSON files written back in the layout they came in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from maskmend.patcher.errors import JobError


@dataclass(frozen=True, slots=True)
class Layout:
    """How a JSON text is laid out.

    Attributes:
        indent: spaces of a level; None for all on one line.
        spaced: a space after colons, and after commas on one line.
        ascii: other characters are escaped.
        slashes: slashes are escaped too, as in exports of Label Studio.
    """

    indent: int | None = None
    spaced: bool = True
    ascii: bool = True
    slashes: bool = False

    def encoded(self, document: Any) -> bytes:
        """A document in this layout, as Python's own `json.dump` writes it: unchanged values come out as they came in."""
        comma = "," if self.indent is not None or not self.spaced else ", "
        separators = (comma, ": " if self.spaced else ":")
        text = json.dumps(document, indent=self.indent, ensure_ascii=self.ascii, separators=separators)
        if self.slashes:
            # Nothing but strings holds them.
            text = text.replace("/", "\\/")
        try:
            return text.encode()
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
        text = data.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field=field) from error
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise JobError(f"{path} is not valid JSON{where}; is it complete?", field=field) from error
    first = re.match(r"\s*[\[{](\r?\n)?( *)", text)
    indent = len(first[2]) if first is not None and first[1] else None
    slashes = "\\/" in text and re.search(r"(?<!\\)/", text) is None
    return document, Layout(indent, re.search(r'": ', text[:100_000]) is not None, data.isascii(), slashes)


def write_text(path: Path, data: bytes) -> None:
    """Write a file beside `path` and move it into place, so that a reader never sees half a file.

    Raises:
        JobError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(f"{path} cannot be written: {error.strerror}", field="output") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

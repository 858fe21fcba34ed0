"""The report's page as one file: markup, style, script and data put together, under a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson

from maskmend.patcher.errors import JobError

SCRIPTS: Final = ("runs", "layers", "view", "gestures", "crops", "charts", "filters", "gallery", "detail", "main")
"""Modules of the page's script, those that others import before them."""
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def write_page(path: Path, title: str, report: dict[str, Any], crops: Iterable[bytes]) -> None:
    """Write the page beside `path` and move it into place.

    Args:
        path: of the page.
        title: of the page.
        report: what the script reads, JSON values only.
        crops: JSON of each instance shown, in the order of the report's rows; see `embedded`.

    Raises:
        JobError: the folder cannot be written, or the disk is full.
    """
    style, script = _asset("style.css"), script_text()
    slots = {
        "policy": policy(style, script),
        "title": html.escape(_told(title)),
        "style": style,
        "script": script,
        "report": embedded(report).decode("ascii"),
    }
    head, _, tail = _asset("page.html").partition("{{crops}}\n")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as out:
            # All slots in one go: what fills one is not looked through for another.
            out.write(_SLOT.sub(lambda slot: slots[slot[1]], head).encode())
            for number, crop in enumerate(crops):
                out.write(b'<script type="application/json" id="crop-%d">' % number)
                out.write(crop)
                out.write(b"</script>\n")
            out.write(tail.encode())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(f"{path} cannot be written: {error.strerror}", field="report") from error


def embedded(value: Any) -> bytes:
    """JSON that may stand inside a script element of a page: pure ASCII, without `<`, `>` and `&`."""
    text = orjson.dumps(_told(value)).decode()
    return re.sub(r"[<>&\x7f-\U0010ffff]", _escaped, text).encode("ascii")


def policy(style: str, script: str) -> str:
    """Content security policy: this style and this script, pictures within the page, nothing else from anywhere."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def script_text() -> str:
    """The page's script: its modules, one after the other, in a scope of their own."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", _asset(f"{name}.js"))) for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


@cache
def _asset(name: str) -> str:
    return files("maskmend.clients.report").joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _escaped(found: re.Match[str]) -> str:
    # Beyond the first 65536 characters JSON takes two halves.
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def _told(value: Any) -> Any:
    """The same with texts that UTF-8 can hold: names of files may have halves of characters in them."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_told(key): _told(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return value

"""Strict JSON files, read whole and written whole; numbers come out as they came in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from maskmend.patcher.errors import JobError

BOM = b"\xef\xbb\xbf"
"""What Windows puts before UTF-8."""
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 19
_LONG_WHOLE = re.compile(rb"(?<![\d.])\d{19}")


def read_json(path: Path, field: str) -> Any:
    """Parse a strict JSON file, with or without a byte order mark.

    Whole numbers of any size stay what they are.

    Raises:
        JobError: not readable or not strict JSON.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field=field) from error
    try:
        return loads(data)
    except ValueError as error:
        raise JobError(f"{path} {error}", field=field) from error


def loads(data: bytes) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: it is none; says in what way, to be put behind the name of the file.
    """
    data = data.removeprefix(BOM)
    if not _has_long_number(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            told, where = str(error), f"line {error.lineno}, column {error.colno}"
        # The other parser says more of what is wrong.
        parse_text(text_of(data))
        raise ValueError(f"is not valid JSON at {where}: {told[:100]}")
    # orjson makes floats of numbers beyond 64 bits.
    return parse_text(text_of(data))


def parse_text(text: str) -> Any:
    """Parse strict JSON with numbers of any size.

    Raises:
        ValueError: as `loads`.
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except json.JSONDecodeError as error:
        hint = "; is it complete?" if not text[error.pos :].strip() or "Unterminated" in error.msg else ""
        raise ValueError(f"is not valid JSON at line {error.lineno}, column {error.colno}{hint}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply for a JSON file of masks") from error


def write_json(path: Path, document: Any, *, indent: bool = False) -> None:
    """Write JSON; see `write_whole`.

    Raises:
        JobError: the folder cannot be written, or the disk is full.
    """
    try:
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None)
    except TypeError:
        # Numbers beyond 64 bits, and halves of surrogate pairs, which escaped may stand in JSON.
        separators = (",", ": " if indent else ":")
        data = json.dumps(document, indent=2 if indent else None, separators=separators, allow_nan=False).encode()
    write_whole(path, data)


def write_lines(path: Path, records: Sequence[Any]) -> None:
    """One line of JSON for each record; no file where there is none. See `write_whole`.

    Raises:
        JobError: the folder cannot be written, or the disk is full.
    """
    if records:
        write_whole(path, b"".join(orjson.dumps(record) + b"\n" for record in records))
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
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
        raise JobError(
            f"{path} cannot be written: {error.strerror}; once that is mended, run again (a job of refine with --resume)",
            field="output",
        ) from error


def text_of(data: bytes) -> str:
    """The text of a JSON file, without its byte order mark.

    Raises:
        ValueError: it is not UTF-8; as `loads`.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("is UTF-16, which its byte order mark says; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _has_long_number(data: bytes) -> bool:
    # A search for one byte string is many times as fast as the expression.
    return _LONG in data.translate(_DIGITS) and _LONG_WHOLE.search(data) is not None


def _refused(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no number of JSON; put null, or a number, in its place")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"holds {text[:20]}, which is beyond every float; put null, or a number, in its place")
    return number

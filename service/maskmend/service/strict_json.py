"""JSON from strangers: what is not exactly JSON, or says a thing twice, is refused."""

from __future__ import annotations

import gc
import json
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from maskmend.service.errors import BadRequestError, InvalidRequestError

_MOST_DIGITS = 30
_DEEPEST = 32
_MOST_ITEMS = 2_000_000
_MOST_CONTAINERS = 200_000
_MOST_TEXTS = 200_000
_MOST_ESCAPES = 4_000_000
_AT_ONCE = 1_000_000
"""Bytes looked at without a pause in which another thread could run."""
_QUOTE, _SLASH, _COMMA, _LIST, _OBJECT = b'"\\,[{'


_TURN = threading.Lock()


def read_json(data: bytes, field: str = "body") -> Any:
    """Parse JSON.

    Args:
        data: UTF-8.
        field: how error messages name it.

    Raises:
        BadRequestError: it is no JSON, nested deeper than 32, or holds a number or text that no sane client writes.
        InvalidRequestError: it holds more than 2,000,000 values, 200,000 lists and objects, 200,000 texts and keys or
            4,000,000 backslashes, or NaN, infinity, or a key twice.
    """
    _check_amount(data, field)
    try:
        with _parsing():
            value = json.loads(
                data.decode("utf-8"),
                object_pairs_hook=_pairs,
                parse_constant=_constant,
                parse_float=_float,
                parse_int=_integer,
            )
    except (InvalidRequestError, BadRequestError):
        raise
    except RecursionError:
        raise BadRequestError(f"{field} is nested too deeply", field=field) from None
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequestError(f"{field} is not valid JSON in UTF-8{where}", field=field) from None
    _check_depth(value, field, texts=b"\\" in data)
    return value


def _check_amount(data: bytes, field: str) -> None:
    """Refuse what would be too much to make: the parser makes lists, objects and texts without letting others run.

    Up to the first error in the JSON the counts are exact; behind it nothing is made.
    """
    items = containers = quotes = escapes = 0
    inside = escaping = False
    for start in range(0, len(data), _AT_ONCE):
        part = np.frombuffer(data, np.uint8, min(_AT_ONCE, len(data) - start), start)
        slashes = part == _SLASH
        found = int(np.count_nonzero(slashes))
        escapes += found
        marks = part == _QUOTE
        if found or escaping:
            escaped, escaping = _escaped(slashes, escaping)
            marks &= ~escaped
        # True from the quote that opens a text to the last byte before the one that closes it.
        within = np.logical_xor.accumulate(marks) ^ inside
        inside = bool(within[-1])
        quotes += int(np.count_nonzero(marks))
        plain = part[~within]
        items += int(np.count_nonzero(plain == _COMMA))
        containers += int(np.count_nonzero((plain == _LIST) | (plain == _OBJECT)))
        for count, most, what in (
            (items, _MOST_ITEMS, "values"),
            (containers, _MOST_CONTAINERS, "lists and objects"),
            (quotes // 2, _MOST_TEXTS, "texts and keys"),
            (escapes, _MOST_ESCAPES, "backslashes"),
        ):
            if count > most:
                raise InvalidRequestError(
                    f"{field} holds more than {most} {what}; send fewer or simpler masks", field=field
                )


def _escaped(slashes: NDArray[np.bool_], escaping: bool) -> tuple[NDArray[np.bool_], bool]:
    """Which bytes have an odd number of backslashes right before them, and whether the byte after the last one has.

    Args:
        slashes: bool [N], where the backslashes are.
        escaping: whether the first byte has.
    """
    places = np.flatnonzero(slashes)
    first = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    begins, ends = places[first], places[np.append(first[1:], len(places)) - 1] + 1 if len(places) else places
    lengths = ends - begins
    escaped = np.zeros(len(slashes) + 1, bool)
    if escaping:
        # One more backslash, before the first byte.
        if len(begins) and begins[0] == 0:
            lengths[0] += 1
        else:
            escaped[0] = True
    escaped[ends[lengths % 2 == 1]] = True
    return escaped[:-1], bool(escaped[-1])


@contextmanager
def _parsing() -> Iterator[None]:
    """One at a time, or those who parse would hand the interpreter to each other; and without looks for cycles.

    There are none in JSON, and a look goes through all that the process holds without letting others run.
    """
    with _TURN:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRequestError("an object holds one key twice; send each once")
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidRequestError(f"{name} is not a number that JSON knows; send finite numbers")


def _float(text: str) -> float:
    value = float(text) if len(text) <= 400 else math.inf
    if not math.isfinite(value):
        raise InvalidRequestError("a number is too large; send finite numbers of up to 400 characters")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise BadRequestError(f"an integer has {len(text)} digits; no field takes so many")
    return int(text)


def _check_depth(value: Any, field: str, *, texts: bool) -> None:
    """Refuse what is nested too deeply, and with `texts` those that are no text."""
    level = [value]
    for _ in range(_DEEPEST):
        below = []
        for outer in level:
            if isinstance(outer, dict):
                inner: Iterable[Any] = chain(outer, outer.values()) if texts else outer.values()
            else:
                inner = outer if isinstance(outer, list) else (outer,)
            for item in inner:
                if isinstance(item, (dict, list)):
                    below.append(item)
                elif texts and isinstance(item, str) and not item.isascii():
                    _check_text(item, field)
        level = below
        if not level:
            return
    raise BadRequestError(f"{field} is nested too deeply", field=field)


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequestError(f"{field} holds half of a surrogate pair", field=field) from None

"""JSON from strangers: what is not exactly JSON, or says a thing twice, is refused."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from typing import Any, NoReturn

from maskmend.service.errors import BadRequestError, InvalidRequestError

_MOST_DIGITS = 30
_DEEPEST = 32
_MOST_ITEMS = 2_000_000
_MOST_CONTAINERS = 200_000
_NEXT_CONTAINER = re.compile(rb",\s*[\[{]")


def read_json(data: bytes, field: str = "body") -> Any:
    """Parse JSON.

    Args:
        data: UTF-8.
        field: how error messages name it.

    Raises:
        BadRequestError: it is no JSON, nested deeper than 32, or holds a number or text that no sane client writes.
        InvalidRequestError: it holds more than 2,000,000 values or 200,000 lists and objects, NaN, infinity, or a key
            twice.
    """
    if data.count(b",") > _MOST_ITEMS:
        raise InvalidRequestError(
            f"{field} holds more than {_MOST_ITEMS} values; send fewer or simpler masks", field=field
        )
    # Lists are made without a pause in which another thread could run.
    if next(islice(_NEXT_CONTAINER.finditer(data), _MOST_CONTAINERS, None), None):
        raise InvalidRequestError(
            f"{field} holds more than {_MOST_CONTAINERS} lists and objects; send fewer masks", field=field
        )
    try:
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
    _check_depth(value, field)
    if b"\\ud" in data.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadRequestError(f"{field} holds half of a surrogate pair", field=field) from None
    return value


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


def _check_depth(value: Any, field: str) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise BadRequestError(f"{field} is nested too deeply", field=field)

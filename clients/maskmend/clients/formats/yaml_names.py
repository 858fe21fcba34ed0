"""The `names` of a YOLO data.yaml: read in each of the ways they are written, without a YAML library."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

_PLAIN = r"[^,\[\]{}#&*!|>'\"%@`:\n][^,\[\]{}#:\n]*"
_ITEM = re.compile(rf"\s*(?:(\d{{1,9}})\s*:\s*)?('(?:[^'\n]|'')*'|\"(?:[^\"\\\n]|\\.)*\"|{_PLAIN})\s*(,|$)")
_BLOCK = re.compile(r"[ ]*(?:-|(\d{1,9})[ ]*:)[ ]+(.+)")


def read_names(text: str) -> dict[int, str]:
    """Names of classes by number: from `names: [a, b]`, `names: {0: a, 1: b}`, or a list or mapping below `names:`.

    Returns:
        Empty where there are no names, or they are written in another way: anchors, tags, keys that are no numbers.
    """
    lines = text.replace("\r\n", "\n").lstrip("\ufeff").split("\n")
    start = next((n for n, line in enumerate(lines) if re.match(r"names[ ]*:(\s|$)", line)), None)
    if start is None:
        return {}
    first = _bare(lines[start].partition(":")[2])
    if first[:1] in ("[", "{"):
        return _flow(first, lines[start + 1 :])
    return {} if first else _block(lines[start + 1 :])


def write_names(numbers: Mapping[str, int]) -> str:
    """A data.yaml with nothing but names, quoted as JSON does, which is YAML too."""
    lines = [f"  {number}: {orjson.dumps(name).decode()}\n" for name, number in numbers.items()]
    return "names:\n" + "".join(lines) if lines else "names: []\n"


def _flow(first: str, rest: list[str]) -> dict[int, str]:
    close = "]" if first[0] == "[" else "}"
    whole = first
    for line in rest:
        if whole.endswith(close):
            break
        whole = f"{whole} {_bare(line)}".rstrip()
    if not whole.endswith(close):
        return {}
    found: dict[int, str] = {}
    inner, at = whole[1:-1].strip().removesuffix(","), 0
    while at < len(inner):
        match = _ITEM.match(inner, at)
        if match is None or (match[1] is None) != (close == "]"):
            return {}
        found[len(found) if match[1] is None else int(match[1])] = _unquoted(match[2])
        at = match.end()
    return found


def _block(lines: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in lines:
        bare = _bare(line)
        if not bare:
            continue
        match = _BLOCK.fullmatch(bare if line.startswith((" ", "-")) else "")
        if match is None:
            # A line that is not set in ends the list; one that is, and is no item, cannot be understood.
            return {} if line.startswith(" ") else found
        found[len(found) if match[1] is None else int(match[1])] = _unquoted(match[2])
    return found


def _bare(line: str) -> str:
    """A line without its comment, which begins with ` #` outside quotes."""
    quote, before = "", " "
    for at, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and before in " ,[{:-":
            quote = character
        elif character == "#" and before in " \t":
            return line[:at].strip()
        before = character
    return line.strip()


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(orjson.loads(text))
        except orjson.JSONDecodeError:
            return text[1:-1]
    return text

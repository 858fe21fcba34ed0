"""The code blocks of a Markdown page, and what a comment before a block says about it.

A fence names its language: `sh` and `python` are run; `json`, `yaml`, `toml` and `xml` are parsed; anything else is left
alone, but for a fence without a language, which nobody can know what to do with. On the line above a fence may stand

    <!-- tour: skip REASON -->      it is not run here
    <!-- tour: needs MODULE -->     it is run where this module can be imported
    <!-- tour: exits CODE -->       commands end with this exit code
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<language>[\w+-]*)[^\n]*$")
_COMMENT = re.compile(r"^\s*<!-- tour: (?P<verb>\w+) (?P<rest>.+?) -->\s*$")

RUN = ("sh", "python")
PARSED = ("json", "yaml", "toml", "xml")
# Commands that a block may hold and that are not for here.
LEFT_OUT = {"pip install": "installs", "make ": "a target of its own"}


@dataclass(frozen=True)
class Block:
    """A block: its language, its text, the line of its first line from 1, and the comment's verb and rest."""

    page: str
    language: str
    text: str
    line: int
    verb: str = ""
    rest: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def left_out(self) -> list[str]:
        """Command lines that are not run."""
        return (
            [line for line in self.text.splitlines() if line.startswith(tuple(LEFT_OUT))]
            if self.language == "sh"
            else []
        )


def blocks(path: Path, page: str) -> list[Block]:
    """All blocks of a page, in order."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        comment = _COMMENT.match(lines[number - 1]) if number else None
        begin = number + 1
        number = begin
        while number < len(lines) and lines[number].strip() != opening["ticks"]:
            number += 1
        indent = len(opening["indent"])
        text = "\n".join(line[indent:] for line in lines[begin:number]) + "\n"
        verb, rest = (comment["verb"], comment["rest"]) if comment else ("", "")
        found.append(Block(page, opening["language"], text, begin + 1, verb, rest))
        number += 1
    return found


def pages(repository: Path) -> list[str]:
    """README.md and every page below docs/, in the order of the alphabet."""
    return [
        "README.md",
        *sorted(path.relative_to(repository).as_posix() for path in (repository / "docs").rglob("*.md")),
    ]

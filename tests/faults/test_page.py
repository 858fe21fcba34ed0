"""docs/reliability.md names tests that are there, and forgets none of those that are about faults."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 90
    known: dict[str, set[str]] = {}
    for file, name in NAMED:
        if file not in known:
            known[file] = functions(TESTS / file)
        assert name in known[file], f"{file}::{name}"


def test_every_row_of_what_strangers_send_is_there_in_order() -> None:
    section = PAGE.split("\n## ")[1]
    assert section.startswith("What strangers send")
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == list(range(1, 57))


def test_no_test_of_a_fault_is_forgotten() -> None:
    named = {name for _, name in NAMED} | functions(Path(__file__))
    for folder in ("faults", "fuzz"):
        for path in (TESTS / folder).glob("test_*.py"):
            left = {name for name in functions(path) if name.startswith("test_")} - named
            assert not left, f"{path.name}: {left}"

"""Public docstrings say what callers need: shapes and dtypes of arrays, errors raised; and the reference has every name."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from public_names import ancestors, bases, parsed, public_names, sources

NAMES = public_names()
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
SHAPE = re.compile(r"\[(\.\.\.|[A-Za-z0-9][^\]\n]*)\]|\bscalar\b")
DTYPE = re.compile(r"\b(bool|u?int(8|16|32|64)|float(16|32|64)?|integers?|whole numbers)\b")
PUBLIC = (
    "maskmend.patcher",
    "maskmend.models",
    "maskmend.service",
    "maskmend.clients",
    "maskmend.clients.adapters",
    "maskmend.clients.formats",
)
TYPED = re.compile(r"\bnp\.(bool_|u?int\d+|float\d+)")


def lines(found: list[str]) -> str:
    return "\n" + "\n".join(found)


def test_modules_and_names_have_docstrings() -> None:
    bare = [str(file) for file in sources(private=True) if not ast.get_docstring(parsed(file))]
    bare += [f"{one.where} {one.name}" for one in NAMES if not one.text and not one.name.endswith("__call__")]
    assert len(NAMES) > 500
    assert not bare, lines(bare)


def test_arrays_have_a_shape() -> None:
    missing = [
        f"{one.where} {one.name}: {', '.join(one.arrays())}"
        for one in NAMES
        if one.arrays() and not SHAPE.search(one.told)
    ]
    assert not missing, lines(missing)


def test_arrays_have_a_dtype() -> None:
    """In the annotation, which the reference shows, or in words."""
    missing = []
    for one in NAMES:
        open_ones = [name for name, text in one.arrays().items() if not TYPED.search(text)]
        if open_ones and not DTYPE.search(one.told):
            missing.append(f"{one.where} {one.name}: {', '.join(open_ones)}")
    assert not missing, lines(missing)


def test_errors_are_named() -> None:
    """Those that a function raises itself, by their name or that of a class they derive from."""
    known = bases()
    missing = [
        f"{one.where} {one.name}: {error}"
        for one in NAMES
        if one.function and not one.command
        for error in sorted(one.raised())
        if error in known and not any(re.search(rf"\b{name}\b", one.told) for name in ancestors(error, known))
    ]
    assert not missing, lines(missing)


def covered() -> set[tuple[str, str]]:
    """Module and name of all that the pages of the reference show; `*` for all names of a module."""
    found: set[tuple[str, str]] = set()
    for page in sorted(REFERENCE.glob("*.md")):
        for block in re.split(r"^::: ", page.read_text(), flags=re.MULTILINE)[1:]:
            path = block.split(maxsplit=1)[0]
            members = re.search(r"members: \[([^\]]*)\]", block)
            owner, _, last = path.rpartition(".")
            if last[0].isupper():
                found.add((owner, last))
            elif members:
                found |= {(path, name.strip()) for name in members[1].split(",")}
            elif "members: false" not in block:
                found.add((path, "*"))
    return found


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_can_be_imported_and_are_in_the_reference(package: str) -> None:
    module = importlib.import_module(package)
    shown = covered()
    for name in module.__all__:
        found = getattr(module, name)
        home = getattr(found, "__module__", package)
        assert {(home, name), (package, name), (home, "*")} & shown, f"docs/reference lacks {name} of {home}"


def test_what_the_reference_shows_exists() -> None:
    for home, name in covered():
        assert name == "*" or hasattr(importlib.import_module(home), name), f"{home} has no {name}"
        importlib.import_module(home)

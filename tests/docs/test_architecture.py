"""What the pages on the structure say of files and names is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from public_names import parsed, sources

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("0*.md"))
PAGES = [DOCS / "architecture.md", DOCS / "adding-a-refiner.md", *DECISIONS]
NAMED = re.compile(r"`(?P<name>\w+)`\s+in\s+\[[^\]]+\]\((?P<file>[^)]+\.py)\)")


def defined(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_are_in_the_files_they_are_said_to_be_in(page: Path) -> None:
    for found in NAMED.finditer(page.read_text()):
        assert found["name"] in defined((page.parent / found["file"]).resolve()), found[0]


def test_the_walk_names_where_each_step_is() -> None:
    assert len(NAMED.findall(PAGES[0].read_text())) >= 15


def test_the_files_of_the_figure_exist() -> None:
    have = {file.name for file in sources(private=True)}
    root = ElementTree.parse(DOCS / "images" / "architecture.svg").getroot()
    shown = re.findall(r"(\w+/)?(\w+\.py)", " ".join(text for text in root.itertext()))
    assert len(shown) >= 20
    for folder, name in shown:
        assert name in have, name
        assert any(file.parent.name == folder[:-1] for file in sources() if folder and file.name == name) or not folder


def test_decisions_have_their_three_parts_and_are_listed() -> None:
    index = (DOCS / "decisions" / "index.md").read_text()
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for page in DECISIONS:
        text = page.read_text()
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "What follows"], page.name
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert f"]({page.name})" in index
        assert len(text.splitlines()) <= 60, f"{page.name}: a page is enough"

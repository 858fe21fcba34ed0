"""The first change of CONTRIBUTING.md, followed to the letter in a copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tour_blocks import blocks

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "CONTRIBUTING.md"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the change touches."""
    for folder in ("patcher", "tests/patcher", "tests/docs", "docs/reference"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / file, tmp_path)
    return tmp_path


def run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "patcher")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_the_first_change_works(copy: Path) -> None:
    test, code = (block.text for block in blocks(PAGE, "CONTRIBUTING.md") if block.language == "python")
    told = PAGE.read_text()
    assert "Write `tests/patcher/test_dice.py`" in told
    (copy / "tests" / "patcher" / "test_dice.py").write_text(test)
    before = run(copy, "pytest", "-q", "tests/patcher/test_dice.py")
    assert before.returncode != 0
    assert "cannot import name 'dice'" in before.stdout
    place = "def boundary("
    assert f"above `{place}`" in told
    metrics = copy / "patcher" / "maskmend" / "patcher" / "metrics.py"
    text = metrics.read_text()
    assert text.count(place) == 1
    metrics.write_text(text.replace(place, f"{code}\n\n{place}"))
    after = run(copy, "pytest", "-q", "tests/patcher/test_dice.py", "tests/patcher/test_metrics.py")
    assert after.returncode == 0, after.stdout
    reference = copy / "docs" / "reference" / "patcher.md"
    assert re.search(r"^::: maskmend\.patcher\.metrics\n.*members: \[iou, ", reference.read_text(), re.MULTILINE)
    assert "### Added" in (copy / "CHANGELOG.md").read_text()
    for check in (("check",), ("format", "--check")):
        linted = run(copy, "ruff", *check, "patcher/maskmend/patcher/metrics.py", "tests/patcher/test_dice.py")
        assert linted.returncode == 0, linted.stdout

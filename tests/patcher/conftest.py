"""Lets the tests of this folder import the plain implementation beside them (pytest's importlib mode does not)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import uncompiled

uncompiled.prepare()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and uncompiled.left_out(item.name):
            item.add_marker(pytest.mark.skip(reason="takes long without compiled kernels"))

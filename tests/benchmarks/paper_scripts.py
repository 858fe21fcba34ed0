"""The scripts of benchmarks/papers as modules."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "benchmarks" / "papers"


def load(name: str) -> ModuleType:
    """A script by its name, which the others use for it too."""
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(FOLDER))

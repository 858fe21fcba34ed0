"""The scripts of benchmarks/ as modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def loader(folder: str) -> Callable[[str], ModuleType]:
    """What loads a script of this folder by its name, which the others there use for it too."""
    there = str(BENCHMARKS / folder)

    def load(name: str) -> ModuleType:
        sys.path.insert(0, there)
        try:
            return __import__(name)
        finally:
            sys.path.remove(there)

    return load

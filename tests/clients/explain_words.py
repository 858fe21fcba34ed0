"""What the fixtures and tests of `explain` share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Explain = Callable[..., tuple[int, str]]
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="transfiner is shown by PyTorch")


def picture(path: Path) -> np.ndarray:
    """The pixels of a picture, BGR."""
    found = cv2.imread(str(path))
    assert found is not None
    return np.asarray(found)

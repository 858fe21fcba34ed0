"""Instances to report on, and a look into a page that was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskmend.clients.formats.base import Instance
from maskmend.clients.report.items import Item
from maskmend.patcher import Rle

REASON = "the coarse mask is already right as far as the refiner can tell"


@dataclass(frozen=True)
class Written:
    """A page that was written.

    Attributes:
        text: the whole of it.
        report: what its script reads.
        crops: what it reads for each row.
    """

    text: str
    report: dict[str, Any]
    crops: list[dict[str, Any]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(zip(self.report["columns"], cells, strict=True)) for cells in self.report["rows"]]


def read_page(path: Path) -> Written:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', text, re.DOTALL)
    parts = {name: json.loads(content) for name, content in found}
    crops = [parts[f"crop-{number}"] for number in range(len(parts) - 1)]
    return Written(text, parts["report"], crops)


@pytest.fixture
def read() -> Callable[[Path], Written]:
    return read_page


def ellipse(height: int, width: int, x: float, y: float, radius: float) -> Rle:
    rows, columns = np.indices((height, width))
    return Rle.from_dense((rows - y) ** 2 + ((columns - x) / 1.3) ** 2 < radius**2)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A photograph of 300 x 200 px."""
    rng = np.random.default_rng(3)
    picture = cv2.resize(rng.integers(40, 220, (8, 12, 3), np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "photograph.png"
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture
def group(photograph: Path) -> list[Item]:
    """Five instances of one photograph: moved by 0 to 4 px, the first kept by the guard."""

    def item(number: int) -> Item:
        before = ellipse(200, 300, 50 + 45 * number, 90, 20 + 4 * number)
        after = ellipse(200, 300, 50 + 45 * number + number, 90, 20 + 4 * number)
        kept = REASON if number == 0 else None
        label = "cat" if number % 2 else "dog"
        fields = {"image_id": 1, "category_id": number % 2, "id": number}
        instance = Instance("photograph.png", label, 0.9 - 0.1 * number, True, fields)
        return Item(
            number, instance, lambda: photograph, lambda h, w: (before, after), 0.5 + 0.1 * number, 0.2 * number, kept
        )

    return [item(number) for number in range(5)]

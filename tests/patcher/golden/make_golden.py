"""Writes boxes.json beside this file, from the plain implementation in reference.py and never from maskmend.

Run: python tests/patcher/golden/make_golden.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference


def cases() -> dict[str, np.ndarray]:
    """Masks by name."""
    y, x = np.mgrid[:300, :400]
    square = np.zeros((256, 256), bool)
    square[64:192, 64:192] = True
    pixel = np.zeros((256, 256), bool)
    pixel[100, 100] = True
    ring = np.hypot(y - 150, x - 200)
    return {
        "square": square,
        "pixel": pixel,
        "ring": (ring < 120) & (ring > 50),
        "corner": (y < 90) & (x > 310),
        "narrow": np.ones((30, 500), bool),
        "empty": np.zeros((70, 90), bool),
    }


def main() -> None:
    """Write the file."""
    golden = []
    for name, mask in cases().items():
        for ties in ("hash", "raster"):
            for border in ("exact", "reference"):
                for nms in (0.15, 0.25, 0.55):
                    found = reference.boxes(mask, nms=nms, ties=ties, border=border)
                    golden.append({"mask": name, "ties": ties, "border": border, "nms": nms, "boxes": found.tolist()})
    text = "[\n" + ",\n".join(json.dumps(record) for record in golden) + "\n]\n"
    (Path(__file__).parent / "boxes.json").write_text(text)


if __name__ == "__main__":
    main()

"""A data folder laid out as the real ones, small enough to make on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskmend.models.training.splits import is_validation


def _write_set(folder: Path, size: int, radius: int, per_side: int) -> None:
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    rng = np.random.default_rng(radius)
    counts = {True: 0, False: 0}
    number = 0
    while min(counts.values()) < per_side:
        number += 1
        side = is_validation(number)
        if counts[side] == per_side:
            continue
        counts[side] += 1
        picture = cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
        for k in range(2):
            x, y = (int(v) for v in rng.integers(radius, size - radius, 2))
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([x + radius * np.cos(angles), y + 0.8 * radius * np.sin(angles)], 1)
            colour = tuple(int(v) for v in rng.integers(0, 255, 3))
            cv2.fillPoly(picture, [np.round(outline).astype(np.int32)], colour)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "segmentation": [outline.ravel().round(2).tolist()],
                    "area": 1.0,
                    "bbox": [0, 0, 1, 1],
                    "note": k,
                }
            )
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append({"id": number, "file_name": name, "height": size, "width": size})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(coco))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `coco-cc` and `nuclei`, a few synthetic images on each side of the split."""
    folder = tmp_path_factory.mktemp("data")
    _write_set(folder / "coco-cc", 200, 45, 3)
    _write_set(folder / "nuclei", 120, 14, 2)
    return folder

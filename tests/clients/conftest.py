"""A small job: photographs, a COCO instances file, a coarse result list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_job import Run, SmallJob

from maskmend.patcher import Rle


def disk(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return (rows - y) ** 2 + ((columns - x) / 1.4) ** 2 < radius**2


@pytest.fixture
def job(tmp_path: Path) -> SmallJob:
    """Four photographs of two objects each; records of the images are interleaved, as detectors write them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(8)
    images, annotations, records = [], [], []
    for number in range(1, 5):
        height, width = 150 + 10 * number, 220
        picture = cv2.resize(rng.integers(60, 200, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        for x, y, radius in ((60, 60, 34), (160, 95, 26)):
            mask = disk(height, width, x, y, radius)
            picture[mask] = rng.integers(0, 255, 3) // 2 + picture[mask] // 4
            rle = Rle.from_dense(mask)
            annotation = {
                "id": 10 * number + len(annotations) % 2,
                "image_id": number,
                "category_id": 3,
                "iscrowd": 0,
                "segmentation": rle.to_coco(),
                "area": rle.area,
                "bbox": [float(v) for v in rle.bbox],
            }
            annotations.append(annotation)
            coarse = Rle.from_dense(np.roll(mask, (3, -3), (0, 1)))
            records.append(
                {
                    "image_id": number,
                    "category_id": 3,
                    "score": 0.1 + 0.05 * len(records),
                    "segmentation": coarse.to_coco(),
                    "bbox": [float(v) for v in coarse.bbox],
                    "note": {"kept": [1, 2.5, None, "é"]},
                }
            )
        name = f"photo_{number}.png"
        cv2.imwrite(str(folder / name), picture)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    records = records[::2] + records[1::2]
    truth, coarse_file = tmp_path / "truth.json", tmp_path / "coarse.json"
    categories = [{"id": 3, "name": "disk"}]
    truth.write_text(
        json.dumps({"info": {"x": 1}, "images": images, "annotations": annotations, "categories": categories})
    )
    coarse_file.write_text(json.dumps(records))
    return SmallJob(folder, truth, coarse_file, records)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Call the real command line in a process of its own."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "maskmend.clients.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
            timeout=120,
            check=False,
        )

    return call

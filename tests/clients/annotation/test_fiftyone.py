"""The code of docs/annotation-tools.md, run as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskmend.patcher import Rle

REPOSITORY = Path(__file__).resolve().parents[3]
PHOTOGRAPH = REPOSITORY / "samples" / "images" / "000000208901.jpg"


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    page = (REPOSITORY / "docs" / "annotation-tools.md").read_text()
    found: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], found)
    return found


@pytest.fixture(scope="module")
def coarse() -> Rle:
    records = json.loads((REPOSITORY / "samples" / "coarse.json").read_text())
    return Rle.from_coco(next(r["segmentation"] for r in records if r["image_id"] == 208901))


def detected(coarse: Rle) -> dict[str, Any]:
    x, y, w, h = coarse.bbox
    box = [x / coarse.width, y / coarse.height, w / coarse.width, h / coarse.height]
    return {"bounding_box": box, "mask": coarse.crop(x, y, x + w, y + h).astype(bool)}


def check(code: dict[str, Any], detection: Any, coarse: Rle) -> None:
    wanted = code["refiner"].refine(PHOTOGRAPH, [coarse]).instances[0]
    assert wanted.changed_pixels
    assert detection.mask.dtype == bool
    assert code["in_frame"](detection, coarse.height, coarse.width) == Rle.from_coco(wanted.rle)


def test_detections_in_a_plain_object(code: dict[str, Any], coarse: Rle) -> None:
    detection, box = SimpleNamespace(**detected(coarse)), SimpleNamespace(mask=None, bounding_box=[0, 0, 1, 1])
    assert code["in_frame"](detection, coarse.height, coarse.width) == coarse

    class Sample(dict[str, Any]):
        filepath = str(PHOTOGRAPH)

    code["refine_sample"](Sample(predictions=SimpleNamespace(detections=[box, detection])))
    check(code, detection, coarse)
    assert box.bounding_box == [0, 0, 1, 1]


def test_a_box_at_the_edge_and_a_small_mask(code: dict[str, Any]) -> None:
    detection = SimpleNamespace(bounding_box=[0.9, 0.95, 0.2, 0.2], mask=np.ones((28, 28), bool))
    assert code["in_frame"](detection, 100, 200).bbox == (180, 95, 20, 5)


def test_fiftyones_own_sample(code: dict[str, Any], coarse: Rle) -> None:
    fiftyone = pytest.importorskip("fiftyone", reason="fiftyone is not installed")
    sample = fiftyone.Sample(filepath=str(PHOTOGRAPH))
    detection = fiftyone.Detection(label="x", confidence=0.5, **detected(coarse))
    sample["predictions"] = fiftyone.Detections(detections=[detection])
    code["refine_sample"](sample)
    (found,) = sample.predictions.detections
    check(code, found, coarse)
    assert (found.label, found.confidence) == ("x", 0.5)

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskmend.clients import Refiner, RefineResult
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import ImageError, MaskError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner(threads=1)


@pytest.fixture(scope="module")
def photograph() -> Path:
    return SAMPLES / "images" / "000000208901.jpg"


@pytest.fixture(scope="module")
def coarse() -> list[dict[str, Any]]:
    records = json.loads((SAMPLES / "coarse.json").read_text())
    return [r["segmentation"] for r in records if r["image_id"] == 208901]


@pytest.fixture(scope="module")
def wanted(refiner: Refiner, photograph: Path, coarse: list[dict[str, Any]]) -> RefineResult:
    return refiner.refine(photograph, coarse)


def test_a_real_photograph(wanted: RefineResult, coarse: list[dict[str, Any]]) -> None:
    assert len(wanted) == len(coarse) == 1
    (instance,) = wanted.instances
    assert instance.changed_pixels > 100
    assert instance.abstained is None
    assert 0 < instance.confidence <= 1
    mask = wanted.masks[0]
    assert mask.dtype == bool
    assert instance.area == mask.sum()
    assert as_rle(instance.rle) == Rle.from_dense(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert instance.box == (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    assert wanted.provenance["weights"] == "bpr-small"


def forms(coarse: list[dict[str, Any]]) -> dict[str, Any]:
    dense = Rle.from_coco(coarse[0]).to_dense()
    return {
        "array [N, H, W]": dense[None],
        "array [H, W]": dense.astype(np.uint8) * 255,
        "list of arrays": [dense],
        "one RLE": coarse[0],
        "SAM dicts": [{"segmentation": dense, "predicted_iou": 0.9}],
        "COCO records": [{"segmentation": coarse[0], "image_id": 3}],
        "detections": SimpleNamespace(mask=dense[None], xyxy=None),
    }


@pytest.mark.parametrize(
    "form", ["array [N, H, W]", "array [H, W]", "list of arrays", "one RLE", "SAM dicts", "COCO records", "detections"]
)
def test_every_form_of_masks_gives_the_same(
    refiner: Refiner, photograph: Path, coarse: list[dict[str, Any]], wanted: RefineResult, form: str
) -> None:
    assert refiner.refine(photograph, forms(coarse)[form]).rles == wanted.rles


def test_every_form_of_image_gives_the_same(
    refiner: Refiner, photograph: Path, coarse: list[dict[str, Any]], wanted: RefineResult
) -> None:
    from maskmend.patcher.images import load_image

    for image in (str(photograph), photograph.read_bytes(), load_image(photograph)):
        assert refiner.refine(image, coarse).rles == wanted.rles


def test_polygons_are_masks_too(refiner: Refiner, photograph: Path) -> None:
    result = refiner.refine(photograph, [[[100.0, 100.0, 300.0, 110.0, 250.0, 300.0]]])
    assert result.masks.shape == (1, 427, 640)


def test_no_masks_give_no_instances(refiner: Refiner, photograph: Path) -> None:
    assert refiner.refine(photograph, []).masks.shape == (0, 427, 640)


def test_wrong_inputs_are_named(refiner: Refiner, photograph: Path, coarse: list[dict[str, Any]]) -> None:
    with pytest.raises(MaskError, match=r"masks\[1\]"):
        refiner.refine(photograph, [coarse[0], np.zeros((3, 3), bool)])
    with pytest.raises(MaskError, match="boxes only"):
        refiner.refine(photograph, SimpleNamespace(mask=None))
    with pytest.raises(MaskError, match="shape"):
        refiner.refine(photograph, np.zeros((1, 2, 3, 4), bool))
    with pytest.raises(ImageError, match="image"):
        refiner.refine(b"nothing", coarse)

"""LVIS: COCO's form with fields of its own, and images that have an address instead of a file name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskmend.clients import Refiner
from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import run_job
from maskmend.patcher import Rle, as_rle

SAMPLES = Path(__file__).resolve().parents[3] / "samples"


def lvis_file(path: Path) -> dict[str, Any]:
    """The sample as LVIS v1 has it: polygons, no `file_name`, no `iscrowd`."""
    from maskmend.patcher.outlines import outlines

    truth = json.loads((SAMPLES / "instances.json").read_text())
    chosen = {208901: "000000208901.jpg", 360452: "000000360452.jpg"}
    size = {image["id"]: image for image in truth["images"]}
    ids = {size_of["file_name"]: number for number, size_of in size.items()}
    images, annotations = [], []
    for number, name in chosen.items():
        source = size[ids[name]]
        images.append(
            {
                "id": number,
                "height": source["height"],
                "width": source["width"],
                "coco_url": f"http://images.cocodataset.org/val2017/{name}",
                "not_exhaustive_category_ids": [4],
                "neg_category_ids": [7, 9],
            }
        )
        for record in json.loads((SAMPLES / "coarse.json").read_text()):
            if record["image_id"] == ids[name]:
                mask = as_rle(record["segmentation"])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "segmentation": outlines(mask),
                        "area": mask.area,
                        "bbox": [float(v) for v in mask.bbox],
                    }
                )
    document = {
        "info": {"version": "v1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing", "synset": "thing.n.01", "frequency": "f", "instance_count": 3}],
    }
    path.write_text(json.dumps(document))
    return document


@pytest.fixture
def refined(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    before = lvis_file(tmp_path / "lvis.json")
    backend = LocalBackend(Refiner(threads=1))
    summary = run_job(tmp_path / "lvis.json", SAMPLES / "images", tmp_path / "refined.json", backend)
    assert summary.errors == []
    assert summary.changed > 0
    return before, tmp_path / "refined.json"


def test_fields_of_its_own_are_kept(refined: tuple[dict[str, Any], Path]) -> None:
    before, path = refined
    after = json.loads(path.read_text())
    for document in (before, after):
        for record in document["annotations"]:
            for key in ("segmentation", "bbox", "area"):
                del record[key]
    assert after == before


def test_lvis_own_library_reads_it(refined: tuple[dict[str, Any], Path]) -> None:
    lvis = pytest.importorskip("lvis", reason="parity needs the lvis package")
    path = refined[1]
    loaded = lvis.LVIS(str(path))
    for record in json.loads(path.read_text())["annotations"]:
        size = loaded.imgs[record["image_id"]]
        wanted = as_rle(record["segmentation"], height=size["height"], width=size["width"])
        assert np.array_equal(loaded.ann_to_mask(record), wanted.to_dense())
        assert Rle.from_dense(loaded.ann_to_mask(record)).area == record["area"]

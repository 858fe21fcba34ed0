"""The shipped sample in every format, through a whole job: the same masks come out of each, in order, with their labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskmend.clients import Refiner
from maskmend.clients.backends import LocalBackend
from maskmend.clients.convert import run_conversion
from maskmend.clients.format_names import FORMATS
from maskmend.clients.formats import format_of, open_masks
from maskmend.clients.formats.base import Policies
from maskmend.clients.job import run_job
from maskmend.patcher import Rle
from maskmend.patcher.image_size import image_size

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
IMAGES = SAMPLES / "images"
CHOSEN = ("000000208901.jpg", "000000360452.jpg", "000000401416.jpg")
STREET = ("person", "car", "bus", "train", "bicycle", "truck", "motorcycle")
EXACT = Policies(overlaps="smallest")


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(Refiner(threads=1))


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of the sample with coarse masks, as an instances file with what foreign tools write beside them."""
    truth = json.loads((SAMPLES / "instances.json").read_text())
    images = [image for image in truth["images"] if image["file_name"] in CHOSEN]
    ids = {image["id"] for image in images}
    annotations: list[dict[str, Any]] = []
    for record in json.loads((SAMPLES / "coarse.json").read_text()):
        if record["image_id"] in ids:
            mine = {"id": 100 + len(annotations), "iscrowd": 0, "keypoints": [1.5, 2.0, 2], "mine": {"a": None}}
            annotations.append({**record, **mine})
    path = tmp_path_factory.mktemp("coarse") / "coarse.json"
    # Names that every format knows: Cityscapes takes only its own.
    used = sorted({annotation["category_id"] for annotation in annotations})
    categories = [{"id": number, "name": STREET[n % len(STREET)]} for n, number in enumerate(used)]
    document = {"licenses": ["kept"], "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return path


def masks_of(path: Path, form: str) -> list[tuple[str, str, Rle]]:
    """Photograph, label and mask of each instance."""
    opened = open_masks(path, IMAGES, format=form)
    found = []
    for number, instance in enumerate(opened.instances):
        photograph = opened.photograph(number)
        if instance.refinable:
            found.append((photograph.stem, instance.label, opened.mask(number, *image_size(photograph))))
    return found


def iou(one: Rle, other: Rle) -> float:
    a, b = one.to_dense(), other.to_dense()
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("form", FORMATS)
def test_a_job_in_every_format(form: str, coarse: Path, backend: LocalBackend, tmp_path: Path) -> None:
    kind = format_of(coarse, form)
    suffix = "" if kind.writes_folder else ".xml" if form == "cvat" else ".json"
    source, output, again = (tmp_path / f"{name}{suffix}" for name in ("source", "output", "again"))
    run_conversion(coarse, IMAGES, source, form, policies=EXACT)
    before = masks_of(source, form)
    assert len(before) == len(json.loads(coarse.read_text())["annotations"])

    for path in (output, again):
        summary = run_job(source, IMAGES, path, backend, policies=EXACT)
        assert summary.errors == []
        assert summary.refined == len(before)
        assert summary.changed >= 5
    # Found out by a look at it, which must not have gone wrong.
    assert summary.masks is not None
    assert summary.masks.name == form
    assert contents(output) == contents(again)

    after = masks_of(output, form)
    assert [(image, label) for image, label, _ in after] == [(image, label) for image, label, _ in before]
    wanted = refined_here(before, backend)
    for (_, _, found), mask in zip(after, wanted, strict=True):
        # Polygons of formats for people have a tolerance; one instance per pixel may cost a few.
        assert iou(found, mask) > 0.97
    if form in ("coco", "png", "cityscapes", "voc", "index-png", "cvat", "label-studio"):
        assert [mask for _, _, mask in after] == wanted


def refined_here(before: list[tuple[str, str, Rle]], backend: LocalBackend) -> list[Rle]:
    """The same masks, image by image, through the refiner alone."""
    found: dict[int, Rle] = {}
    for image in {image for image, _, _ in before}:
        numbers = [n for n, (name, _, _) in enumerate(before) if name == image]
        items = [(IMAGES / f"{image}.jpg", [before[n][2] for n in numbers])]
        (result,) = backend.refine_many(items)
        assert not isinstance(result, Exception)
        found |= {n: Rle.from_coco(rle) for n, rle in zip(numbers, result.rles, strict=True)}
    return [found[n] for n in range(len(before))]


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_coco_keeps_everything_else(coarse: Path, backend: LocalBackend, tmp_path: Path) -> None:
    run_job(coarse, IMAGES, tmp_path / "out.json", backend)
    before, after = json.loads(coarse.read_text()), json.loads((tmp_path / "out.json").read_text())
    for document in (before, after):
        for record in document["annotations"]:
            for key in ("segmentation", "bbox", "area"):
                del record[key]
    assert after == before

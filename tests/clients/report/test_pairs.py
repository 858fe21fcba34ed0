"""Which record of one file belongs to which of the other, and what ground truth says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_job import SmallJob

from maskmend.clients.convert import run_conversion
from maskmend.clients.evaluate import evaluate
from maskmend.clients.formats.base import Policies
from maskmend.clients.report.items import Item
from maskmend.clients.report.pairs import Pairs, category_names, match, open_source
from maskmend.clients.report.truth import Truth, totals_table
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError
from maskmend.patcher.image_size import image_size


def box(x: int, width: int = 10) -> Rle:
    mask = np.zeros((40, 100), bool)
    mask[10:30, x : x + width] = True
    return Rle.from_dense(mask)


def record(x: int, image: int = 1, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": box(x).to_coco(), **more}


def pair(folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Pairs:
    paths = folder / "before.json", folder / "after.json"
    for path, records in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(records))
    return match(*(open_source(path, None) for path in paths))


def test_ids_come_first(tmp_path: Path) -> None:
    before = [record(n, id=n, annotation_id=0) for n in range(4)]
    after = [record(n, id=n, annotation_id=1) for n in (2, 0, 3, 1)]
    found = pair(tmp_path, before, after)
    assert list(found.partners) == [1, 3, 0, 2]
    assert found.how == "matched by id"


def test_ids_that_are_not_everybodys_own_are_no_ids(tmp_path: Path) -> None:
    before = [record(n, id=n // 2, annotation_id=n) for n in range(4)]
    after = [record(n, id=n, annotation_id=n) for n in (3, 2, 1, 0)]
    found = pair(tmp_path, before, after)
    assert (list(found.partners), found.how) == ([3, 2, 1, 0], "matched by annotation_id")
    del after[0]["annotation_id"]
    found = pair(tmp_path, before, after)
    assert list(found.partners) == [0, 1, 2, 3]
    assert "order" in found.how


def test_order_is_that_within_image_and_category(tmp_path: Path) -> None:
    before = [record(0, 1, 1), record(1, 2, 1), record(2, 1, 2), record(3, 1, 1)]
    after = [record(2, 1, 2), record(0, 1, 1), record(3, 1, 1), record(1, 2, 1)]
    assert list(pair(tmp_path, before, after).partners) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([record(0, id=1)], [record(0, 2, id=2)], "1 of 1 records of the first and 1 of 1 of the second"),
        ([record(0, id=1)], [record(0, id=1), record(1, id=2)], "0 of 1 records of the first and 1 of 2 of the second"),
        ([record(0), record(1)], [record(0)], "record 1 of before.json"),
        ([record(0, 1)], [record(0, 2)], "do not fit"),
        ([record(0, 1, id=1)], [record(0, 2, id=1)], "are of two images"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(JobError, match=told):
        pair(tmp_path, before, after)


def test_ids_that_differ_leave_the_order(tmp_path: Path) -> None:
    before = [record(n, id=n, annotation_id=n) for n in range(3)]
    found = pair(tmp_path, before, [record(n, id=n + 2, annotation_id=n + 9) for n in range(3)])
    assert (list(found.partners), found.how) == ([0, 1, 2], "matched by their order within image and category")
    # The same ids, but of other images: the order within the images is left.
    moved = [record(n, 1 + n % 2, id=n) for n in range(4)]
    found = pair(tmp_path, moved, [{**entry, "id": (entry["id"] + 1) % 4} for entry in moved])
    assert (list(found.partners), found.how) == ([0, 1, 2, 3], "matched by their order within image and category")


@pytest.mark.parametrize("target", ["yolo", "png", "coco", "voc", "panoptic", "labelme", "cvat", "label-studio"])
def test_a_file_and_what_it_was_converted_to_belong_together(job: SmallJob, tmp_path: Path, target: str) -> None:
    out = tmp_path / {"coco": "o.json", "panoptic": "o.json", "label-studio": "o.json", "cvat": "o.xml"}.get(
        target, "o"
    )
    run_conversion(job.truth, job.images, out, target)
    found = match(open_source(job.truth, job.images), open_source(out, job.images))
    pairs = [item.masks(*image_size(item.photograph())) for group in found.groups() for item in group]
    assert len(pairs) == 8
    assert all(before == after for before, after in pairs)
    # Result lists name neither photographs nor categories, so that something else must.
    again = tmp_path / f"again{out.suffix}"
    run_conversion(job.coarse, job.images, again, target, annotations=job.truth, policies=Policies(overlaps="first"))
    found = match(open_source(job.coarse, job.images, annotations=job.truth), open_source(again, job.images))
    pairs = [item.masks(*image_size(item.photograph())) for group in found.groups() for item in group]
    assert len(pairs) == 8
    assert all(before == after for before, after in pairs)


def test_files_with_other_ids_of_the_same_photographs_belong_together(job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    for number, annotation in enumerate(document["annotations"]):
        annotation["id"], annotation["image_id"] = 900 + number, 50 + annotation["image_id"]
        annotation["category_id"] = 7
    for image in document["images"]:
        image["id"] += 50
    document["categories"][0]["id"] = 7
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    found = match(open_source(job.truth, job.images), open_source(other, job.images))
    assert list(found.partners) == list(range(8))


def test_crowds_are_matched_but_not_shown(tmp_path: Path) -> None:
    records = [record(0, id=1, iscrowd=1), record(1, id=2)]
    found = pair(tmp_path, records, records)
    assert found.left_out == 1
    assert [[item.number for item in group] for group in found.groups()] == [[1]]


def test_a_mask_of_another_size_than_its_photograph_is_told(tmp_path: Path) -> None:
    ((item,),) = pair(tmp_path, [record(0)], [record(1)]).groups()
    assert item.masks(40, 100) == (box(0), box(1))
    with pytest.raises(MaskError, match="100x40 px but the photograph is 40x100 px"):
        item.masks(100, 40)


def test_names_of_categories_are_the_first_files(tmp_path: Path) -> None:
    for name, told in (("a", ["cat"]), ("b", ["dog", "cow"])):
        categories = [{"id": n, "name": label} for n, label in enumerate(told)]
        document = {"images": [], "annotations": [], "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    assert category_names(tmp_path / "a.json", None, tmp_path / "b.json") == {0: "cat", 1: "cow"}


# ---- ground truth


def truth_file(folder: Path, records: list[dict[str, Any]]) -> Path:
    images = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 100} for n in (1, 2)]
    annotations = [{"id": n, **entry} for n, entry in enumerate(records)]
    categories = [{"id": n, "name": f"c{n}"} for n in (1, 2)]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def items(pairs: Pairs) -> tuple[list[Item], list[tuple[Rle, Rle]]]:
    (group,) = pairs.groups()
    return group, [item.masks(40, 100) for item in group]


def test_the_surer_instance_has_the_first_choice(tmp_path: Path) -> None:
    truth = Truth(open_source(truth_file(tmp_path, [record(20), record(60), record(20, 2)]), None).masks)
    before = [record(22, score=0.4), record(21, score=0.9), record(61, category=2), record(90)]
    fits = truth.match(*items(pair(tmp_path, before, [record(20), record(20), record(61, category=2), record(90)])))
    assert [fit is not None for fit in fits] == [False, True, False, False]
    assert fits[1] is not None
    assert fits[1].mask == box(20)
    assert fits[1].before[0] == pytest.approx(9 / 11)
    assert fits[1].after == (1.0, 1.0, 1.0, 1.0)
    assert fits[1].gain == pytest.approx(2 / 11)


def test_crowds_are_no_truth(tmp_path: Path) -> None:
    truth = Truth(open_source(truth_file(tmp_path, [record(20, iscrowd=1)]), None).masks)
    assert truth.match(*items(pair(tmp_path, [record(20)], [record(20)]))) == [None]


def test_a_truth_of_another_size_is_told(tmp_path: Path) -> None:
    other = {"image_id": 1, "category_id": 1, "segmentation": Rle.from_dense(np.ones((9, 9), bool)).to_coco()}
    truth = Truth(open_source(truth_file(tmp_path, [other]), None).masks)
    with pytest.raises(MaskError, match="ground truth 0 is 9x9 px"):
        truth.match(*items(pair(tmp_path, [record(20)], [record(20)])))


def test_fits_and_totals_are_those_of_evaluate(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed; totals need it")
    path = truth_file(tmp_path, [record(20), record(60), record(40, category=2)])
    before = [record(22, score=0.5), record(63, score=0.7), record(40, category=2, score=0.2)]
    after = [record(21, score=0.5), record(64, score=0.7), record(41, category=2, score=0.2)]
    pairs = pair(tmp_path, before, after)
    fits = [fit for fit in Truth(open_source(path, None).masks).match(*items(pairs)) if fit is not None]
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    scores = evaluate(path, files)
    assert scores.pairs == len(fits) == 3
    for side, file in (("before", scores.files[0]), ("after", scores.files[1])):
        means = np.mean([getattr(fit, side) for fit in fits], axis=0)
        assert means == pytest.approx([file.mean_iou, file.f1px, file.f3px, file.mba])
    rows, note = totals_table(path, files, ("A", "B"))
    assert rows[0] == ["", "A", "B"]
    assert ["mean IoU", f"{scores.files[0].mean_iou:.4f}", f"{scores.files[1].mean_iou:.4f}"] in rows
    assert note == ""


def test_without_the_evaluate_extra_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    path = truth_file(tmp_path, [record(20)])
    pair(tmp_path, [record(20)], [record(20)])
    rows, note = totals_table(path, [tmp_path / "before.json"], ("A",))
    assert rows == []
    assert "maskmend[evaluate]" in note

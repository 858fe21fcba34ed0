from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from small_job import Run, SmallJob

from maskmend.clients.convert import run_conversion
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Policies
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, OptionError

TARGETS = ("panoptic", "voc", "yolo", "png", "index-png", "coco")


def read(path: Path, images: Path) -> list[tuple[str, str, Rle]]:
    """Photograph, label and mask of each instance, photographs in the order of their names."""
    opened = open_masks(path, images)
    found = []
    for number, instance in enumerate(opened.instances):
        photo = opened.photograph(number)
        height, width = cv2.imread(str(photo)).shape[:2]
        found.append((photo.name, instance.label, opened.mask(number, height, width)))
    return sorted(found, key=lambda entry: entry[0])


@pytest.mark.parametrize("target", TARGETS)
def test_masks_labels_and_order_survive_there_and_back(job: SmallJob, tmp_path: Path, target: str) -> None:
    out = tmp_path / ("out.json" if target in ("coco", "panoptic") else "out")
    summary = run_conversion(job.truth, job.images, out, target)
    assert (summary.written, summary.instances, summary.errors) == (8, 8, [])
    wanted = read(job.truth, job.images)
    got = read(out, job.images)
    assert [(photo, mask) for photo, _, mask in got] == [(photo, mask) for photo, _, mask in wanted]
    if target not in ("png", "index-png"):
        assert {label for _, label, _ in got} == {"disk"}
    back = tmp_path / "back.json"
    run_conversion(out, job.images, back, "coco")
    assert [(photo, mask) for photo, _, mask in read(back, job.images)] == [(p, m) for p, _, m in wanted]


def test_cityscapes_takes_its_own_labels_alone(job: SmallJob, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="'disk'"):
        run_conversion(job.truth, job.images, tmp_path / "out", "cityscapes")
    assert not (tmp_path / "out").exists()
    job.truth.write_text(job.truth.read_text().replace('"disk"', '"car"'))
    run_conversion(job.truth, job.images, tmp_path / "out", "cityscapes")
    assert read(tmp_path / "out", job.images) == read(job.truth, job.images)


def test_a_result_list_keeps_scores_and_tells_its_categories_apart(job: SmallJob, tmp_path: Path) -> None:
    records = [
        {**r, "category_id": 3 + n % 2, "file_name": f"photo_{r['image_id']}.png"} for n, r in enumerate(job.records)
    ]
    job.coarse.write_text(json.dumps(records))
    run_conversion(job.coarse, job.images, tmp_path / "out", "yolo")
    opened = open_masks(tmp_path / "out", job.images)
    assert sorted(i.score or 0 for i in opened.instances) == pytest.approx(sorted(r["score"] for r in records))
    assert {i.label for i in opened.instances} == {"3", "4"}


@pytest.mark.parametrize("target", ["coco", "yolo", "cvat", "labelme", "label-studio", "voc", "panoptic"])
def test_categories_without_names_stay_apart(job: SmallJob, tmp_path: Path, target: str) -> None:
    records = [
        {**r, "category_id": 1 + n % 3, "file_name": f"photo_{r['image_id']}.png"} for n, r in enumerate(job.records)
    ]
    job.coarse.write_text(json.dumps(records))
    folder = target in ("yolo", "labelme", "voc")
    out = tmp_path / ("out" if folder else "out.xml" if target == "cvat" else "out.json")
    run_conversion(job.coarse, job.images, out, target, policies=Policies(overlaps="first"))
    opened = open_masks(out, job.images)
    assert {i.label for i in opened.instances} == {"1", "2", "3"}
    if target == "coco":
        assert sorted({i.fields["category_id"] for i in opened.instances}) == [1, 2, 3]


def test_coco_keeps_the_ids_of_the_source(job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    document["annotations"].pop(3)
    for annotation in document["annotations"][:3]:
        annotation["category_id"] = 0
    document["categories"].append({"id": 0, "name": "disk"})
    job.truth.write_text(json.dumps(document))
    run_conversion(job.truth, job.images, tmp_path / "out.json", "coco")
    made = json.loads((tmp_path / "out.json").read_text())
    # Two categories of one name are two categories.
    assert made["categories"] == [{"id": 0, "name": "disk"}, {"id": 3, "name": "disk"}]
    assert made["images"] == document["images"]
    for name in ("id", "image_id", "category_id", "bbox", "area"):
        assert [a[name] for a in made["annotations"]] == [a[name] for a in document["annotations"]]


def test_coco_numbers_anew_what_has_no_ids_of_its_own(job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    document["annotations"][1]["id"] = document["annotations"][0]["id"]
    job.truth.write_text(json.dumps(document))
    run_conversion(job.truth, job.images, tmp_path / "a.json", "coco")
    assert [a["id"] for a in json.loads((tmp_path / "a.json").read_text())["annotations"]] == list(range(1, 9))
    run_conversion(job.truth, job.images, tmp_path / "masks", "png")
    run_conversion(tmp_path / "masks", job.images, tmp_path / "b.json", "coco")
    made = json.loads((tmp_path / "b.json").read_text())
    assert [i["id"] for i in made["images"]] == [1, 2, 3, 4]
    assert made["categories"] == [{"id": 1, "name": "object"}]


def test_an_annotation_file_names_photographs_and_categories(run: Run, job: SmallJob, tmp_path: Path) -> None:
    done = run(
        *("convert", job.coarse, "--images", job.images, "--annotations", job.truth, "--to", "coco"), "-o", "out.json"
    )
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out.json").read_text())
    assert made["categories"] == [{"id": 3, "name": "disk"}]
    names = {image["id"]: image["file_name"] for image in made["images"]}
    assert names == {n: f"photo_{n}.png" for n in range(1, 5)}
    done = run("convert", "out.json", "--images", job.images, "--to", "png", "-o", "out")
    assert done.returncode == 0, done.stderr
    done = run("convert", "out", "--images", job.images, "--annotations", job.truth, "--to", "coco", "-o", "x.json")
    assert done.returncode == 2
    assert "--annotations" in done.stderr


def test_two_links_to_one_photograph_are_two_photographs(job: SmallJob, tmp_path: Path) -> None:
    (job.images / "store").mkdir()
    (job.images / "photo_1.png").rename(job.images / "store" / "0f3a.png")
    (job.images / "photo_2.png").unlink()
    for number in (1, 2):
        (job.images / f"photo_{number}.png").symlink_to(job.images / "store" / "0f3a.png")
    policies = Policies(size_mismatch="resize")
    run_conversion(job.truth, job.images, tmp_path / "out.json", "coco", policies=policies)
    made = json.loads((tmp_path / "out.json").read_text())
    assert [image["file_name"] for image in made["images"]] == [f"photo_{n}.png" for n in range(1, 5)]
    run_conversion(job.truth, job.images, tmp_path / "out", "png", policies=policies)
    assert (tmp_path / "out" / "photo_2_1.png").is_file()


def test_a_linked_output_is_named(job: SmallJob, tmp_path: Path) -> None:
    run_conversion(job.truth, job.images, tmp_path / "real", "yolo")
    before = sorted((tmp_path / "real").rglob("*"))
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with pytest.raises(JobError, match="is a link"):
        run_conversion(job.truth, job.images, tmp_path / "out", "yolo", overwrite=True)
    assert sorted((tmp_path / "real").rglob("*")) == before


def test_a_file_of_errors_that_is_not_its_own_is_left(job: SmallJob, tmp_path: Path) -> None:
    errors = tmp_path / "out.json.errors.jsonl"
    for text in ("my notes\n", '{"index": 1, "id": 2, "code": "x"}\n', ""):
        errors.write_text(text)
        with pytest.raises(JobError, match="in the way"):
            run_conversion(job.truth, job.images, tmp_path / "out.json", "coco")
        assert errors.read_text() == text
        assert not (tmp_path / "out.json").exists()
    errors.unlink()
    photo = (job.images / "photo_1.png").read_bytes()
    (job.images / "photo_1.png").unlink()
    assert run_conversion(job.truth, job.images, tmp_path / "out.json", "coco").errors
    assert errors.exists()
    (job.images / "photo_1.png").write_bytes(photo)
    assert not run_conversion(job.truth, job.images, tmp_path / "out.json", "coco", overwrite=True).errors
    assert not errors.exists()


def overlapping(job: SmallJob) -> None:
    document = json.loads(job.truth.read_text())
    for annotation in document["annotations"]:
        mask = Rle.from_coco(annotation["segmentation"]).to_dense()
        grown = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8), iterations=25)
        annotation["segmentation"] = Rle.from_dense(grown).to_coco()
    job.truth.write_text(json.dumps(document))


@pytest.mark.parametrize("target", ["panoptic", "voc", "index-png"])
def test_shared_pixels_need_a_policy_where_a_pixel_has_one_instance(job: SmallJob, tmp_path: Path, target: str) -> None:
    overlapping(job)
    out = tmp_path / ("out.json" if target == "panoptic" else "out")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(JobError, match="--overlaps"):
        run_conversion(job.truth, job.images, out, target)
    assert sorted(tmp_path.iterdir()) == before
    run_conversion(job.truth, job.images, out, target, policies=Policies(overlaps="first"))
    wanted, got = read(job.truth, job.images), read(out, job.images)
    for n in range(0, 8, 2):
        assert got[n][2] == wanted[n][2]
        left = wanted[n + 1][2].to_dense() & ~wanted[n][2].to_dense()
        assert np.array_equal(got[n + 1][2].to_dense(), left)


def test_an_instance_that_others_cover_is_left_out_and_named(job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    document["annotations"][1]["segmentation"] = document["annotations"][0]["segmentation"]
    job.truth.write_text(json.dumps(document))
    summary = run_conversion(job.truth, job.images, tmp_path / "out", "index-png", policies=Policies(overlaps="first"))
    assert summary.written == 7
    assert [e["index"] for e in summary.errors] == [1]
    errors = [json.loads(line) for line in (tmp_path / "out.errors.jsonl").read_text().splitlines()]
    assert errors == summary.errors
    assert set(errors[0]) == {"index", "image", "code", "message"}


def test_crowds_go_where_there_are_crowds(job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    document["annotations"][0]["iscrowd"] = 1
    job.truth.write_text(json.dumps(document))
    assert run_conversion(job.truth, job.images, tmp_path / "a", "yolo").passed == 1
    assert run_conversion(job.truth, job.images, tmp_path / "b.json", "panoptic").passed == 0
    assert [i.refinable for i in open_masks(tmp_path / "b.json", job.images).instances].count(False) == 1


def test_sizes_and_rotation_follow_the_policies(job: SmallJob, tmp_path: Path) -> None:
    for number in range(1, 5):
        picture = Image.open(job.images / f"photo_{number}.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.convert("RGB").save(job.images / f"photo_{number}.jpg", exif=exif)
        (job.images / f"photo_{number}.png").unlink()
    job.truth.write_text(job.truth.read_text().replace(".png", ".jpg"))
    summary = run_conversion(job.truth, job.images, tmp_path / "a", "png")
    assert len(summary.errors) == 8
    assert all("--exif-policy" in error["message"] for error in summary.errors)
    summary = run_conversion(job.truth, job.images, tmp_path / "b", "png", policies=Policies(exif_policy="ignore"))
    assert summary.errors == []
    summary = run_conversion(job.truth, job.images, tmp_path / "c", "png", policies=Policies(size_mismatch="resize"))
    assert summary.errors == []
    assert Image.open(tmp_path / "c" / "photo_1_0.png").size == (160, 220)


@pytest.mark.parametrize("target", ["yolo", "coco", "panoptic"])
def test_only_an_output_of_the_same_kind_is_overwritten(job: SmallJob, tmp_path: Path, target: str) -> None:
    out = tmp_path / ("out" if target == "yolo" else "out.json")
    run_conversion(job.truth, job.images, out, target)
    with pytest.raises(JobError, match="--overwrite"):
        run_conversion(job.truth, job.images, out, target)
    first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    document = json.loads(job.truth.read_text())
    document["annotations"] = document["annotations"][:2]
    job.truth.write_text(json.dumps(document))
    run_conversion(job.truth, job.images, out, target, overwrite=True)
    assert len(open_masks(out, job.images).instances) == 2
    # Nothing of the old one is left over: of four photographs' files, one.
    assert sum(p.exists() for p in first if p.parent.name in ("labels", "out") and p.suffix in (".txt", ".png")) <= 1
    assert not list(tmp_path.glob(".*"))


def test_foreign_files_are_never_deleted(job: SmallJob, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_conversion(job.truth, job.images, out, "yolo")
    (out / "thesis.doc").write_text("years of work")
    with pytest.raises(JobError, match="other files"):
        run_conversion(job.truth, job.images, out, "yolo", overwrite=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("words")
    with pytest.raises(JobError, match="only such a one"):
        run_conversion(job.truth, job.images, tmp_path / "folder", "yolo", overwrite=True)
    with pytest.raises(JobError, match="holds the source"):
        run_conversion(job.truth, job.images, tmp_path, "png", overwrite=True)
    (tmp_path / "pan").mkdir()
    (tmp_path / "pan" / "a.png").write_text("x")
    with pytest.raises(JobError, match="delete it yourself"):
        run_conversion(job.truth, job.images, tmp_path / "pan.json", "panoptic", overwrite=True)
    with pytest.raises(JobError, match="holds the source"):
        run_conversion(job.truth, job.images, job.truth, "coco", overwrite=True)
    assert (out / "thesis.doc").exists()
    assert (tmp_path / "pan" / "a.png").exists()


def test_unknown_formats_are_named(job: SmallJob, tmp_path: Path) -> None:
    for options in ({"to": "pdf"}, {"to": "coco", "source_format": "pdf"}):
        with pytest.raises(OptionError, match="pdf"):
            run_conversion(job.truth, job.images, tmp_path / "out", **options)


def test_the_command_converts_and_its_exit_codes_are_those_of_refine(run: Run, job: SmallJob, tmp_path: Path) -> None:
    def convert(*more: Any) -> Any:
        return run("convert", job.truth, "--images", job.images, *more)

    done = convert("--to", "yolo", "-o", "dataset", "--tolerance", "0.5")
    assert done.returncode == 0, done.stderr
    assert "8 of 8 instances" in done.stderr
    again = convert("--to", "yolo", "-o", "dataset")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert convert("--to", "yolo", "-o", "dataset", "--overwrite").returncode == 0
    (job.images / "photo_2.png").unlink()
    some = convert("--to", "voc", "-o", "voc")
    assert some.returncode == 3, some.stderr
    assert len((tmp_path / "voc.errors.jsonl").read_text().splitlines()) == 2
    assert len(list((tmp_path / "voc" / "SegmentationObject").iterdir())) == 3
    assert "Traceback" not in done.stderr + again.stderr + some.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--to", "pdf"], "--to"),
        (["--to", "png", "--from", "pdf"], "--from"),
        (["--to", "png", "--from", "voc"], "SegmentationObject"),
        (["--to", "png", "--overlaps", "mine"], "--overlaps"),
        (["--to", "png", "--size-mismatch", "mine"], "--size-mismatch"),
        (["--to", "png", "--exif-policy", "mine"], "--exif-policy"),
        (["--to", "yolo", "--tolerance", "nan"], "tolerance"),
        (["--to", "png", "--images", "nowhere"], "nowhere"),
        (["--to", "png", "-o", "no/such/out"], "folder"),
    ],
)
def test_unusable_options_write_nothing(run: Run, job: SmallJob, tmp_path: Path, options: list[str], word: str) -> None:
    before = sorted(tmp_path.iterdir())
    done = run("convert", job.truth, "--images", job.images, "-o", "out", *options)
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_explains_itself(run: Run) -> None:
    done = run("convert", "--help")
    assert done.returncode == 0
    for word in ("maskmend convert", "--overlaps", "--tolerance", "--overwrite", "yolo"):
        assert word in done.stdout


def test_a_write_that_fails_leaves_what_was_there(
    job: SmallJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskmend.clients.formats import yolo

    run_conversion(job.truth, job.images, tmp_path / "out", "yolo")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(yolo, "write_file", full)
    with pytest.raises(JobError, match="No space"):
        run_conversion(job.truth, job.images, tmp_path / "out", "yolo", overwrite=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    assert not list(tmp_path.glob(".*"))
    shutil.rmtree(tmp_path / "out")

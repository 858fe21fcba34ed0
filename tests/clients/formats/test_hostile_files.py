"""Files that strangers made: links, names, numbers and texts that no format may fall over."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_files import FIXTURES, tree
from small_job import SmallJob

from maskmend.clients.convert import run_conversion
from maskmend.clients.formats import format_of, open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.json_text import Layout, read_json_text
from maskmend.clients.formats.label_studio import LabelStudioMasks
from maskmend.clients.formats.locate import reference_names
from maskmend.clients.formats.yolo import YoloMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError, MaskmendError

SECRET = b"0 0.1 0.1 0.9 0.1 0.5 0.9 # the key"
SQUARE = Rle.from_crop(np.ones((4, 4), bool), 12, 16, 3, 3)


def written(path: Path, target: str) -> Path:
    """A small file of a format, with its photograph in `path/photos`."""
    import cv2

    from maskmend.clients.formats import mask_format

    photos = path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), np.full((12, 16, 3), 90, np.uint8))
    kind = mask_format(target)
    out = path / ("in.xml" if target == "cvat" else "in" if kind.writes_folder else "in.json")
    kind.write(out, [Picture("a.png", 12, 16, [(Instance("a.png", "cat", 0.5), SQUARE)])], Policies())
    return out


# ---- links


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of somebody else, with files of every name that a format may look for."""
    folder = tmp_path / "secret"
    folder.mkdir()
    for name in ("id_rsa", "a.txt", "p.json", "default.txt"):
        (folder / name).write_bytes(SECRET)
    shutil.copy(FIXTURES / "labelme" / "annotations" / LABELME, folder / "p.json")
    return folder


LABELME = sorted(path.name for path in (FIXTURES / "labelme" / "annotations").glob("*.json"))[0]


def relink(place: Path, to: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(to)


@pytest.mark.parametrize(
    ("target", "place", "to"),
    [
        ("voc", "labelmap.txt", "id_rsa"),
        ("voc", "ImageSets", ""),
        ("voc", "ImageSets/Segmentation", ""),
        ("voc", "SegmentationClass", ""),
        ("yolo", "data.yaml", "id_rsa"),
        ("yolo", "classes.txt", "id_rsa"),
        ("yolo", "labels/b.txt", "a.txt"),
        ("labelme", "p.json", "p.json"),
        ("png", "a_1.png", "id_rsa"),
        ("cityscapes", "b.txt", "id_rsa"),
    ],
)
def test_links_that_lead_out_are_not_copied(tmp_path: Path, secret: Path, target: str, place: str, to: str) -> None:
    source = written(tmp_path, target) if target != "cityscapes" else cityscapes(tmp_path)
    relink(source / place, secret / to)
    opened = open_masks(source, None, format=target)
    assert not [path for path in opened.files() if not path.resolve().is_relative_to(source)]
    opened.save(tmp_path / "out")
    known = {path.read_bytes() for path in secret.iterdir()}
    assert not known & set(tree(tmp_path / "out").values())


def cityscapes(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "cityscapes" / "results", tmp_path / "in")
    return tmp_path / "in"


@pytest.mark.parametrize(("target", "place"), [("yolo", "labels"), ("voc", "SegmentationObject")])
def test_a_folder_that_leads_out_is_no_part(tmp_path: Path, secret: Path, target: str, place: str) -> None:
    source = written(tmp_path, target)
    relink(source / place, secret)
    with pytest.raises(JobError):
        open_masks(source, None, format=target).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pngs_of_a_panoptic_file_behind_a_link_are_not_there(tmp_path: Path) -> None:
    source = written(tmp_path, "panoptic")
    (tmp_path / "own").mkdir()
    shutil.move(source, tmp_path / "own" / "in.json")
    (tmp_path / "own" / "in").symlink_to(tmp_path / "in")
    opened = open_masks(tmp_path / "own" / "in.json", None)
    with pytest.raises(MaskError):
        opened.mask(0, 12, 16)
    opened.save(tmp_path / "out.json")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_may_be_given_by_a_link(tmp_path: Path) -> None:
    source = written(tmp_path, "voc")
    (tmp_path / "link").symlink_to(source)
    opened = open_masks(tmp_path / "link", None)
    assert opened.mask(0, 12, 16) == SQUARE
    opened.save(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(source)


# ---- what was read


@pytest.mark.parametrize(
    "target", ["panoptic", "voc", "yolo", "png", "index-png", "label-studio", "cvat", "labelme", "coco"]
)
def test_files_are_those_that_what_is_saved_depends_on(tmp_path: Path, target: str) -> None:
    source = written(tmp_path, target)
    opened = open_masks(source, tmp_path / "photos")
    files = list(opened.files())
    assert files == list(open_masks(source, tmp_path / "photos").files())
    assert len(set(files)) == len(files) > 0
    wanted = {path for path in source.rglob("*") if path.is_file()} if source.is_dir() else {source}
    if target == "panoptic":
        wanted |= set((tmp_path / "in").iterdir())
    assert set(files) == {path for path in wanted if "ImageSets" not in path.parts}


def test_what_names_photographs_is_one_of_the_files(job: SmallJob) -> None:
    assert list(open_masks(job.coarse, job.images, annotations=job.truth).files()) == [job.coarse, job.truth]
    nearby = job.images / "instances.json"
    shutil.copy(job.truth, nearby)
    assert list(open_masks(job.coarse, job.images).files()) == [job.coarse, nearby]


# ---- odd records


def coco(**more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": SQUARE.to_coco()}],
        "categories": [{"id": 1, "name": "cat"}],
        **more,
    }


def a_coco_record(**more: Any) -> dict[str, Any]:
    return coco(annotations=[{**coco()["annotations"][0], **more}])


def region(**more: Any) -> dict[str, Any]:
    value = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["cat"]}
    whole = {"id": "r", "type": "polygonlabels", "value": value, "original_width": 16, "original_height": 12, **more}
    return {k: v for k, v in whole.items() if v is not ...}


def tasks(*regions: dict[str, Any], image: str = "a.png") -> list[dict[str, Any]]:
    return [{"data": {"image": image}, "annotations": [{"result": list(regions)}]}]


HUGE = int("9" * 400)


@pytest.mark.parametrize(
    "document",
    [
        coco(images=[{"id": 1, "file_name": "x" * 300 + ".png"}]),
        coco(images=[{"id": 1, "file_name": "loop.png"}]),
        coco(images=[{"id": 1, "file_name": ["a.png"]}]),
        a_coco_record(category_id=[1]),
        a_coco_record(category_id={}),
        a_coco_record(category_id=HUGE),
        a_coco_record(image_id=HUGE),
        a_coco_record(id=HUGE, score=HUGE),
        a_coco_record(score=True, iscrowd=[]),
        a_coco_record(segmentation={"size": [12, 16], "counts": [HUGE]}),
        a_coco_record(segmentation=[[HUGE, 0, 1, 1, 2, 2]]),
        a_coco_record(bbox=None, area=None),
        coco(categories=[{"id": [1], "name": "x"}, {"id": None}, 3]),
        coco(categories={"id": 1}),
        tasks(region(), {"id": "r", "type": ["a"], "value": {"a": []}}),
        tasks(region(value={"points": [[HUGE, 1], [2, 3], [4, 5]]})),
        tasks(region(score=HUGE)),
        tasks(region(id=["r"])),
        tasks(region(value={"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["\ud800"]})),
        tasks(region(), image="\ud800.png"),
        tasks(region(), image="a" * 300 + ".png"),
        tasks(region(original_width=HUGE)),
        {"shapes": [{"label": "\ud800", "points": [[HUGE, 1], [2, 2], [3, 0]]}], "imagePath": "a.png"},
        {"shapes": [{"points": [[0, 0], [2, 2]], "shape_type": "mask", "mask": "AAAA"}], "imagePath": "\ud800.png"},
        {"shapes": [{"label": "x", "points": [[0, 0], [9, 0], [9, 9]]}], "imagePath": "a.png", "imageHeight": HUGE},
        {
            "annotations": [{"file_name": ".", "segments_info": [{"id": 1, "category_id": 1}]}],
            "categories": [{"id": 1, "isthing": 1}],
        },
        {
            "annotations": [{"file_name": "x" * 300, "image_id": [1], "segments_info": [{"id": 1, "category_id": 1}]}],
            "categories": [{"id": 1, "isthing": 1, "name": ["a"]}],
        },
        {
            "annotations": [{"file_name": "\ud800.png", "segments_info": [{"id": 1, "category_id": 1, "score": HUGE}]}],
            "categories": [{"id": 1, "isthing": 1}],
        },
    ],
)
@pytest.mark.parametrize("target", ["coco", "yolo", "cvat"])
def test_odd_records_are_errors_with_a_name(tmp_path: Path, document: Any, target: str) -> None:
    written(tmp_path, "png")
    (tmp_path / "photos" / "loop.png").symlink_to(tmp_path / "photos" / "loop.png")
    source = tmp_path / "odd.json"
    source.write_text(json.dumps(document))
    summary, refused = None, ""
    try:
        summary = run_conversion(source, tmp_path / "photos", tmp_path / "out", target)
    except MaskmendError as error:
        refused = str(error)
    assert len(refused) < 600
    assert "\ud800" not in refused
    if summary is not None:
        assert summary.instances == summary.written + len(summary.errors) + summary.passed == 1
        told = (tmp_path / "out.errors.jsonl").read_text().splitlines() if summary.errors else []
        assert len(told) == len(summary.errors)
        assert all(json.loads(line)["message"] for line in told)


@pytest.mark.parametrize("line", ["\u00a0", "\u2003 \u00a0", "\ufeff\u00a0", "\x1f"])
def test_lines_of_strange_spaces_are_blank(tmp_path: Path, line: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"{line}\n0 0.1 0.1 0.9 0.1 0.5 0.9\n", "utf-8")
    assert format_of(tmp_path) is YoloMasks
    opened = open_masks(tmp_path, None)
    assert len(opened.instances) == 1
    opened.save(tmp_path / "out")
    assert tree(tmp_path / "out")["labels/a.txt"] == (tmp_path / "labels" / "a.txt").read_bytes()


# ---- names that are not UTF-8, and text that a format cannot hold


@pytest.mark.parametrize("target", ["coco", "yolo", "cvat", "labelme", "label-studio", "voc", "panoptic"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_names_of_classes_are_read_in_the_encodings_that_there_are(tmp_path: Path, target: str, encoding: str) -> None:
    source = written(tmp_path, "yolo")
    (source / "data.yaml").unlink()
    (source / "classes.txt").write_bytes("café\n".encode(encoding))
    out = tmp_path / ("out.xml" if target == "cvat" else "out")
    if target in ("coco", "panoptic", "label-studio"):
        out = tmp_path / "out.json"
    run_conversion(source, tmp_path / "photos", out, target)
    assert [i.label for i in open_masks(out, tmp_path / "photos").instances] == ["café"]


def labelled(tmp_path: Path, label: str) -> Path:
    written(tmp_path, "png")
    source = tmp_path / "labelled.json"
    source.write_text(json.dumps(coco(categories=[{"id": 1, "name": label}])))
    return source


@pytest.mark.parametrize("label", ["a\x01b", "a\x0bb", "\ufffe"])
def test_what_xml_cannot_hold_is_refused_by_its_name(tmp_path: Path, label: str) -> None:
    with pytest.raises(JobError, match=r"label .* rename it") as caught:
        run_conversion(labelled(tmp_path, label), tmp_path / "photos", tmp_path / "out.xml", "cvat")
    assert caught.value.field == "label"
    assert not (tmp_path / "out.xml").exists()


@pytest.mark.parametrize("target", ["coco", "yolo", "labelme", "label-studio", "panoptic", "voc"])
def test_what_json_and_yaml_can_hold_is_kept(tmp_path: Path, target: str) -> None:
    out = tmp_path / ("out.json" if target in ("coco", "panoptic", "label-studio") else "out")
    run_conversion(labelled(tmp_path, "a\x01\t'b\""), tmp_path / "photos", out, target)
    assert [i.label for i in open_masks(out, tmp_path / "photos").instances] == ["a\x01\t'b\""]


def test_a_photograph_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    source = written(tmp_path, "png")
    try:
        (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / "caf\udce9.png")
        (source / "a_0.png").rename(source / "caf\udce9_0.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert open_masks(source, tmp_path / "photos").photograph(0).is_file()
    with pytest.raises(JobError, match="photograph") as caught:
        run_conversion(source, tmp_path / "photos", tmp_path / "out.json", "coco")
    assert caught.value.field == "file_name"


# ---- time


def test_long_references_and_many_regions_take_no_time() -> None:
    began = time.perf_counter()
    assert not list(reference_names("a/" * 40_000 + "x.jpg"))
    names = list(reference_names("/" + "a/" * 1500 + "x.jpg"))
    assert len(names) == 32
    assert names[-1] == "x.jpg"
    assert time.perf_counter() - began < 1


def test_labels_of_many_regions_are_looked_up_by_id(tmp_path: Path) -> None:
    shape = region(value={"points": []})
    source = tmp_path / "many.json"
    source.write_text(json.dumps(tasks(*[{**shape, "id": "same" if n % 2 else f"{n}"} for n in range(20_000)])))
    began = time.perf_counter()
    opened = LabelStudioMasks.open(source, None, Policies())
    assert len(opened.instances) == 20_000
    assert time.perf_counter() - began < 5


# ---- files of Windows


def windows(text: str) -> bytes:
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


DOCUMENT = {"version": "5", "shapes": [], "imagePath": "a.png", "flags": {"é": ["x\ny", {}]}, "n": 1.5}


@pytest.mark.parametrize("indent", [None, 1, 2, "\t", "  \t"])
@pytest.mark.parametrize(
    "form", [str.encode, windows, lambda text: (text + "\n").encode(), lambda t: windows(t + "\n\n")]
)
def test_the_layout_of_a_json_file_is_kept(tmp_path: Path, indent: Any, form: Callable[[str], bytes]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(form(json.dumps(DOCUMENT, indent=indent, ensure_ascii=False)))
    document, layout = read_json_text(path, "results")
    assert document == DOCUMENT
    assert isinstance(layout, Layout)
    assert layout.encoded(document) == path.read_bytes()


@pytest.mark.parametrize("target", ["coco", "label-studio", "labelme", "panoptic"])
def test_a_byte_order_mark_hides_no_format(tmp_path: Path, target: str) -> None:
    source = written(tmp_path, target)
    file = next(source.glob("*.json")) if source.is_dir() else source
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    opened = open_masks(source, tmp_path / "photos")
    assert opened.name == target
    assert opened.mask(0, 12, 16) == SQUARE


@pytest.mark.parametrize("target", ["coco", "label-studio", "labelme", "panoptic"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999"])
def test_what_is_no_number_is_named(tmp_path: Path, target: str, number: str) -> None:
    source = written(tmp_path, target)
    file = next(source.glob("*.json")) if source.is_dir() else source
    text = file.read_text().rstrip()
    opening = text[0]
    file.write_text(
        opening + (f'"x": {number}, ' if opening == "{" else f'{{"data": {{}}, "x": {number}}}, ') + text[1:]
    )
    with pytest.raises(JobError, match=f"holds {number}"):
        open_masks(file, tmp_path / "photos")


@pytest.mark.parametrize("target", ["coco", "cvat"])
def test_backslashes_are_slashes_where_there_is_no_such_file(tmp_path: Path, target: str) -> None:
    source = written(tmp_path, target)
    (tmp_path / "photos" / "b").mkdir()
    (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / "b" / "a.png")
    source.write_text(source.read_text().replace("a.png", r"b\\a.png" if target == "coco" else r"b\a.png"))
    assert open_masks(source, tmp_path / "photos").photograph(0).parent.name == "b"


def test_whole_numbers_beyond_64_bits_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "big.json"
    written(tmp_path, "png")
    document = a_coco_record(id=2**127, note=[-(2**70)])
    source.write_text(json.dumps(document))
    opened = open_masks(source, tmp_path / "photos")
    assert "id" not in opened.instances[0].fields
    opened.save(tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == document


# ---- a mask that is refused leaves everything as it was


def test_a_refused_mask_leaves_what_was_there(tmp_path: Path) -> None:
    empty = Rle.from_dense(np.zeros((12, 16), bool))
    other = Rle.from_crop(np.ones((5, 3), bool), 12, 16, 8, 2)
    for target in ("labelme", "cvat"):
        place = tmp_path / target
        place.mkdir()
        opened = open_masks(written(place, target), place / "photos")
        opened.replace(0, other)
        with pytest.raises(MaskError):
            opened.replace(0, empty)
        out = place / ("out.xml" if target == "cvat" else "out")
        opened.save(out)
        assert open_masks(out, place / "photos").mask(0, 12, 16) == other


def test_a_mask_too_ragged_for_polygons_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskmend.patcher import outlines

    source = written(tmp_path, "yolo")
    opened = open_masks(source, tmp_path / "photos")
    monkeypatch.setattr(outlines, "MAX_WORK", 3)
    with pytest.raises(MaskError, match="ragged"):
        opened.replace(0, Rle.from_crop(np.ones((5, 3), bool), 12, 16, 8, 2))
    opened.save(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(source)

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import FIXTURES, dilated, eroded, masks_of, round_trip, tree

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.yaml_names import read_names, write_names
from maskmend.clients.formats.yolo import YoloMasks
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import JobError, MaskError

DATASET, PREDICT = FIXTURES / "yolo" / "dataset", FIXTURES / "yolo" / "predict"
PHOTOS = DATASET / "images"


def folder(tmp_path: Path, lines: list[str]) -> Path:
    (tmp_path / "in" / "labels").mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / "labels" / "000000000001.txt").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path / "in"


def test_labels_of_the_real_converter_are_read() -> None:
    opened = open_masks(DATASET, PHOTOS)
    assert [(i.image, i.label, i.score) for i in opened.instances] == [
        ("000000000001", "cat", None),
        ("000000000001", "lamp's shade", None),
        ("000000000002", "tree: a, b", None),
    ]
    masks = masks_of(opened)
    assert masks[0] == polygons_to_rle([[6, 12, 24, 10, 28, 26, 4, 27]], 48, 64)
    # Two parts, joined by the converter with a line there and back again.
    parts = [[34, 4, 40, 4, 40, 20, 34, 20], [50, 22, 60, 22, 60, 40, 50, 40]]
    assert masks[1] == polygons_to_rle(parts, 48, 64)


def test_predictions_as_save_conf_writes_them_are_read() -> None:
    opened = open_masks(PREDICT / "labels", None)
    assert [(i.image[-1], i.label, i.score, i.refinable) for i in opened.instances] == [
        ("1", "0", 0.875, True),
        ("1", "2", 0.5, True),
        ("2", "0", 0.875, False),
        ("2", "2", 0.5, False),
        ("3", "0", 0.875, True),
        ("3", "2", 0.5, True),
    ]
    # Contours run through the middles of pixels, so that the far side comes out a pixel short.
    assert opened.mask(0, 48, 64).bbox == (5, 10, 19, 19)
    with pytest.raises(MaskError, match="box"):
        opened.mask(2, 48, 64)


@pytest.mark.parametrize("change", [eroded, dilated])
@pytest.mark.parametrize("source", [DATASET, PREDICT])
def test_polygons_change_and_nothing_else(tmp_path: Path, source: Path, change: object) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(PHOTOS, photos)
    shutil.copy(photos / "000000000001.jpg", photos / "000000000003.jpg")
    boxes = source == PREDICT
    opened = open_masks(source, photos)
    if boxes:
        for number, instance in enumerate(opened.instances):
            if instance.refinable:
                opened.replace(number, change(opened.mask(number, 48, 64)))  # type: ignore[operator]
        opened.save(tmp_path / "out")
        again = open_masks(tmp_path / "out", photos)
        assert again.instances == opened.instances
        wanted = [opened.mask(n, 48, 64) for n, i in enumerate(opened.instances) if i.refinable]
        assert [again.mask(n, 48, 64) for n, i in enumerate(again.instances) if i.refinable] == wanted
        name = "labels/000000000002.txt"
        assert tree(tmp_path / "out")[name] == tree(source)[name]
        for name, text in tree(tmp_path / "out").items():
            ends = [[line.split()[-1] for line in t.decode().splitlines()] for t in (text, tree(source)[name])]
            assert ends[0] == ends[1]
        return
    trip = round_trip("yolo", source, photos, tmp_path / "out", change)  # type: ignore[arg-type]
    assert trip.after == trip.before
    assert trip.got == trip.wanted != trip.old
    assert tree(tmp_path / "out")["data.yaml"] == tree(source)["data.yaml"]


def test_nothing_replaced_nothing_changed(tmp_path: Path) -> None:
    source = folder(tmp_path, ["0 0.1 0.1 0.9 0.1 0.5 0.90", "", "  ", "7 0.5 0.5 0.1 0.1", "a bad line", "3 0.25 0.5"])
    text = source / "labels" / "000000000001.txt"
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes().replace(b"\n", b"\r\n") + b"0 0 0 1 0 1 1\xff")
    opened = open_masks(source, PHOTOS)
    # The same mask again is no reason to touch the line.
    opened.replace(0, opened.mask(0, 48, 64))
    opened.save(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(source)
    assert [i.refinable for i in opened.instances] == [True, False, True, True, True]
    for number in (2, 3, 4):
        with pytest.raises(MaskError):
            opened.mask(number, 48, 64)
    changed = eroded(opened.mask(0, 48, 64))
    opened.replace(0, changed)
    opened.save(tmp_path / "new")
    old, new = (tree(f)["labels/000000000001.txt"].split(b"\r\n") for f in (source, tmp_path / "new"))
    assert new[1:] == old[1:]
    assert new[0].startswith(b"\xef\xbb\xbf0 ")
    assert open_masks(tmp_path / "new", PHOTOS).mask(0, 48, 64) == changed


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.sampled_from([1.0, 0.5, None]))
def test_holes_and_parts_come_back_exactly(tmp_path: Path, dense: np.ndarray, score: float | None) -> None:
    mask = Rle.from_dense(dense)
    picture = Picture("a.jpg", mask.height, mask.width, [(Instance("a", "x: [y", score), mask)])
    target = tmp_path / "made"
    if not mask.area:
        with pytest.raises(JobError, match="empty"):
            YoloMasks.write(target, [picture], Policies())
        return
    YoloMasks.write(target, [picture], Policies())
    opened = YoloMasks.open(target, None, Policies())
    assert opened.mask(0, mask.height, mask.width) == mask
    assert (opened.instances[0].label, opened.instances[0].score) == ("x: [y", score)


def test_ultralytics_draws_nearly_the_same_mask(tmp_path: Path) -> None:
    utils = pytest.importorskip("ultralytics.data.utils", reason="parity needs ultralytics")
    rng = np.random.default_rng(4)
    for _ in range(20):
        dense = cv2.GaussianBlur(rng.random((160, 200)), (0, 0), 9) > 0.5
        mask = Rle.from_dense(dense)
        target = tmp_path / "made"
        YoloMasks.write(target, [Picture("a.jpg", 160, 200, [(Instance("a"), mask)])], Policies())
        shutil.copy(PHOTOS / "000000000001.jpg", tmp_path / "a.jpg")
        files = str(tmp_path / "a.jpg"), str(target / "labels" / "a.txt")
        found = utils.verify_image_label((*files, "", False, 1, 0, 0, False))
        assert found[3], found[-1]
        drawn = utils.polygon2mask((160, 200), [(found[3][0] * (200, 160)).reshape(-1)]) > 0
        # It fills the pixels on the line as well: one more at the right and below, and the cuts.
        grown = cv2.dilate(dense.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (drawn & ~grown).sum() < 0.02 * dense.sum()
        assert not (dense & ~drawn).any()


def test_hostile_lines_are_named(tmp_path: Path) -> None:
    bad = [
        "0 nan 0 1 0 1 1",
        "0 inf 0 1 0 1 1",
        "0 0 0 1 0 1 1e9",
        "0 0 0 1_0 0 1 1",
        "-1 0 0 1 0 1 1",
        "0 " + "٣ " * 6,
    ]
    opened = open_masks(folder(tmp_path, ["0 0 0 1 0 1 1", *bad]), PHOTOS)
    for number in range(1, 1 + len(bad)):
        with pytest.raises(MaskError, match="line"):
            opened.mask(number, 48, 64)
    with pytest.raises(JobError, match="class x y"):
        YoloMasks.open(tmp_path / "nowhere", None, Policies())


def roboflow(tmp_path: Path) -> Path:
    """A folder as Roboflow exports it: splits with images and labels, notes, names above them."""
    root = tmp_path / "export"
    for split, name in (("train", "000000000001"), ("valid", "000000000002"), ("test", "000000000001")):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (root / split / kind).mkdir(parents=True)
            shutil.copy(DATASET / kind / f"{name}.{suffix}", root / split / kind / f"{name}.{suffix}")
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (root / name).write_text("\n# Cats > 2024-01-01\nProvided by a user\n")
    shutil.copy(DATASET / "data.yaml", root / "data.yaml")
    return root


@pytest.mark.parametrize("name", ["auto", "yolo"])
def test_an_export_with_splits_is_recognised(tmp_path: Path, name: str) -> None:
    root = roboflow(tmp_path)
    opened = open_masks(root, root, format=name)
    assert opened.name == "yolo"
    assert [(i.image, i.label) for i in opened.instances] == [
        ("test/000000000001", "cat"),
        ("test/000000000001", "lamp's shade"),
        ("train/000000000001", "cat"),
        ("train/000000000001", "lamp's shade"),
        ("valid/000000000002", "tree: a, b"),
    ]
    # Two splits have a photograph of one name: each is its own.
    for number, instance in enumerate(opened.instances):
        split, stem = instance.image.split("/")
        assert opened.photograph(number) == root.resolve() / split / "images" / f"{stem}.jpg"
    opened.save(tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {
        "data.yaml",
        "test/labels/000000000001.txt",
        "train/labels/000000000001.txt",
        "valid/labels/000000000002.txt",
    }


@pytest.mark.parametrize("part", ["train", "train/labels"])
def test_names_are_those_of_the_dataset_that_a_folder_is_a_part_of(tmp_path: Path, part: str) -> None:
    root = roboflow(tmp_path)
    opened = open_masks(root / part, root / "train" / "images")
    assert [i.label for i in opened.instances] == ["cat", "lamp's shade"]
    assert opened.photograph(0).name == "000000000001.jpg"
    assert root / "data.yaml" in [path.resolve() for path in opened.files()]
    opened.save(tmp_path / "out")
    again = open_masks(tmp_path / "out", root / "train" / "images")
    assert again.instances == opened.instances
    # A link that leads out of that dataset's folder names nothing.
    (tmp_path / "other.yaml").write_text("names: [x, y, z]")
    (root / "data.yaml").unlink()
    (root / "data.yaml").symlink_to(tmp_path / "other.yaml")
    assert {i.label for i in open_masks(root / part, None).instances} == {"0", "1"}


def test_names_above_labels_train_too(tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(DATASET / "labels", root / "labels" / "train")
    shutil.copy(DATASET / "data.yaml", root / "data.yaml")
    for part in ("", "labels", "labels/train"):
        assert next(i.label for i in open_masks(root / part, None).instances) == "cat", part


def test_lists_notes_and_one_bad_file_do_not_hide_the_labels(tmp_path: Path) -> None:
    for name in ("b", "c", "d"):
        (tmp_path / f"{name}.txt").write_text("0 0 0 1 0 1 1\n")
    (tmp_path / "a.txt").write_text("no line of labels\n")
    (tmp_path / "train.txt").write_text("\nimages/b.jpg\nimages/c.jpg\n")
    (tmp_path / "Readme.txt").write_text("words\n")
    opened = open_masks(tmp_path, None)
    assert opened.name == "yolo"
    assert [i.image for i in opened.instances] == ["a", "b", "c", "d"]
    for name in ("b", "c"):
        (tmp_path / f"{name}.txt").write_text("words\n")
    with pytest.raises(JobError, match="no format known"):
        open_masks(tmp_path, None)


FORMS = [
    ("names: [cat, 'it''s', \"a, b\"]", ["cat", "it's", "a, b"]),
    ("names: ['a',\n  'b',  # second\n  c d\n]\nnc: 3", ["a", "b", "c d"]),
    ("nc: 2\nnames:\n- a\n- b # c\n\nval: x", ["a", "b"]),
    ("names:\n  0: a\n  1: 'b: c'\n", ["a", "b: c"]),
    ("names: {0: a, 1: b}", ["a", "b"]),
    ("names:\r\n  0: a\r\n", ["a"]),
    ("nonames: [a]", []),
]


@pytest.mark.parametrize(("text", "wanted"), FORMS)
def test_names_are_read_in_every_way_they_are_written(text: str, wanted: list[str]) -> None:
    assert list(read_names(text).values()) == wanted
    yaml = pytest.importorskip("yaml", reason="parity needs PyYAML")
    names = yaml.safe_load(text).get("names", [])
    assert list(names.values() if isinstance(names, dict) else names) == wanted


@pytest.mark.parametrize(
    "text", ["names: *anchor", "names: {a: 1}", "names:\n  a: b", "names: [a", "names: [[a], b]", ""]
)
def test_names_that_cannot_be_understood_are_none(text: str) -> None:
    assert read_names(text) == {}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), unique=True))
def test_names_that_are_written_are_read_again_and_by_yaml(names: list[str]) -> None:
    numbers = {name: n for n, name in enumerate(names)}
    text = write_names(numbers)
    assert read_names(text) == dict(enumerate(names))
    yaml = pytest.importorskip("yaml", reason="parity needs PyYAML")
    loaded = yaml.safe_load(orjson.loads(orjson.dumps(text)))["names"]
    assert (dict(enumerate(loaded)) if isinstance(loaded, list) else loaded) == dict(enumerate(names))

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import FIXTURES, dilated, eroded, masks_of, round_trip
from PIL import Image

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.panoptic import PanopticMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError

HERE = FIXTURES / "panoptic"
SOURCE, PHOTOS = HERE / "cityscapes_panoptic_val.json", HERE / "photos"


def ids(path: Path) -> np.ndarray:
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return rgb @ np.array([1, 256, 65536])


def check_partition(path: Path) -> None:
    """What panopticapi's evaluation demands: segments and pixels say the same."""
    for annotation in json.loads(path.read_text())["annotations"]:
        values = ids(path.with_suffix("") / annotation["file_name"])
        listed = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(values).tolist()) - {0} == set(listed)
        for key, segment in listed.items():
            mask = Rle.from_dense(values == key)
            assert (segment["area"], segment["bbox"]) == (mask.area, list(mask.bbox))


def test_the_masks_are_those_of_the_real_converter() -> None:
    opened = open_masks(SOURCE, PHOTOS)
    document = json.loads(SOURCE.read_text())
    segments = [s for a in document["annotations"] for s in a["segments_info"]]
    masks = masks_of(opened)
    assert [mask.area for mask in masks] == [s["area"] for s in segments]
    assert [list(mask.bbox) for mask in masks] == [s["bbox"] for s in segments]
    names = [(i.label, i.refinable) for i in opened.instances]
    assert ("car", True) in names
    assert ("person", False) in names, "a group of persons is a crowd"
    assert ("person", True) in names
    assert ("road", False) in names


@pytest.mark.parametrize("change", [eroded, dilated])
def test_things_move_and_the_picture_stays_a_partition(tmp_path: Path, change: object) -> None:
    trip = round_trip("panoptic", SOURCE, PHOTOS, tmp_path / "out.json", change, Policies(overlaps="first"))  # type: ignore[arg-type]
    assert trip.after == trip.before
    check_partition(tmp_path / "out.json")
    moved = 0
    for instance, old, wanted, got in zip(trip.before, trip.old, trip.wanted, trip.got, strict=True):
        if instance.fields["iscrowd"]:
            assert got == old
        elif instance.refinable and change is eroded:
            assert got == wanted != old
            moved += 1
    assert moved == (4 if change is eroded else 0)
    before, after = json.loads(SOURCE.read_text()), json.loads((tmp_path / "out.json").read_text())
    for document in (before, after):
        for annotation in document["annotations"]:
            for segment in annotation["segments_info"]:
                del segment["area"], segment["bbox"]
    assert before == after


def test_what_a_thing_leaves_goes_to_the_nearest_stuff_and_never_to_a_thing(tmp_path: Path) -> None:
    opened = open_masks(SOURCE, PHOTOS)
    number = next(n for n, i in enumerate(opened.instances) if i.label == "car")
    old = opened.mask(number, 48, 64)
    opened.replace(number, eroded(old))
    opened.save(tmp_path / "out.json")
    name = json.loads(SOURCE.read_text())["annotations"][0]["file_name"]
    before, after = ids(SOURCE.with_suffix("") / name), ids(tmp_path / "out" / name)
    left = old.to_dense() & ~eroded(old).to_dense()
    assert np.array_equal(before != after, left)
    # Things have ids from 1000 on there; the crowd of persons has 24.
    givers = (before < 1000) & (before != 24)
    rows, columns = np.nonzero(givers)
    for y, x in np.argwhere(left):
        squares = (rows - y) ** 2 + (columns - x) ** 2
        near = squares <= (np.sqrt(squares.min()) * 1.1 + 0.1) ** 2
        assert after[y, x] in set(before[rows[near], columns[near]].tolist())


def test_a_file_in_which_nothing_was_replaced_is_copied(tmp_path: Path) -> None:
    open_masks(SOURCE, PHOTOS).save(tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(SOURCE.read_text())
    for png in SOURCE.with_suffix("").iterdir():
        assert (tmp_path / "out" / png.name).read_bytes() == png.read_bytes()


def test_a_segment_never_vanishes(tmp_path: Path) -> None:
    """A thing over all of the picture: stuff that nothing would be left of keeps what it had."""
    opened = open_masks(SOURCE, PHOTOS, policies=Policies(overlaps="first"))
    number = next(n for n, i in enumerate(opened.instances) if i.label == "bicycle")
    opened.replace(number, Rle.from_dense(np.ones((48, 64), bool)))
    opened.save(tmp_path / "out.json")
    check_partition(tmp_path / "out.json")


def test_two_things_that_want_a_pixel_need_a_policy(tmp_path: Path) -> None:
    opened = open_masks(SOURCE, PHOTOS)
    cars = [n for n, i in enumerate(opened.instances) if i.label == "car"]
    union = Rle.from_dense(opened.mask(cars[0], 48, 64).to_dense() | opened.mask(cars[1], 48, 64).to_dense())
    opened.replace(cars[0], union)
    with pytest.raises(JobError, match="--overlaps"):
        opened.save(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_sizes_differ_by_policy(tmp_path: Path) -> None:
    large = Rle.from_dense(np.pad(np.ones((40, 60), bool), ((20, 36), (30, 38))))
    number = next(n for n, i in enumerate(open_masks(SOURCE, PHOTOS).instances) if i.label == "bicycle")
    with pytest.raises(MaskError, match="--size-mismatch"):
        open_masks(SOURCE, PHOTOS).replace(number, large)
    opened = open_masks(SOURCE, PHOTOS, policies=Policies(size_mismatch="resize"))
    opened.replace(number, large)
    opened.save(tmp_path / "out.json")
    check_partition(tmp_path / "out.json")
    assert open_masks(tmp_path / "out.json", None).mask(number, 96, 128) == large


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint8, (9, 12), elements=st.integers(0, 4)))
def test_what_is_written_is_read_again(tmp_path: Path, values: np.ndarray) -> None:
    present = [v for v in range(1, 5) if (values == v).any()]
    instances = [(Instance("a.jpg", label=f"kind {v % 2}", score=v / 8), Rle.from_dense(values == v)) for v in present]
    path = tmp_path / "made.json"
    PanopticMasks.write(path, [Picture("a.jpg", 9, 12, instances)], Policies())
    check_partition(path)
    opened = PanopticMasks.open(path, None, Policies())
    assert [(i.label, i.score, opened.mask(n, 9, 12)) for n, i in enumerate(opened.instances)] == [
        (i.label, i.score, mask) for i, mask in instances
    ]


def test_hostile_files_are_refused_or_named(tmp_path: Path) -> None:
    shutil.copytree(HERE, tmp_path / "p")
    path = tmp_path / "p" / SOURCE.name
    whole = json.loads(path.read_text())
    for change in (
        lambda d: d.pop("categories"),
        lambda d: d["annotations"][0]["segments_info"][0].update(id=2**24),
        lambda d: d["annotations"][0]["segments_info"][0].update(id=d["annotations"][0]["segments_info"][1]["id"]),
        lambda d: d["annotations"][0]["segments_info"][0].update(category_id=[1]),
        lambda d: d["annotations"][0].pop("file_name"),
        lambda d: d["annotations"].append(7),
    ):
        document = json.loads(json.dumps(whole))
        change(document)
        path.write_text(json.dumps(document))
        with pytest.raises(JobError):
            PanopticMasks.open(path, None, Policies())
    whole["annotations"][0]["file_name"] = "../../secret.png"
    shutil.copy(SOURCE.with_suffix("") / whole["annotations"][1]["file_name"], tmp_path / "secret.png")
    path.write_text(json.dumps(whole))
    opened = PanopticMasks.open(path, PHOTOS, Policies())
    with pytest.raises(MaskError, match="leads out"):
        opened.mask(0, 48, 64)
    with pytest.raises(ImageError):
        PanopticMasks.open(SOURCE, tmp_path / "p" / "cityscapes_panoptic_val", Policies()).photograph(0)

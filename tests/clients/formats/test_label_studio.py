from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_files import grown

from maskmend.clients.formats.base import Instance, Peek, Picture, Policies
from maskmend.clients.formats.label_studio import LabelStudioMasks, image_reference
from maskmend.clients.formats.label_studio_regions import put_mask, region_mask
from maskmend.clients.formats.locate import reference_names
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError

HERE = Path(__file__).parent
EXPORT = HERE / "fixtures" / "label-studio" / "export.json"
SAMPLES = HERE.parents[2] / "samples"


def opened(path: Path = EXPORT, **policies: Any) -> LabelStudioMasks:
    return LabelStudioMasks.open(path, SAMPLES / "images", Policies(**policies))


def test_a_real_export_is_recognised_and_read() -> None:
    assert LabelStudioMasks.matches(Peek(EXPORT))
    assert not LabelStudioMasks.matches(Peek(SAMPLES / "coarse.json"))
    masks = opened()
    coarse = [Rle.from_coco(r["segmentation"]) for r in json.loads((SAMPLES / "coarse.json").read_text())]
    brushes = [n for n, i in enumerate(masks.instances) if i.refinable and masks.mask(n, 1, 1) in coarse]
    assert len(brushes) >= 4, "brushes are the masks that they were made of"
    boxes = [i for i in masks.instances if not i.refinable]
    assert len(boxes) == 2
    assert {i.label for i in masks.instances} == {"animal", "boat"}
    predicted = [i.score for i in masks.instances if i.score is not None]
    assert predicted == [0.875, 0.875]
    assert masks.instances[0].fields["image_id"] == 71
    names = {masks.photograph(n).name for n in range(len(masks.instances))}
    assert names == {"000000208901.jpg", "000000401416.jpg"}
    assert [image for image, _ in masks.by_image()] == [
        "/data/upload/3/1f2e3d4c-000000208901.jpg",
        "/data/local-files/?d=photos/000000401416.jpg",
    ]


def test_replaced_masks_come_back_and_nothing_else_changes(tmp_path: Path) -> None:
    masks = opened()
    wanted = {}
    for number, instance in enumerate(masks.instances):
        if instance.refinable:
            wanted[number] = grown(masks.mask(number, 1, 1))
            masks.replace(number, wanted[number])
    masks.save(tmp_path / "out.json")
    again = opened(tmp_path / "out.json")
    assert again.instances == masks.instances
    assert {n: again.mask(n, 1, 1) for n in wanted} == wanted
    before, after = json.loads(EXPORT.read_text()), json.loads((tmp_path / "out.json").read_text())
    for document in (before, after):
        for task in document:
            for entry in [*task["annotations"], *task["predictions"]]:
                for region in entry["result"]:
                    region["value"].pop("rle", None), region["value"].pop("points", None)
    assert json.dumps(after) == json.dumps(before), "order of keys included"


def test_what_the_refiner_left_alone_is_written_byte_for_byte(tmp_path: Path) -> None:
    masks = opened()
    for number, instance in enumerate(masks.instances):
        if instance.refinable:
            masks.replace(number, masks.mask(number, 1, 1))
    masks.save(tmp_path / "same.json")
    assert (tmp_path / "same.json").read_bytes() == EXPORT.read_bytes()
    masks.replace(0, grown(masks.mask(0, 1, 1)))
    masks.save(tmp_path / "one.json")
    before, after = EXPORT.read_text(), (tmp_path / "one.json").read_text()
    assert after != before
    # All after the first region is the same text.
    rest = before[before.index('"id": "region_0710"') :]
    assert after.endswith(rest)


@pytest.mark.parametrize(
    "layout", [{"indent": 2}, {"indent": 4, "ensure_ascii": False}, {"separators": (",", ":")}, {}]
)
def test_the_layout_of_the_file_is_kept(tmp_path: Path, layout: dict[str, Any]) -> None:
    source = tmp_path / "in.json"
    document = json.loads(EXPORT.read_text())
    document[0]["meta"] = {"large": 12345678901234567890123, "small": 1e-7, "text": "größer"}
    if layout.get("ensure_ascii", True):
        document[0]["meta"]["half"] = "\ud800"
    source.write_text(json.dumps(document, **layout))
    masks = opened(source)
    masks.replace(0, grown(masks.mask(0, 1, 1)))
    masks.save(tmp_path / "out.json")
    rest = source.read_bytes()[source.read_bytes().index(b"region_0710") :]
    assert (tmp_path / "out.json").read_bytes().endswith(rest)


def test_polygons_are_simplified_within_the_tolerance(tmp_path: Path) -> None:
    masks = opened(tolerance=1.0)
    number = next(n for n, i in enumerate(masks.instances) if i.refinable and "points" in masks._regions[n]["value"])
    mask = grown(masks.mask(number, 1, 1))
    masks.replace(number, mask)
    exact = deepcopy(masks._regions[number])
    put_mask(exact, mask, 0)
    assert len(masks._regions[number]["value"]["points"]) < 0.7 * len(exact["value"]["points"])
    found = masks.mask(number, 1, 1).to_dense()
    union, both = (found | mask.to_dense()).sum(), (found & mask.to_dense()).sum()
    assert both / union > 0.97


def region(**more: Any) -> dict[str, Any]:
    points = [[10, 10], [90, 10], [50, 90]]
    value = {"points": points, "closed": True, "polygonlabels": ["x"], **more.pop("value", {})}
    return {"id": "a", "type": "polygonlabels", "original_width": 200, "original_height": 100, "value": value, **more}


def test_rotated_views_and_open_polygons_pass_through(tmp_path: Path) -> None:
    result = [region(), region(image_rotation=90), region(value={"closed": False}), region(value={"rotation": 5})]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": result}]}]))
    assert [i.refinable for i in opened(path).instances] == [True, False, False, False]


def test_labels_may_stand_in_an_entry_of_their_own(tmp_path: Path) -> None:
    shape = region(type="polygon")
    del shape["value"]["polygonlabels"]
    twin = {"id": "a", "type": "labels", "value": {"labels": ["tree"]}}
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"image": "a.jpg"}, "annotations": [{"result": [twin, shape]}]}]))
    (instance,) = opened(path).instances
    assert instance.label == "tree"
    assert instance.refinable


def test_a_mask_of_another_size_says_so_in_the_region() -> None:
    shape = region()
    put_mask(shape, Rle.from_dense(np.ones((40, 50), bool)), 0)
    assert (shape["original_height"], shape["original_width"]) == (40, 50)
    assert region_mask(shape).area == 2000


@pytest.mark.parametrize(
    "broken",
    [
        {"value": {"points": "no"}},
        {"value": {"points": [[1, 2], [3]]}},
        {"value": {"points": [[1, 2], [3, True], [4, 5]]}},
        {"value": {"points": [[1, 2], [3, 1e300], [4, 5]]}},
        {"original_width": "200"},
        {"original_width": 10**9},
        {"original_height": 0},
        {"type": "brushlabels"},
    ],
)
def test_broken_regions_are_mask_errors(broken: dict[str, Any]) -> None:
    with pytest.raises(MaskError):
        region_mask(region(**broken))


def test_broken_files_are_job_errors(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    for text in ("", "[", "{}", "[]", '[{"data": 3}]', '[{"data": {}, "annotations": [NaN]}]', "[" * 100_000):
        path.write_text(text)
        # NaN is no reason not to know whose a file is; what reads it refuses it.
        assert LabelStudioMasks.matches(Peek(path)) == ("NaN" in text)
        with pytest.raises(JobError):
            opened(path)
    path.write_text('[{"data": {"image": 3}, "annotations": [{"result": 3}, 4, {"result": [5, {"type": 6}]}]}]')
    assert not opened(path).instances


def test_names_in_the_folder() -> None:
    names = lambda text: list(reference_names(text))  # noqa: E731
    assert names("/data/upload/3/1f2e3d4c-cat.jpg")[-2:] == ["1f2e3d4c-cat.jpg", "cat.jpg"]
    assert names("/data/local-files/?d=a%20b/c.jpg") == ["a b/c.jpg", "c.jpg"]
    assert names("s3://bucket/a/b.png") == ["a/b.png", "b.png"]
    assert names("../../etc/passwd") == ["etc/passwd", "passwd"]
    assert names("http://[") == []
    assert image_reference({"data": {"audio": "a.wav", "picture": "x.png"}}) == "x.png"
    assert image_reference({"data": {"other": "y.png", "image": "x.png"}}) == "x.png"
    assert image_reference({"data": 4}) == ""


def test_no_photograph_is_read_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    path = tmp_path / "tasks.json"
    for name in ("link.jpg", "../secret.jpg", "/data/local-files/?d=../secret.jpg", "a\0.jpg", "x" * 5000 + ".jpg"):
        path.write_text(json.dumps([{"data": {"image": name}, "annotations": [{"result": [region()]}]}]))
        masks = LabelStudioMasks.open(path, folder, Policies())
        with pytest.raises(ImageError):
            masks.photograph(0)
    with pytest.raises(JobError, match="--images"):
        LabelStudioMasks.open(path, None, Policies()).photograph(0)


def test_a_new_file_for_a_conversion(tmp_path: Path) -> None:
    masks = opened()
    mask = masks.mask(0, 1, 1)
    pictures = [Picture("a/b.jpg", mask.height, mask.width, [(Instance("a/b.jpg", "cat", 0.5), mask)])]
    LabelStudioMasks.write(tmp_path / "new.json", pictures, Policies())
    again = opened(tmp_path / "new.json")
    assert again.mask(0, 1, 1) == mask
    assert again.instances == [Instance("a/b.jpg", "cat", 0.5)]


def test_what_is_saved_passes_label_studios_own_checks(tmp_path: Path) -> None:
    pytest.importorskip("label_studio_sdk", reason="label-studio-sdk is not installed")
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    config = (EXPORT.parent / "make_label_studio.py").read_text().split('"""')[3]
    masks = opened()
    for number, instance in enumerate(masks.instances):
        if instance.refinable:
            masks.replace(number, grown(masks.mask(number, 1, 1)))
    masks.save(tmp_path / "out.json")
    interface = LabelInterface(config)
    read = 0
    for task in json.loads((tmp_path / "out.json").read_text()):
        for annotation in task["annotations"]:
            assert interface.validate_annotation(annotation)
            for entry in annotation["result"]:
                if entry["type"] == "brushlabels":
                    alpha = decode_rle(entry["value"]["rle"]).reshape(entry["original_height"], -1, 4)[..., 3]
                    assert np.array_equal(alpha > 0, region_mask(entry).to_dense())
                    read += 1
    assert read >= 2

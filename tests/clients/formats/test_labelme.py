from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import farthest, grown

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Peek, Picture, Policies
from maskmend.clients.formats.labelme import LabelmeMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError

HERE = Path(__file__).parent
FOLDER = HERE / "fixtures" / "labelme" / "annotations"
PHOTOS = FOLDER.parent / "photos"
SAMPLES = HERE.parents[2] / "samples"


def opened(path: Path = FOLDER, **policies: Any) -> LabelmeMasks:
    return LabelmeMasks.open(path, PHOTOS, Policies(**policies))


def refinable(masks: LabelmeMasks) -> list[int]:
    return [number for number, instance in enumerate(masks.instances) if instance.refinable]


def test_real_files_are_recognised_and_read() -> None:
    for path in (FOLDER, FOLDER / "linked.json"):
        assert LabelmeMasks.matches(Peek(path))
    assert not LabelmeMasks.matches(Peek(SAMPLES / "coarse.json"))
    assert not LabelmeMasks.matches(Peek(PHOTOS))
    masks = opened()
    assert masks.writes_folder
    assert [i.label for i in masks.instances] == [
        "animal",
        "animal",
        "animal",
        "eye",
        "eye",
        "animal",
        "animal",
        "animal",
    ]
    assert refinable(masks) == [0, 1, 6, 7]
    polygon, mask = masks.mask(0, 1, 1), masks.mask(1, 1, 1)
    assert polygon == masks.mask(7, 1, 1)
    assert mask == masks.mask(6, 1, 1)
    both, either = (polygon.to_dense() & mask.to_dense()).sum(), (polygon.to_dense() | mask.to_dense()).sum()
    assert both / either > 0.8, "one drawn after the other"
    assert masks.photograph(0) == PHOTOS.resolve() / "animal.jpg"
    with pytest.raises(MaskError, match="rectangle"):
        masks.mask(2, 1, 1)


@pytest.mark.parametrize("whole", [True, False])
def test_replaced_masks_come_back_and_nothing_else_changes(tmp_path: Path, whole: bool) -> None:
    source = FOLDER if whole else FOLDER / "embedded.json"
    masks = opened(source)
    assert masks.writes_folder == whole
    wanted = {number: grown(masks.mask(number, 1, 1)) for number in refinable(masks)}
    for number, mask in wanted.items():
        masks.replace(number, mask)
    masks.save(tmp_path / "out")
    if not whole:
        (tmp_path / "out").rename(tmp_path / "out.json")
    again = opened(tmp_path / ("out" if whole else "out.json"))
    assert again.instances == masks.instances
    assert {n: again.mask(n, 1, 1) for n in wanted} == wanted
    for name in ("embedded", "linked") if whole else ("embedded",):
        before = json.loads((FOLDER / f"{name}.json").read_text())
        after = json.loads(
            (tmp_path / ("out" if whole else "") / ("out.json" if not whole else f"{name}.json")).read_text()
        )
        for shape in before["shapes"] + after["shapes"]:
            if shape["shape_type"] in ("polygon", "mask"):
                shape["points"], shape["mask"] = None, None
        assert json.dumps(before) == json.dumps(after), "order of keys included"


def test_what_the_refiner_left_alone_is_written_byte_for_byte(tmp_path: Path) -> None:
    masks = opened()
    for number in refinable(masks):
        masks.replace(number, masks.mask(number, 1, 1))
    masks.save(tmp_path / "same")
    for file in FOLDER.iterdir():
        assert (tmp_path / "same" / file.name).read_bytes() == file.read_bytes()
    masks.replace(0, grown(masks.mask(0, 1, 1)))
    masks.save(tmp_path / "one")
    before, after = (FOLDER / "embedded.json").read_text(), (tmp_path / "one" / "embedded.json").read_text()
    rest = before[before.index('"group_id": 3') :]
    assert after.endswith(rest)
    assert after != before
    assert (tmp_path / "one" / "linked.json").read_bytes() == (FOLDER / "linked.json").read_bytes()


def test_polygons_are_simplified_within_the_tolerance(tmp_path: Path) -> None:
    sizes = []
    for tolerance in (0.0, 0.5, 1.5):
        masks = opened(tolerance=tolerance)
        shape = masks.mask(1, 1, 1)
        masks.replace(0, shape)
        masks.save(tmp_path / "out")
        again = opened(tmp_path / "out")
        found = again.mask(0, 1, 1).to_dense()
        assert farthest(shape.to_dense(), found) <= (tolerance + 1 if tolerance else 0)
        sizes.append((tmp_path / "out" / "embedded.json").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_goes_through_a_new_folder(tmp_path_factory: pytest.TempPathFactory, dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    folder = tmp_path_factory.mktemp("labelme") / "out"
    pictures = [Picture("sub/a.jpg", mask.height, mask.width, [(Instance("sub/a.jpg", "x"), mask)])]
    if not mask.area:
        with pytest.raises(MaskError, match="empty"):
            LabelmeMasks.write(folder, pictures, Policies())
        return
    LabelmeMasks.write(folder, pictures, Policies())
    again = opened(folder)
    assert again.mask(0, 1, 1) == mask
    assert again.instances == [Instance("sub/a.jpg", "x")]


def test_two_photographs_of_one_name_cannot_share_a_folder(tmp_path: Path) -> None:
    pictures = [Picture(name, 2, 2, []) for name in ("a/x.jpg", "b/x.png")]
    with pytest.raises(JobError, match=r"x\.json"):
        LabelmeMasks.write(tmp_path / "out", pictures, Policies())


def test_files_of_old_versions_and_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    shape = {"label": "x", "points": [[1, 1], [9, 1], [5, 8]], "line_color": None}
    path.write_text(json.dumps({"shapes": [shape], "imagePath": "..\\photos\\animal.jpg", "imageData": None}))
    masks = opened(path)
    assert masks.mask(0, 10, 20).area > 20
    assert masks.photograph(0).name == "animal.jpg"
    masks.replace(0, grown(masks.mask(0, 30, 40)))
    masks.save(tmp_path / "b.json")
    saved = json.loads((tmp_path / "b.json").read_text())
    assert list(saved["shapes"][0]) == ["label", "points", "line_color"]


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@pytest.mark.parametrize(
    "shape",
    [
        {"points": [[1, 2], [3, 4]]},
        {"points": [[1, 2], [3, "4"], [5, 6]]},
        {"points": "no"},
        {"points": [[1, 2], [3, 1e99], [5, 6]]},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "???"},
        {"points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": PNG},
        {"points": [[0, 0]], "shape_type": "mask", "mask": PNG},
        {"points": [[0, 0], [1e300, 1]], "shape_type": "mask", "mask": PNG},
        {"points": [[0, 0], [1, 1]], "shape_type": "circle"},
    ],
)
def test_broken_shapes_are_mask_errors(tmp_path: Path, shape: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"shapes": [shape], "imagePath": "a.jpg"}))
    with pytest.raises(MaskError):
        opened(path).mask(0, 10, 20)


def test_a_mask_must_fit_its_points_and_the_photograph(tmp_path: Path) -> None:
    document = json.loads((FOLDER / "embedded.json").read_text())
    path = tmp_path / "a.json"
    for change in ([[0.0, 0.0], [1.0, 1.0]], [[150.0, 9.0], [999.0, 999.0]]):
        document["shapes"][1]["points"] = change
        path.write_text(json.dumps(document))
        with pytest.raises(MaskError):
            opened(path).mask(1, 1, 1)
    document["imageHeight"] = 10**9
    path.write_text(json.dumps(document))
    with pytest.raises(MaskError, match="65535"):
        opened(path).mask(0, 1, 1)


def test_broken_files_are_job_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("", "{", "[]", '{"shapes": 3, "imagePath": "a"}', '{"shapes": [3], "imagePath": "a"}', "[" * 99_999):
        path.write_text(text)
        with pytest.raises(JobError):
            opened(path)
    with pytest.raises(JobError, match="no LabelMe files"):
        opened(PHOTOS)


def test_no_photograph_is_read_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    path = tmp_path / "a.json"
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "a/../../secret.jpg", 3):
        path.write_text(json.dumps({"shapes": [{"points": []}], "imagePath": name}))
        with pytest.raises(ImageError):
            LabelmeMasks.open(path, tmp_path / "photos", Policies()).photograph(0)


def test_labelme_itself_reads_what_is_saved(tmp_path: Path) -> None:
    labelme = pytest.importorskip("labelme", reason="labelme is not installed")
    masks = opened()
    for number in refinable(masks):
        masks.replace(number, grown(masks.mask(number, 1, 1)))
    masks.save(tmp_path / "annotations")
    (tmp_path / "photos").symlink_to(PHOTOS.resolve())
    for name in ("embedded", "linked"):
        read = labelme.LabelFile(str(tmp_path / "annotations" / f"{name}.json"))
        first = 0 if name == "embedded" else 4
        assert [shape["label"] for shape in read.shapes] == [i.label for i in masks.instances[first : first + 4]]
        again = opened(tmp_path / "annotations")
        for offset, shape in enumerate(read.shapes):
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = np.array(shape["points"]).astype(int)
                wanted = again.mask(first + offset, 1, 1).to_dense()
                assert np.array_equal(shape["mask"], wanted[y0 : y1 + 1, x0 : x1 + 1])
                assert wanted.sum() == shape["mask"].sum()
        assert read.other_data == {"reviewer": "A. B."}


def test_other_json_files_do_not_hide_those_of_labelme(tmp_path: Path) -> None:
    shutil.copytree((Path(__file__).parent / "fixtures" / "labelme" / "annotations"), tmp_path / "in")
    (tmp_path / "in" / "0.json").write_text('{"settings": 1}')
    (tmp_path / "in" / "00.json").write_text("no json")
    wanted = open_masks((Path(__file__).parent / "fixtures" / "labelme" / "annotations"), None).instances
    assert open_masks(tmp_path / "in", None).instances == wanted

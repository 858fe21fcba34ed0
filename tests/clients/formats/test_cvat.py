from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import farthest, grown

from maskmend.clients.formats.base import Instance, Peek, Picture, Policies
from maskmend.clients.formats.cvat import CvatMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError

HERE = Path(__file__).parent
EXPORT = HERE / "fixtures" / "cvat" / "annotations.xml"
SAMPLES = HERE.parents[2] / "samples"


def opened(path: Path = EXPORT, **policies: Any) -> CvatMasks:
    return CvatMasks.open(path, SAMPLES / "images", Policies(**policies))


def refinable(masks: CvatMasks) -> list[int]:
    return [number for number, instance in enumerate(masks.instances) if instance.refinable]


def test_a_real_file_is_recognised_and_read() -> None:
    assert CvatMasks.matches(Peek(EXPORT))
    assert not CvatMasks.matches(Peek(SAMPLES / "coarse.json"))
    masks = opened()
    assert len(masks.instances) == 11
    found = refinable(masks)
    assert len(found) == 5
    assert [masks.instances[n].label for n in found] == ["animal", "animal", "boat", "boat", "boat"]
    records = json.loads((SAMPLES / "coarse.json").read_text())
    coarse = [Rle.from_coco(r["segmentation"]) for r in records if r["image_id"] in (208901, 401416)]
    read = [masks.mask(n, 1, 1) for n in found]
    assert sum(mask in coarse for mask in read) == 3, "Datumaro's whole-image masks and CVAT's tight one"
    assert masks.photograph(0).name == "000000208901.jpg"
    for number in set(range(11)) - set(found):
        with pytest.raises(MaskError, match="no mask"):
            masks.mask(number, 1, 1)


def test_only_the_attributes_of_replaced_shapes_change(tmp_path: Path) -> None:
    masks = opened()
    wanted = {number: grown(masks.mask(number, 1, 1)) for number in refinable(masks)}
    for number, mask in wanted.items():
        masks.replace(number, mask)
    masks.save(tmp_path / "out.xml")
    again = opened(tmp_path / "out.xml")
    assert again.instances == masks.instances
    assert {n: again.mask(n, 1, 1) for n in wanted} == wanted

    def bare(path: Path) -> str:
        # Polygons and masks of images, not those of tracks.
        head, track, tail = path.read_text().partition("<!-- kept")
        head = re.sub(r'(<polygon [^>]*points=)"[^"]*"', r"\1", head)
        return (
            re.sub(r'(<mask [^>]*)rle="[^"]*" left="\d+" top="\d+" width="\d+" height="\d+"', r"\1", head)
            + track
            + tail
        )

    assert bare(tmp_path / "out.xml") == bare(EXPORT)


def test_what_the_refiner_left_alone_is_written_byte_for_byte(tmp_path: Path) -> None:
    masks = opened()
    for number in refinable(masks):
        masks.replace(number, masks.mask(number, 1, 1))
    masks.save(tmp_path / "same.xml")
    assert (tmp_path / "same.xml").read_bytes() == EXPORT.read_bytes()
    number = refinable(masks)[1]
    before = masks.mask(number, 1, 1)
    masks.replace(number, grown(before))
    masks.replace(number, before)
    masks.save(tmp_path / "undone.xml")
    assert (tmp_path / "undone.xml").read_bytes() == EXPORT.read_bytes()


def test_polygons_are_simplified_within_the_tolerance(tmp_path: Path) -> None:
    lengths = []
    for tolerance in (0.0, 0.5, 1.5):
        masks = opened(tolerance=tolerance)
        number = refinable(masks)[0]
        shape = masks.mask(refinable(masks)[1], 1, 1)
        masks.replace(number, shape)
        masks.save(tmp_path / "out.xml")
        found = opened(tmp_path / "out.xml").mask(number, 1, 1).to_dense()
        assert farthest(shape.to_dense(), found) <= (tolerance + 1 if tolerance else 0)
        lengths.append((tmp_path / "out.xml").stat().st_size)
    assert lengths[0] > lengths[1] > lengths[2]


@settings(max_examples=100, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_goes_through_a_file(tmp_path_factory: pytest.TempPathFactory, dense: np.ndarray) -> None:
    mask = Rle.from_dense(dense)
    path = tmp_path_factory.mktemp("cvat") / "a.xml"
    pictures = [Picture("a.jpg", mask.height, mask.width, [(Instance("a.jpg", 'a "b" <&>'), mask)])]
    if not mask.area:
        with pytest.raises(MaskError, match="empty"):
            CvatMasks.write(path, pictures, Policies())
        return
    CvatMasks.write(path, pictures, Policies())
    again = opened(path)
    assert again.mask(0, 1, 1) == mask
    assert again.instances == [Instance("a.jpg", 'a "b" <&>')]


def test_new_files_may_have_polygons(tmp_path: Path) -> None:
    mask = opened().mask(2, 1, 1)
    pictures = [Picture("a&b.jpg", mask.height, mask.width, [(Instance("a&b.jpg"), mask)])]
    CvatMasks.write(tmp_path / "a.xml", pictures, Policies(tolerance=1.0))
    again = opened(tmp_path / "a.xml")
    assert again.instances == [Instance("a&b.jpg", "object")]
    assert farthest(mask.to_dense(), again.mask(0, 1, 1).to_dense()) <= 2


def document(shapes: str, image: str = 'id="0" name="a.jpg" width="20" height="10"') -> str:
    return f"<annotations><version>1.1</version><image {image}>{shapes}</image></annotations>"


def test_quotes_and_brackets_in_attributes_do_not_confuse_it(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    text = document(
        "<polygon\n label='it > that, points=\"1,2\"'\n  points = '1.00,1.00;9.00,1.00;5.00,8.00'   z='&gt;'/>"
        '<polygon points="1,1;9,1;5,8" label="ü"></polygon>'
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    masks = opened(path)
    mask = Rle.from_dense(np.pad(np.ones((3, 4), bool), ((2, 5), (3, 13))))
    masks.replace(0, mask)
    masks.replace(1, mask)
    masks.save(path.with_name("b.xml"))
    points = "3.00,2.00;7.00,2.00;7.00,5.00;3.00,5.00"
    wanted = text.replace("1.00,1.00;9.00,1.00;5.00,8.00", points).replace('"1,1;9,1;5,8"', f'"{points}"')
    assert path.with_name("b.xml").read_bytes() == b"\xef\xbb\xbf" + wanted.encode()


@pytest.mark.parametrize(
    "shape",
    [
        '<polygon label="a"/>',
        '<polygon points="1,2;3"/>',
        '<polygon points="1,2;3,4"/>',
        '<polygon points="1,2;3,x;5,6"/>',
        '<polygon points="1,2;3,nan;5,6"/>',
        '<polygon points="1,2;3,1e99;5,6"/>',
        '<mask rle="1" left="0" top="0" width="1"/>',
        '<mask rle="1, 2" left="0" top="0" width="2" height="1"/>',
        '<mask rle="1, x" left="0" top="0" width="2" height="1"/>',
        '<mask rle="1, 99999999999999999999" left="0" top="0" width="2" height="1"/>',
        '<mask rle="0, 4" left="0" top="0" width="60000" height="60000"/>',
        '<mask rle="0, 4" left="19" top="0" width="2" height="2"/>',
        '<mask rle="0, 4" left="-1" top="0" width="2" height="2"/>',
        f'<mask rle="{"9" * 5000}" left="0" top="0" width="2" height="2"/>',
        f'<mask rle="0, 4" left="{"9" * 5000}" top="0" width="2" height="2"/>',
    ],
)
def test_broken_shapes_are_mask_errors(tmp_path: Path, shape: str) -> None:
    (tmp_path / "a.xml").write_text(document(shape))
    masks = opened(tmp_path / "a.xml")
    with pytest.raises(MaskError):
        masks.mask(0, 10, 20)


def test_broken_and_hostile_files_are_job_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    bomb = '<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;">]>'
    texts = [
        b"",
        b"<annotations>",
        b"<other/>",
        (bomb + document("")).encode(),
        (f'<!DOCTYPE a SYSTEM "{EXPORT}">' + document("")).encode(),
        document("").encode("utf-16"),
        ('<?xml version="1.0" encoding="latin-1"?>' + document("")).encode("latin-1"),
        document("<a>" * 40 + "</a>" * 40).encode(),
        document("\xff").encode("latin-1"),
        document("&c;").encode(),
    ]
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(JobError):
            opened(path)
    with pytest.raises(JobError):
        opened(tmp_path / "none.xml")


def test_no_photograph_is_read_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    path = tmp_path / "a.xml"
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), ""):
        path.write_text(document('<polygon points="1,1;9,1;5,8"/>', f'name="{name}" width="20" height="10"'))
        with pytest.raises(ImageError):
            CvatMasks.open(path, tmp_path / "photos", Policies()).photograph(0)


def test_datumaro_reads_what_is_saved(tmp_path: Path) -> None:
    dataset = pytest.importorskip("datumaro.components.dataset", reason="datumaro is not installed")
    masks = opened()
    wanted = [grown(masks.mask(number, 1, 1)) for number in refinable(masks)]
    for number, mask in zip(refinable(masks), wanted, strict=True):
        masks.replace(number, mask)
    file = tmp_path / "cvat" / "annotations.xml"
    file.parent.mkdir()
    (file.parent / "images").symlink_to(SAMPLES / "images")
    masks.save(file)
    # It reads files of images or of tracks, and none of both.
    file.write_text(re.sub(r"<track.*?</track>", "", file.read_text(), flags=re.DOTALL))
    read = dataset.Dataset.import_from(str(tmp_path / "cvat"), "cvat")
    found = [Rle.from_dense(a.image > 0) for item in read for a in item.annotations if a.type.name == "mask"]
    assert len(found) >= 3
    assert all(mask in wanted for mask in found)
    assert sum(a.type.name == "polygon" for item in read for a in item.annotations) >= 2


def test_cvats_own_sdk_encodes_masks_the_same(tmp_path: Path) -> None:
    sdk = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk is not installed")
    masks = opened()
    for number in refinable(masks):
        dense = grown(masks.mask(number, 1, 1)).to_dense()
        *rle, left, top, right, bottom = sdk.encode_mask(dense)
        CvatMasks.write(
            tmp_path / "a.xml", [Picture("a", *dense.shape, [(Instance("a"), Rle.from_dense(dense))])], Policies()
        )
        told = dict(re.findall(r'(\w+)="([^"]*)"', (tmp_path / "a.xml").read_text().partition("<mask ")[2]))
        assert [int(v) for v in told["rle"].split(",")] == rle
        assert (int(told["left"]), int(told["top"])) == (left, top)
        assert (int(told["width"]), int(told["height"])) == (right - left + 1, bottom - top + 1)

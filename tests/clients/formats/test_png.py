from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mask_files import FIXTURES, dilated, eroded, masks_of, round_trip, tree
from PIL import Image

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.png import PngMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError

HERE = FIXTURES / "png"
PHOTOS = HERE / "photos"


def test_the_photograph_is_in_the_name_or_in_the_folder() -> None:
    for images in (PHOTOS, None):
        opened = open_masks(HERE / "numbered", images)
        assert [i.image for i in opened.instances] == ["street_1"] * 6
    opened = open_masks(HERE / "folders", PHOTOS)
    assert [i.image for i in opened.instances] == ["street_1"] * 3 + ["street_2"] * 3
    assert open_masks(HERE / "folders", PHOTOS).photograph(4) == PHOTOS.resolve() / "street_2.jpg"


def test_numbers_in_names_are_numbers_and_all_kinds_of_pictures_are_read() -> None:
    masks = masks_of(open_masks(HERE / "numbered", PHOTOS))
    names = [HERE / "numbered" / f"street_1_{n}.png" for n in (0, 1, 10, 11, 12, 13)]
    for mask, name in zip(masks, names, strict=True):
        pixels = np.asarray(Image.open(name))
        wanted = pixels[..., :3].any(2) if pixels.ndim == 3 else pixels > 0
        assert np.array_equal(mask.to_dense(), wanted)
    assert masks[0] == masks[2] != masks[1]


@pytest.mark.parametrize("layout", ["numbered", "folders"])
@pytest.mark.parametrize("change", [eroded, dilated])
def test_masks_change_names_and_kinds_stay(tmp_path: Path, layout: str, change: object) -> None:
    trip = round_trip("png", HERE / layout, PHOTOS, tmp_path / "out", change)  # type: ignore[arg-type]
    assert trip.after == trip.before
    assert trip.got == trip.wanted != trip.old
    assert set(tree(tmp_path / "out")) == set(tree(HERE / layout))
    for name in tree(tmp_path / "out"):
        old, new = Image.open(HERE / layout / name), Image.open(tmp_path / "out" / name)
        if old.mode in ("L", "P", "I;16"):
            assert new.mode == old.mode
            assert new.getpalette() == old.getpalette()
            assert np.array_equal(np.unique(np.asarray(new)), np.unique(np.asarray(old)))
        else:
            assert new.mode == "L"


def test_nothing_replaced_nothing_changed(tmp_path: Path) -> None:
    open_masks(HERE / "folders", None).save(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(HERE / "folders")


def test_what_is_written_is_read_again_in_order(tmp_path: Path) -> None:
    masks = [Rle.from_dense(np.arange(60).reshape(6, 10) > n) for n in range(12)]
    picture = Picture("a/b_7.jpg", 6, 10, [(Instance("b"), mask) for mask in masks])
    PngMasks.write(tmp_path / "out", [picture], Policies())
    opened = open_masks(tmp_path / "out", None)
    assert [opened.mask(n, 6, 10) for n in range(12)] == masks
    assert {i.image for i in opened.instances} == {"a/b_7"}
    twice = [Picture("a.jpg", 6, 10, []), Picture("a.png", 6, 10, [])]
    with pytest.raises(JobError, match="rename"):
        PngMasks.write(tmp_path / "twice", twice, Policies())


def test_links_that_lead_out_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes((HERE / "numbered" / "street_1_0.png").read_bytes())
    (tmp_path / "masks" / "street_1_0.png").symlink_to(secret)
    (tmp_path / "masks" / "street_1_1.png").write_bytes(secret.read_bytes())
    assert len(open_masks(tmp_path / "masks", PHOTOS).instances) == 1

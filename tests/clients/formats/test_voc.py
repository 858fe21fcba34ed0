from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import FIXTURES, dilated, eroded, masks_of, round_trip, tree
from PIL import Image

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.voc import VocMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError

SOURCE = FIXTURES / "voc" / "VOC2012"
PHOTOS = SOURCE / "JPEGImages"


def pixels(folder: Path, kind: str, stem: str) -> np.ndarray:
    picture = Image.open(folder / kind / f"{stem}.png")
    assert picture.mode == "P"
    return np.asarray(picture)


def test_objects_and_their_classes_are_read() -> None:
    opened = open_masks(SOURCE, PHOTOS)
    assert [(i.image, i.label, i.fields["id"]) for i in opened.instances] == [
        ("2007_000032", "aeroplane", 1),
        ("2007_000032", "person", 2),
        ("2007_000039", "tvmonitor", 1),
    ]
    for instance, mask in zip(opened.instances, masks_of(opened), strict=True):
        values = pixels(SOURCE, "SegmentationObject", instance.image)
        assert np.array_equal(mask.to_dense(), values == instance.fields["id"])


@pytest.mark.parametrize("change", [eroded, dilated])
def test_objects_change_classes_follow_palettes_stay(tmp_path: Path, change: object) -> None:
    trip = round_trip("voc", SOURCE, PHOTOS, tmp_path / "out", change)  # type: ignore[arg-type]
    assert trip.after == trip.before
    assert trip.got == trip.wanted != trip.old
    for stem in ("2007_000032", "2007_000039"):
        old, new = (pixels(folder, "SegmentationObject", stem) for folder in (SOURCE, tmp_path / "out"))
        old_classes, classes = (pixels(folder, "SegmentationClass", stem) for folder in (SOURCE, tmp_path / "out"))
        left = (old != new) & (old != 255)
        # The rim is what lies nearest: what is left becomes void.
        assert (new[left] == 255).all()
        for value in np.unique(new):
            kinds = np.unique(old_classes[old == value])
            assert np.array_equal(np.unique(classes[new == value]), kinds)
        for kind in ("SegmentationObject", "SegmentationClass"):
            palettes = [Image.open(f / kind / f"{stem}.png").getpalette() for f in (SOURCE, tmp_path / "out")]
            assert palettes[0] == palettes[1]


def test_nothing_replaced_nothing_changed_and_photographs_stay_where_they_are(tmp_path: Path) -> None:
    open_masks(SOURCE, None).save(tmp_path / "out")
    wanted = {name: data for name, data in tree(SOURCE).items() if not name.startswith("JPEGImages")}
    assert tree(tmp_path / "out") == wanted


def test_torchvision_reads_what_is_saved(tmp_path: Path) -> None:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        # RuntimeError: the wheel was built for another torch.
        pytest.skip(f"parity needs torchvision's VOCSegmentation ({error})")
    opened = open_masks(SOURCE, PHOTOS)
    for number, mask in enumerate(masks_of(opened)):
        opened.replace(number, eroded(mask))
    root = tmp_path / "VOCdevkit" / "VOC2012"
    root.parent.mkdir()
    opened.save(root)
    shutil.copytree(PHOTOS, root / "JPEGImages")
    read = datasets.VOCSegmentation(str(tmp_path), year="2012", image_set="val", download=False)
    assert len(read) == 2
    photo, target = read[0]
    assert photo.size == target.size
    assert set(np.unique(np.asarray(target)).tolist()) == {0, 1, 15, 255}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint8, (9, 12), elements=st.integers(0, 4)), st.sampled_from([["cat", "dog"], ["cat", "unit, 7"]]))
def test_what_is_written_is_read_again(tmp_path: Path, values: np.ndarray, labels: list[str]) -> None:
    present = [v for v in range(1, 5) if (values == v).any()]
    instances = [(Instance("a.jpg", label=labels[v % 2]), Rle.from_dense(values == v)) for v in present]
    target = tmp_path / "made"
    shutil.rmtree(target, ignore_errors=True)
    VocMasks.write(target, [Picture("a.jpg", 9, 12, instances)], Policies())
    opened = VocMasks.open(target, None, Policies())
    assert [(i.label, opened.mask(n, 9, 12)) for n, i in enumerate(opened.instances)] == [
        (i.label, mask) for i, mask in instances
    ]


def test_damaged_pictures_are_named_and_copied(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "v")
    broken = tmp_path / "v" / "SegmentationObject" / "2007_000039.png"
    broken.write_bytes(broken.read_bytes()[:200])
    opened = open_masks(tmp_path / "v", PHOTOS)
    assert [i.image for i in opened.instances] == ["2007_000032", "2007_000032", "2007_000039"]
    with pytest.raises(ImageError):
        opened.mask(2, 48, 64)
    opened.replace(0, eroded(opened.mask(0, 48, 64)))
    opened.save(tmp_path / "out")
    assert (tmp_path / "out" / "SegmentationObject" / broken.name).read_bytes() == broken.read_bytes()
    with pytest.raises(JobError, match="SegmentationObject"):
        VocMasks.open(tmp_path, None, Policies())


def test_labels_that_the_form_cannot_hold_are_refused(tmp_path: Path) -> None:
    picture = Picture("a.jpg", 2, 2, [(Instance("a.jpg", label="a:b"), Rle.from_dense(np.ones((2, 2), bool)))])
    with pytest.raises(JobError, match="colon"):
        VocMasks.write(tmp_path / "out", [picture], Policies())
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mask_files import FIXTURES, dilated, eroded, masks_of, round_trip, tree
from PIL import Image

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.cityscapes import NAMES, CityscapesMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError

SOURCE, PHOTOS = FIXTURES / "cityscapes" / "results", FIXTURES / "cityscapes" / "photos"


def test_lines_masks_labels_and_scores_are_read() -> None:
    opened = open_masks(SOURCE, PHOTOS)
    assert [(i.label, i.score) for i in opened.instances] == [("car", 0.98), ("car", 0.5), ("person", 0.001)]
    assert opened.photograph(2) == PHOTOS.resolve() / "bochum" / "bochum_000000_000019_leftImg8bit.png"
    pngs = sorted((SOURCE / "masks").iterdir())
    for mask, png in zip(masks_of(opened), pngs, strict=True):
        assert np.array_equal(mask.to_dense(), np.asarray(Image.open(png)) > 0)


@pytest.mark.parametrize("change", [eroded, dilated])
def test_masks_change_and_nothing_else(tmp_path: Path, change: object) -> None:
    trip = round_trip("cityscapes", SOURCE, PHOTOS, tmp_path / "out", change)  # type: ignore[arg-type]
    assert trip.after == trip.before
    assert trip.got == trip.wanted != trip.old
    before, after = tree(SOURCE), tree(tmp_path / "out")
    assert set(before) == set(after)
    assert all(after[name] == data for name, data in before.items() if name.endswith(".txt"))
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out" / "masks" / "aachen_000000_000019_0.png")))) == {0, 255}


def test_nothing_replaced_nothing_changed(tmp_path: Path) -> None:
    open_masks(SOURCE, None).save(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(SOURCE)


def test_what_is_written_is_read_again_also_by_the_real_script(tmp_path: Path) -> None:
    opened = open_masks(SOURCE, PHOTOS)
    pairs = list(zip(opened.instances, masks_of(opened), strict=True))
    names = ["aachen/aachen_000000_000019_leftImg8bit.png", "bochum/bochum_000000_000019_leftImg8bit.png"]
    pictures = [Picture(names[0], 48, 64, pairs[:2]), Picture(names[1], 48, 64, pairs[2:])]
    CityscapesMasks.write(tmp_path / "out", pictures, Policies())
    again = open_masks(tmp_path / "out", PHOTOS)
    assert [(i.label, i.score) for i in again.instances] == [(i.label, i.score) for i, _ in pairs]
    assert masks_of(again) == [mask for _, mask in pairs]
    with pytest.raises(JobError, match="Cityscapes"):
        CityscapesMasks.write(
            tmp_path / "b", [Picture("a.png", 48, 64, [(Instance("a", "fox"), pairs[0][1])])], Policies()
        )
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("refined", [False, True])
def test_the_real_evaluation_reads_the_results(tmp_path: Path, refined: bool) -> None:
    reason = "needs cityscapesscripts, which the evaluation is part of"
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling", reason=reason)
    labels = pytest.importorskip("cityscapesscripts.helpers.labels", reason=reason)
    assert tuple(label.name for label in labels.labels if label.id >= 0) == NAMES
    results = tmp_path / "results"
    opened = open_masks(SOURCE, PHOTOS)
    if refined:
        for number, mask in enumerate(masks_of(opened)):
            opened.replace(number, eroded(mask))
    opened.save(results)
    script.args.predictionPath = str(results.resolve())
    for file in results.rglob("*.txt"):
        read = script.readPredInfo(str(file.resolve()), script.args)
        mine = open_masks(results, PHOTOS)
        image = file.relative_to(results).with_suffix("").as_posix()
        numbers = [n for n, i in enumerate(mine.instances) if i.image == image]
        assert len(read) == len(numbers)
        for number, (path, info) in zip(numbers, read.items(), strict=True):
            assert info == {
                "labelID": mine.instances[number].fields["category_id"],
                "conf": mine.instances[number].score,
            }
            assert np.array_equal(np.asarray(Image.open(path).convert("L")) != 0, masks_of(mine)[number].to_dense())


def test_bad_lines_are_named_one_by_one(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "r")
    (tmp_path / "r" / "masks" / "link.png").symlink_to("/etc/hostname")
    text = tmp_path / "r" / "aachen" / "aachen_000000_000019_pred.txt"
    good = text.read_text()
    bad = ["../../secret.png 26 0.5", "/etc/hostname 26 0.5", "../masks/link.png 26 0.5", "only two", "a b 26 0.4"]
    bad += ["../masks/none.png 26 0.5", "../masks/aachen_000000_000019_0.png x 0.5", "../masks/x.png 26 nan"]
    text.write_text(good + "\n".join(bad) + "\n")
    (tmp_path / "secret.png").write_bytes((SOURCE / "masks" / "aachen_000000_000019_0.png").read_bytes())
    opened = open_masks(tmp_path / "r", PHOTOS)
    assert len(opened.instances) == 3 + len(bad)
    for number in range(2, 2 + len(bad)):
        with pytest.raises(MaskError):
            opened.mask(number, 48, 64)
    opened.replace(0, Rle.from_dense(np.ones((48, 64), bool)))
    opened.save(tmp_path / "out")
    assert (tmp_path / "out" / "aachen" / text.name).read_text() == text.read_text()
    assert not (tmp_path / "out" / "masks" / "link.png").exists()

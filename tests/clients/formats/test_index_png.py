from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_files import FIXTURES, eroded, masks_of, round_trip, tree
from PIL import Image

from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.index_pictures import IndexPicture, read_indices, voc_palette, write_indices
from maskmend.clients.formats.index_png import IndexPngMasks
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError, MaskmendError

SOURCE, PHOTOS = FIXTURES / "index-png" / "masks", FIXTURES / "index-png" / "photos"


def saved(picture: Image.Image, **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def test_values_are_instances() -> None:
    opened = open_masks(SOURCE, PHOTOS)
    assert [(i.image, i.fields["id"]) for i in opened.instances] == [
        *(("bear/00000", n) for n in (1, 3)),
        *(("bear/00001", n) for n in (1, 3)),
        *(("bear/00002", n) for n in (40, 120)),
        *(("bear/00003", n) for n in (300, 900)),
    ]
    masks = masks_of(opened)
    assert masks[:2] == masks[2:4] == masks[4:6] == masks[6:]
    values = np.asarray(Image.open(SOURCE / "bear" / "00003.png"))
    assert np.array_equal(masks[6].to_dense(), values == 300)


def test_masks_change_values_and_palettes_stay(tmp_path: Path) -> None:
    trip = round_trip("index-png", SOURCE, PHOTOS, tmp_path / "out", eroded)
    assert trip.after == trip.before
    assert trip.got == trip.wanted != trip.old
    for name in tree(SOURCE):
        old, new = Image.open(SOURCE / name), Image.open(tmp_path / "out" / name)
        assert (new.mode, new.getpalette()) == (old.mode, old.getpalette())


def test_a_mask_that_grows_over_its_neighbour_needs_a_policy(tmp_path: Path) -> None:
    whole = Rle.from_dense(np.ones((48, 64), bool))
    opened = open_masks(SOURCE, PHOTOS)
    opened.replace(0, whole)
    with pytest.raises(JobError, match="--overlaps"):
        opened.save(tmp_path / "a")
    other = masks_of(open_masks(SOURCE, PHOTOS))[1]
    for policy in ("last", "smallest"):
        opened = open_masks(SOURCE, PHOTOS, policies=Policies(overlaps=policy))
        opened.replace(0, whole)
        opened.save(tmp_path / policy)
        assert open_masks(tmp_path / policy, PHOTOS).mask(1, 48, 64) == other
    # The other would have nothing left: it keeps what it had.
    opened = open_masks(SOURCE, PHOTOS, policies=Policies(overlaps="first"))
    opened.replace(0, whole)
    opened.save(tmp_path / "first")
    assert open_masks(tmp_path / "first", PHOTOS).mask(1, 48, 64) == other


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 15)),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.booleans(),
)
def test_indices_are_read_as_pillow_reads_them_and_written_back(values: np.ndarray, bits: int, coloured: bool) -> None:
    values = values % 2 ** min(bits, 8)
    if bits == 16:
        data = saved(Image.fromarray(values.astype(np.uint16)))
    else:
        picture = Image.fromarray(values.astype(np.uint8), "P")
        # Colours that do not tell the indices apart.
        picture.putpalette([10, 20, 30] * 2**bits if coloured else list(voc_palette()[: 3 * 2**bits]))
        data = saved(picture, bits=bits)
    read = read_indices(data, field="png")
    assert np.array_equal(read.indices, values)
    again = write_indices(read)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(again))), values)
    assert np.array_equal(read_indices(again, field="png").indices, values)
    before, after = (Image.open(io.BytesIO(d)).getpalette() for d in (data, again))
    assert before is None or before == after[: len(before)]


def test_grey_of_few_bits_is_read_too() -> None:
    stripes = np.arange(32).reshape(4, 8) % 2 == 0
    data = saved(Image.fromarray(stripes))
    assert data[24] == 1
    assert np.array_equal(read_indices(data, field="png").indices, stripes)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.uint16, (9, 12), elements=st.integers(0, 4)))
def test_what_is_written_is_read_again(tmp_path: Path, values: np.ndarray) -> None:
    present = [v for v in range(1, 5) if (values == v).any()]
    masks = [Rle.from_dense(values == v) for v in present]
    IndexPngMasks.write(tmp_path / "m", [Picture("a.jpg", 9, 12, [(Instance("a"), m) for m in masks])], Policies())
    opened = IndexPngMasks.open(tmp_path / "m", None, Policies())
    assert [opened.mask(n, 9, 12) for n in range(len(masks))] == masks


def test_more_than_255_instances_take_16_bits(tmp_path: Path) -> None:
    masks = [Rle.from_dense(np.arange(300).reshape(15, 20) == n) for n in range(300)]
    IndexPngMasks.write(tmp_path / "m", [Picture("a.jpg", 15, 20, [(Instance("a"), m) for m in masks])], Policies())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m" / "a.png")), np.arange(1, 301).reshape(15, 20))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_never_get_past_the_reader(data: st.DataObject) -> None:
    good = bytearray((SOURCE / "bear" / "00001.png").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for broken in (bytes(good), bytes(good[:cut])):
        try:
            found = read_indices(broken, field="png", max_pixels=10**6)
        except MaskmendError:
            continue
        assert found.indices.ndim == 2
        assert found.indices.size <= 10**6


def test_what_is_no_picture_of_indices_is_refused() -> None:
    with pytest.raises(MaskError, match="colours"):
        read_indices(saved(Image.new("RGB", (3, 3))), field="png")
    jpeg = io.BytesIO()
    Image.new("L", (3, 3)).save(jpeg, "JPEG")
    with pytest.raises(ImageError, match="PNG"):
        read_indices(jpeg.getvalue(), field="png")
    small = IndexPicture(np.full((2, 2), 9, np.uint8), ((b"PLTE", bytes(6)),))
    with pytest.raises(MaskError, match="palette"):
        write_indices(small)

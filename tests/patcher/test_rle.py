from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from maskmend.patcher import MaskError, OptionError, Rle, as_rle
from maskmend.patcher.rle import check_size


def foreign(mask):
    """The mask as COCO's own tools write it."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def test_a_thousand_masks_round_trip_as_coco_writes_them():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        mask = reference.random_mask(rng)
        expected = foreign(mask)
        rle = Rle.from_dense(mask)
        assert rle.to_coco() == expected
        for counts in (expected["counts"], expected["counts"].encode(), rle.counts, rle.counts.tolist()):
            assert Rle.from_coco({"size": expected["size"], "counts": counts}) == rle
        np.testing.assert_array_equal(rle.to_dense(), mask)
        assert rle.to_dense().dtype == np.bool_
        assert rle.area == np.count_nonzero(mask)
        assert list(rle.bbox) == coco_mask.toBbox(expected).tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 30))
def test_empty_runs_inside_are_merged(lengths, height):
    lengths = [*lengths, -sum(lengths) % height]
    if sum(lengths) == 0:
        lengths.append(height)
    pixels = np.repeat(np.arange(len(lengths)) % 2, lengths)
    rle = Rle.from_coco({"size": [height, pixels.size // height], "counts": lengths})
    mask = pixels.reshape(-1, height).T.astype(bool)
    np.testing.assert_array_equal(rle.to_dense(), mask)
    assert rle == Rle.from_dense(mask)
    assert (rle.counts[1:] > 0).all()


def test_compressed_empty_runs_are_merged_too():
    # Runs 2, 0, 1, 3, of which the fourth is written as its difference to the second.
    assert Rle.from_coco({"size": [6, 1], "counts": "2013"}).counts.tolist() == [3, 3]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(-40, 160)] * 2), st.tuples(*[st.integers(0, 150)] * 2))
def test_crop_is_zero_outside_the_frame(seed, corner, size):
    mask = reference.random_mask(np.random.default_rng(seed), 120)
    wide = np.pad(mask, 400).astype(np.uint8)
    x0, y0 = corner
    x1, y1 = x0 + size[0], y0 + size[1]
    found = Rle.from_dense(mask).crop(x0, y0, x1, y1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wide[400 + y0 : 400 + y1, 400 + x0 : 400 + x1])


def test_crop_refuses_what_no_crop_is():
    rle = Rle.from_dense(np.ones((4, 4), bool))
    for corners in ((2, 0, 1, 4), (0, 0, 2**20, 2**20), (0, 2**40, 1, 2**40 + 1)):
        with pytest.raises(OptionError, match="crop"):
            rle.crop(*corners)


def test_dense_kinds():
    mask = np.zeros((40, 30), np.uint8)
    mask[5:20, 7:9] = 200
    rle = Rle.from_dense(mask)
    assert rle == Rle.from_dense(mask != 0)
    assert rle == Rle.from_dense(np.asfortranarray(mask))
    assert rle == Rle.from_dense(np.repeat(mask, 2, axis=1)[:, ::2])
    frozen = mask.copy()
    frozen.flags.writeable = False
    assert rle == as_rle(frozen, height=40, width=30)
    for bad in (mask.astype(float), mask.astype(int), mask[None], mask[:0], np.array(None)):
        with pytest.raises(MaskError) as caught:
            as_rle(bad)
        assert caught.value.field == "mask"


def test_largest_frames_need_no_memory():
    pixels = 2**28
    rle = Rle.from_coco({"size": [2**14, 2**14], "counts": [pixels - 2, 1, 1]})
    assert (rle.bbox, rle.area) == ((2**14 - 1, 2**14 - 2, 1, 1), 1)
    assert Rle.from_coco(rle.to_coco()) == rle


def test_as_rle_checks_the_size():
    rle = Rle.from_dense(np.ones((4, 6), bool))
    assert as_rle(rle) is rle
    assert as_rle(rle.to_coco(), height=4, width=6) == rle
    with pytest.raises(MaskError, match="4 x 6"):
        as_rle(rle, height=6, width=4, field="masks[3]")
    for bad in (4.0, "4", True, np.zeros(3)):
        with pytest.raises(MaskError, match="integers"):
            as_rle(rle, height=bad)
    with pytest.raises(MaskError, match="huge"):
        as_rle(rle, height=10**5000)
    assert as_rle([[0, 0, 6, 0, 6, 4, 0, 4]], height=4, width=6) == rle
    with pytest.raises(MaskError, match="height and width"):
        as_rle([[0, 0, 6, 0, 6, 4, 0, 4]])
    for bad in (None, 3, "mask", {1, 2}, object()):
        with pytest.raises(MaskError, match=type(bad).__name__):
            as_rle(bad)


@pytest.mark.parametrize("counts", [[3, 1], [3, 0, 3], [4, 3], [7], [], [[6]], [0, 0, 6]])
def test_the_constructor_takes_only_canonical_runs(counts):
    with pytest.raises(MaskError):
        Rle(2, 3, np.array(counts, np.uint32))


@pytest.mark.parametrize("counts", [[6], np.array([6.0]), np.array([2**32 + 5, 2**32 + 1]).astype(float), None])
def test_the_constructor_takes_only_integer_arrays(counts):
    with pytest.raises(MaskError, match="integer array"):
        Rle(2, 3, counts)


def test_runs_cannot_be_changed_behind_the_checks():
    counts = np.array([1, 3], np.uint32)
    rle = Rle(2, 2, counts)
    with pytest.raises(ValueError, match="read-only"):
        rle.counts[0] = 2
    counts[0] = 9
    assert rle.counts.tolist() == [1, 3]
    assert hash(rle) == hash(Rle.from_dense(np.array([[False, True], [True, True]])))
    assert rle != "mask"


GOOD = foreign(np.eye(20, 30, dtype=bool))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"counts": GOOD["counts"][:-1] + "P"}, "middle"),
        ({"counts": GOOD["counts"][:-2]}, "less"),
        ({"counts": GOOD["counts"] + "1"}, "more"),
        ({"counts": GOOD["counts"] + "\0"}, "character"),
        ({"counts": "\0" + GOOD["counts"]}, "character"),
        ({"counts": GOOD["counts"] + "é"}, "ASCII"),
        ({"counts": GOOD["counts"].encode() + b"\xff"}, "character"),
        ({"counts": GOOD["counts"] + "p"}, "character"),
        ({"counts": GOOD["counts"] + " "}, "character"),
        ({"counts": str(GOOD["counts"].encode())}, "decode"),
        ({"counts": ""}, "less"),
        ({"counts": "oooooooooooo0"}, "longer"),
        ({"counts": "O"}, "negative"),
        ({"counts": [601]}, "more"),
        ({"counts": [599]}, "less"),
        ({"counts": [2**63, 1]}, "longer"),
        ({"counts": [2**62, 2**62, 2**62, 2**62, 600]}, "more"),
        ({"counts": [-1, 601]}, "negative"),
        ({"counts": [600.0]}, "float"),
        ({"counts": [float("nan")]}, "float"),
        ({"counts": [599, True]}, "bool"),
        ({"counts": [599, None]}, "NoneType"),
        ({"counts": ["600"]}, "str"),
        ({"counts": [[600]]}, "list"),
        ({"counts": []}, "less"),
        ({"counts": np.array([600.0])}, "float64"),
        ({"counts": np.array([[600]])}, "axis"),
        ({"counts": np.array([2**64 - 1, 601], np.uint64)}, "more"),
        ({"counts": None}, "NoneType"),
        ({"counts": 600}, "int"),
        ({"counts": {"0": 600}}, "dict"),
        ({"size": [0, 30]}, "sides"),
        ({"size": [-20, -30]}, "sides"),
        ({"size": [20.0, 30]}, "integers"),
        ({"size": [float("nan"), 30]}, "integers"),
        ({"size": [True, 600]}, "integers"),
        ({"size": [200_000, 200_000]}, "sides"),
        ({"size": [65_535, 65_535]}, "sides"),
        ({"size": [10**5000, 1]}, "huge"),
        ({"size": [20]}, "integers"),
        ({"size": "20"}, "integers"),
        ({"size": None}, "integers"),
        ({"size": [30, 20, 1]}, "integers"),
        ({"size": [20, 31]}, "less"),
        ({"size": [20, 29]}, "more"),
    ],
)
def test_hostile_rle_is_refused(change, word):
    with pytest.raises(MaskError, match=word) as caught:
        Rle.from_coco({**GOOD, **change}, field="masks[0]")
    assert caught.value.field == f"masks[0].{next(iter(change))}" or word in ("less", "more")
    assert caught.value.field.startswith("masks[0].")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("record", [None, [], "x", {"size": [1, 1]}, {"counts": "1"}, {}])
def test_what_is_no_rle_is_refused(record):
    with pytest.raises(MaskError) as caught:
        Rle.from_coco(record)
    assert caught.value.field == "segmentation"


def test_the_largest_frames_and_not_a_pixel_more():
    for height, width in ((65_535, 1), (1, 65_535), (65_535, 4096), (2**14, 2**14)):
        assert Rle(height, width, np.array([height * width], np.uint32)).area == 0
        check_size(height, width, "size")
    for height, width in ((65_536, 1), (1, 65_536), (65_535, 4097), (2**14, 2**14 + 1), (0, 1), (1, 0), (-1, -1)):
        with pytest.raises(MaskError, match=f"frame is {height} x {width}; ") as caught:
            check_size(height, width, "frame")
        assert caught.value.field == "frame"
    with pytest.raises(MaskError, match="999999999 x"):
        check_size(10**9 - 1, 1, "size")
    with pytest.raises(MaskError, match=r"\(huge\) x"):
        check_size(10**9, 1, "size")
    with pytest.raises(MaskError, match=r"x \(huge\)"):
        check_size(1, -(10**9), "size")


def test_a_crop_becomes_a_mask_of_its_frame():
    crop = np.array([[0, 3], [1, 0], [0, 0]], np.uint8)
    for x0, y0 in ((0, 0), (3, 1), (5, 4), (0, 4), (5, 0)):
        frame = np.zeros((7, 7), np.uint8)
        frame[y0 : y0 + 3, x0 : x0 + 2] = crop
        assert Rle.from_crop(crop, 7, 7, x0, y0) == Rle.from_dense(frame)
    for x0, y0 in ((-1, 0), (0, -1), (6, 0), (0, 5)):
        with pytest.raises(MaskError, match="crop of 2x3 px") as caught:
            Rle.from_crop(crop, 7, 7, x0, y0)
        assert caught.value.field == "crop"
    for empty in (np.zeros((0, 3), bool), np.zeros((3, 0), bool)):
        assert Rle.from_crop(empty, 7, 6, 99, 99) == Rle.from_dense(np.zeros((7, 6), bool))
    with pytest.raises(MaskError, match="float64") as caught:
        Rle.from_crop(crop.astype(float), 7, 7, 0, 0)
    assert caught.value.field == "crop"


def test_crops_at_the_limits():
    rle = Rle.from_dense(np.ones((4, 4), bool))
    assert rle.crop(2**31 - 1, 0, 2**31, 1).tolist() == [[0]]
    assert rle.crop(-(2**31), -(2**31), 1 - 2**31, 1 - 2**31).tolist() == [[0]]
    assert rle.crop(3, 3, 3, 9).shape == (6, 0)
    assert rle.crop(0, 0, 2**14, 2**14).sum() == 16
    for corners in ((0, 0, 2**14, 2**14 + 1), (2**31, 0, 2**31 + 1, 1), (0, -(2**31) - 1, 1, -(2**31)), (0, 5, 1, 4)):
        with pytest.raises(OptionError) as caught:
            rle.crop(*corners)
        assert caught.value.field == "crop"


def test_one_side_alone_is_checked():
    rle = Rle.from_dense(np.ones((4, 6), bool))
    assert as_rle(rle, height=4) is as_rle(rle, width=6) is as_rle(rle, height=np.int64(4)) is rle
    for options, shown in (({"height": 5}, "5 x any"), ({"width": 5}, "any x 5")):
        with pytest.raises(MaskError, match=f"masks\\[3\\] is 4 x 6 .* must be {shown}") as caught:
            as_rle(rle, **options, field="masks[3]")
        assert caught.value.field == "masks[3]"
    with pytest.raises(MaskError, match="integers") as caught:
        as_rle(rle, width=6.0)
    assert caught.value.field == "size"
    square = [[0, 0, 6, 0, 6, 4, 0, 4]]
    assert as_rle(tuple(square), height=4, width=6) == rle
    for options in ({"height": 4}, {"width": 6}):
        with pytest.raises(MaskError, match="list of polygons") as caught:
            as_rle(square, **options, field="masks[3]")
        assert caught.value.field == "masks[3]"


def test_masks_are_equal_if_frame_and_runs_are():
    one = Rle(2, 3, np.array([1, 5], np.uint32))
    assert one == Rle(2, 3, np.array([1, 5], np.int64))
    assert hash(one) == hash(Rle(2, 3, np.array([1, 5], np.uint8)))
    for other in (Rle(3, 2, one.counts), Rle(1, 6, one.counts), Rle(2, 3, np.array([2, 4])), Rle(6, 1, one.counts)):
        assert one != other
        assert hash(one) != hash(other)
    assert (one == 1) is False
    assert one.__eq__(1) is NotImplemented
    assert not Rle(2, 3, one.counts).counts.flags.writeable


@pytest.mark.parametrize("counts", [bytearray(b"6"), memoryview(b"6"), {1: 6}, iter([6])])
def test_other_containers_of_counts_are_refused(counts):
    with pytest.raises(MaskError, match=type(counts).__name__) as caught:
        Rle.from_coco({"size": [2, 3], "counts": counts})
    assert caught.value.field == "segmentation.counts"


def test_kinds_of_sizes_and_counts():
    rle = Rle(2, 3, np.array([1, 5], np.uint32))
    for size in ((2, 3), np.array([2, 3]), [np.int32(2), 3]):
        for counts in (
            (1, 5),
            [np.uint8(1), 5],
            np.array([1, 5], np.uint64),
            np.array([1, 5], np.int8),
            range(1, 6, 4),
        ):
            assert Rle.from_coco({"size": size, "counts": counts}) == rle
    for size in (np.array([2.0, 3.0]), np.array([2, 3, 1]), (2,), [2, True], {2, 3}):
        with pytest.raises(MaskError, match="two integers") as caught:
            Rle.from_coco({"size": size, "counts": [6]})
        assert caught.value.field == "segmentation.size"


@pytest.mark.parametrize("counts", ["b'6'", 'b"6"', b"b'6'", b'b"6"'])
def test_bytes_that_were_printed_are_recognised(counts):
    with pytest.raises(MaskError, match=r"counts\.decode"):
        Rle.from_coco({"size": [2, 3], "counts": counts})

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher import Rle, _bits, _codec
from maskmend.patcher.rle import region_bits

EDGES = [0, 1, 62, 63, 64, 65, 126, 127, 128, 129, 190, 191, 192]


@pytest.mark.parametrize("first", EDGES)
def test_rows_of_a_column_are_set_across_words(first: int) -> None:
    for end in (n for n in EDGES if n > first):
        bits = np.zeros((3, 3), np.uint64)
        _bits.set_rows(bits, 1, first, end)
        found = [int(word) for word in bits[1]]
        wanted = (1 << end) - (1 << first)
        assert found == [wanted >> 64 * k & 2**64 - 1 for k in range(3)]
        assert not bits[0].any()
        assert not bits[2].any()
        # What was set before stays set.
        _bits.set_rows(bits, 1, 5, 6)
        assert int(bits[1, 0]) == found[0] | 1 << 5


@pytest.mark.parametrize("height", [1, 63, 64, 65, 128, 129])
def test_a_region_has_words_enough(height: int) -> None:
    bits = _bits.empty_bits(5, height)
    assert bits.shape == (5, -(-height // 64))
    assert bits.dtype == np.uint64
    assert not bits.any()


def unpacked(bits: np.ndarray, height: int) -> np.ndarray:
    """Bit columns as a mask [H, W]; bits below the region must be 0."""
    rows = [[int(word) >> b & 1 for word in column for b in range(64)] for column in bits]
    mask = np.array(rows, np.uint8).reshape(len(bits), -1).T
    assert not mask[height:].any()
    return mask[:height]


SHAPES = st.tuples(st.integers(1, 140), st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 0.95]))
def test_dense_masks_become_bits_and_back(shape: tuple[int, int], seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < share).astype(np.uint8) * rng.integers(1, 256, dtype=np.uint8)
    y0, x0 = (int(rng.integers(0, side)) for side in shape)
    height, width = int(rng.integers(1, shape[0] - y0 + 1)), int(rng.integers(1, shape[1] - x0 + 1))
    bits = _bits.empty_bits(width, height)
    _bits.draw_dense(bits, mask, x0, y0, height)
    part = mask[y0 : y0 + height, x0 : x0 + width] != 0
    np.testing.assert_array_equal(unpacked(bits, height), part)
    out = np.full((shape[0] + 3, shape[1] + 2), 7, np.uint8)
    _bits.undraw(bits, out, 1, 2, height)
    np.testing.assert_array_equal(out[2 : 2 + height, 1 : 1 + width], part)
    assert (out == 7).sum() == out.size - part.size
    rows, columns = np.nonzero(mask)
    box = _bits.dense_box(mask)
    if len(rows):
        wanted = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
        assert tuple(box) == tuple(wanted)
    else:
        assert tuple(box) == (0, 0, 0, 0)


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.integers(0, 2**32 - 1), st.tuples(*[st.integers(-9, 150)] * 2), st.tuples(*[st.integers(1, 150)] * 2))
def test_runs_are_drawn_into_any_region(
    shape: tuple[int, int], seed: int, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.choice([0.02, 0.5, 0.98])
    (x0, y0), (width, height) = (corner[0] % 12 - 4, corner[1]), (size[0] % 9 + 1, size[1])
    wide = np.pad(mask, 400)
    wanted = wide[400 + y0 : 400 + y0 + height, 400 + x0 : 400 + x0 + width]
    np.testing.assert_array_equal(unpacked(region_bits(Rle.from_dense(mask), x0, y0, width, height), height), wanted)


def plain_runs(mask: np.ndarray) -> list[int]:
    runs, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@settings(max_examples=80, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 70), st.integers(1, 5))), st.integers(0, 3), st.integers(0, 3))
def test_runs_are_read_from_a_region_within_a_frame(dense: np.ndarray, below: int, right: int) -> None:
    height, width = dense.shape
    frame = np.zeros((height + 2 + below, width + 1 + right), bool)
    frame[2 : 2 + height, 1 : 1 + width] = dense
    bits = _bits.empty_bits(width, height)
    _bits.draw_dense(bits, np.ascontiguousarray(dense).view(np.uint8), 0, 0, height)
    runs = _bits.read_runs(bits, *frame.shape, 1, 2, height)
    assert runs.dtype == np.uint32
    assert runs.tolist() == plain_runs(frame)


@pytest.mark.parametrize("pixels", [253, 254, 255, 256, 257, 511, 512, 513, 1100])
def test_more_runs_than_there_was_room_for(pixels: int) -> None:
    for first in (0, 1):
        mask = (np.arange(pixels)[:, None] + first) % 2 == 0
        for dense in (mask, mask.T):
            assert Rle.from_dense(dense).counts.tolist() == plain_runs(dense)


@settings(max_examples=100, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_box_and_area_of_runs(dense: np.ndarray) -> None:
    counts = np.array(plain_runs(dense), np.uint32)
    rows, columns = np.nonzero(dense)
    box = tuple(int(v) for v in _codec.bounding_box(counts, len(dense)))
    if len(rows):
        assert box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    else:
        assert box == (0, 0, 0, 0)
    assert _codec.foreground(counts) == dense.sum()
    assert _codec.is_canonical(counts, dense.size)
    assert not _codec.is_canonical(counts, dense.size + 1)
    assert not _codec.is_canonical(counts, dense.size - 1)


def plain_text(counts: list[int]) -> str:
    """COCO's compressed counts: groups of five bits, the lowest first, of differences to the run two before."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            group, value = value & 31, value >> 5
            last = value == (-1 if group & 16 else 0)
            text += chr(group + 48 + (0 if last else 32))
            if last:
                break
    return text


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(1, 70), st.sampled_from([15, 16, 17, 511, 512, 513, 2**20, 2**26])),
        min_size=1,
        max_size=9,
    )
)
def test_compressed_counts_are_written_and_read(counts: list[int]) -> None:
    text = plain_text(counts)
    found = _codec.format_counts(np.array(counts, np.uint32))
    assert found.tobytes().decode() == text
    runs, status = _codec.parse_counts(np.frombuffer(text.encode(), np.uint8), sum(counts))
    assert (runs.tolist(), status) == (counts, _codec.FINE)
    for pixels, wanted in ((sum(counts) - 1, _codec.TOO_LONG), (sum(counts) + 1, _codec.TOO_SHORT)):
        runs, status = _codec.parse_counts(np.frombuffer(text.encode(), np.uint8), pixels)
        assert (len(runs), status) == (0, wanted)
        runs, status = _codec.canonical_counts(np.array(counts), pixels)
        assert (len(runs), status) == (0, wanted)


def parsed(text: str, pixels: int) -> tuple[list[int], int]:
    runs, status = _codec.parse_counts(np.frombuffer(text.encode("latin-1"), np.uint8), pixels)
    return runs.tolist(), status


def test_every_reason_to_refuse_a_text() -> None:
    assert parsed("6", 6) == ([6], _codec.FINE)
    for character in ("/", "p", "\xff", "\0"):
        assert parsed("6" + character, 6) == ([], _codec.BAD_CHARACTER)
    assert parsed("V", 6) == ([], _codec.UNTERMINATED)
    # Seven groups are one number, an eighth is none.
    assert parsed("oPPPPP0", 2**28) == ([], _codec.TOO_SHORT)
    assert parsed("PPPPPPP0", 2**28) == ([], _codec.OVERFLOW)
    assert parsed("O", 6) == ([], _codec.NEGATIVE)
    assert parsed("7", 6) == ([], _codec.TOO_LONG)
    assert parsed("5", 6) == ([], _codec.TOO_SHORT)
    assert parsed("", 6) == ([], _codec.TOO_SHORT)
    # The third run is what it says, the fourth a difference to the second.
    assert parsed("1232", 10) == ([1, 2, 3, 4], _codec.FINE)
    assert parsed("123N", 6) == ([1, 2, 3], _codec.FINE)
    assert parsed("123M", 6) == ([], _codec.NEGATIVE)


def test_runs_may_be_zero_but_not_below() -> None:
    def canonical(*counts: int) -> tuple[list[int], int]:
        runs, status = _codec.canonical_counts(np.array(counts, np.int64), 6)
        return runs.tolist(), int(status)

    assert canonical(0, 6) == ([0, 6], _codec.FINE)
    assert canonical(6, 0) == ([6], _codec.FINE)
    assert canonical(0, 0, 6) == ([6], _codec.FINE)
    assert canonical(0, 0, 0, 6) == ([0, 6], _codec.FINE)
    assert canonical(0, 2, 0, 4) == ([0, 6], _codec.FINE)
    assert canonical(2, 0, 2, 2) == ([4, 2], _codec.FINE)
    assert canonical(1, 2, 0, 0, 3) == ([1, 2, 3], _codec.FINE)
    assert canonical(-1, 7) == ([], _codec.NEGATIVE)
    assert canonical(2**62, 2**62) == ([], _codec.TOO_LONG)

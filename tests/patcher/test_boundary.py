from __future__ import annotations

import numpy as np
import pytest
import reference

from maskmend.patcher import Rle, _score, boundary_pixels

HEIGHTS = [1, 2, 3, 61, 62, 63, 64, 65, 66, 127, 128, 129, 130, 193]


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 1.0])
def test_scores_across_words_of_a_column(height: int, share: float) -> None:
    rng = np.random.default_rng((height, int(100 * share)))
    for width in (1, 2, 3, 7):
        mask = rng.random((height, width)) < share
        expected = reference.scores(mask)
        pixels, scores = boundary_pixels(mask)
        assert (pixels.dtype, scores.dtype) == (np.int32, np.float64)
        # Down the columns, each once.
        columns, rows = np.nonzero(expected.T)
        assert pixels.tolist() == np.stack([columns, rows], 1).tolist()
        assert (np.rint(scores * 4.5) == expected[rows, columns]).all()


def grid(words: np.ndarray, numbers: np.ndarray, width: int, height: int) -> np.ndarray:
    """Words of padded bits as pixels, bool [height, width]; asserts that nothing is set outside."""
    stride = (height + 63) // 64 + 1
    out = np.zeros((64 * stride, width + 2), bool)
    for word, number in zip(words.tolist(), numbers.tolist(), strict=True):
        column, k = divmod(number, stride)
        out[64 * k : 64 * k + 64, column] = [bool(word >> b & 1) for b in range(64)]
    assert not out[height:].any()
    assert not out[:, [0, -1]].any()
    return out[:height, 1:-1]


def regions() -> list[tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Masks, and where their boundary pixels may be: the object's box, a pixel more within the frame."""
    found = []
    for (h, w), (y0, y1, x0, x1) in (
        ((200, 90), (20, 150, 0, 30)),
        ((9, 8), (0, 5, 3, 6)),
        ((9, 8), (2, 9, 0, 8)),
        ((9, 8), (0, 9, 0, 8)),
        ((9, 8), (4, 5, 4, 5)),
        ((64, 70), (0, 64, 5, 6)),
        ((300, 3), (63, 129, 1, 3)),
    ):
        mask = np.zeros((h, w), bool)
        mask[y0:y1, x0:x1] = True
        left, top = max(x0 - 1, 0), max(y0 - 1, 0)
        found.append((mask, (left, top, min(x1 + 1, w) - left, min(y1 + 1, h) - top)))
    return found


@pytest.mark.parametrize(("mask", "region"), regions())
def test_words_are_those_of_the_box_grown_by_a_pixel_within_the_frame(
    mask: np.ndarray, region: tuple[int, int, int, int]
) -> None:
    rle = Rle.from_dense(mask)
    assert _score.region_of(rle.counts, *mask.shape) == region
    x0, y0, width, height = region
    bits = _score.padded(rle.counts, mask.shape[0], *region)
    inside = (slice(y0, y0 + height), slice(x0, x0 + width))
    np.testing.assert_array_equal(grid(bits, np.arange(bits.size), width, height), mask[inside])
    numbers, some, best = _score.boundary_words(bits, width, height)
    assert (np.diff(numbers) > 0).all()
    assert some.all()
    expected = reference.scores(mask)[inside]
    np.testing.assert_array_equal(grid(some, numbers, width, height), expected > 0)
    np.testing.assert_array_equal(grid(best, numbers, width, height), expected == 4)
    stride = (height + 63) // 64 + 1
    lower = np.array([_score.lower_levels(bits, int(number), stride) for number in numbers], np.uint64).reshape(-1, 3)
    for level in (1, 2, 3):
        found = grid(lower[:, level - 1] & some, numbers, width, height)
        np.testing.assert_array_equal(found, expected == level)


def test_a_region_of_more_words_than_are_scored_at_a_time() -> None:
    rng = np.random.default_rng(7)
    for shape in ((70, 5000), (9000, 40)):
        mask = rng.random(shape) < 0.5
        expected = reference.scores(mask)
        pixels, scores = boundary_pixels(mask)
        columns, rows = np.nonzero(expected.T)
        np.testing.assert_array_equal(pixels, np.stack([columns, rows], 1))
        np.testing.assert_array_equal(np.rint(scores * 4.5), expected[rows, columns])


def test_an_empty_mask_has_no_boundary() -> None:
    assert _score.region_of(Rle.from_dense(np.zeros((9, 8), bool)).counts, 9, 8) == (0, 0, 0, 0)
    pixels, scores = boundary_pixels(np.zeros((9, 8), bool))
    assert (pixels.shape, scores.shape) == ((0, 2), (0,))
    assert (pixels.dtype, scores.dtype) == (np.int32, np.float64)

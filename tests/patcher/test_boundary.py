from __future__ import annotations

import numpy as np
import pytest
import reference

from maskmend.patcher import Rle, boundary_pixels
from maskmend.patcher.boundary import boundary_levels

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


def test_levels_are_those_of_the_box_grown_by_a_pixel_within_the_frame() -> None:
    mask = np.zeros((200, 90), bool)
    mask[20:150, 0:30] = True
    levels, x0, y0, height = boundary_levels(Rle.from_dense(mask))
    assert (x0, y0, height) == (0, 19, 132)
    assert levels.shape == (4, 31, 3)
    assert levels.dtype == np.uint64
    expected = reference.scores(mask)
    for level, columns in enumerate(levels, 1):
        for c, column in enumerate(columns):
            bits = sum(int(word) << 64 * k for k, word in enumerate(column))
            rows = np.flatnonzero(expected[:, x0 + c] == level) - y0
            assert bits == sum(1 << int(row) for row in rows)


def test_the_frame_cuts_the_region_on_every_side() -> None:
    for y0, y1, x0, x1 in ((0, 5, 3, 6), (2, 9, 0, 8), (1, 8, 1, 7), (0, 9, 0, 8), (4, 5, 4, 5)):
        mask = np.zeros((9, 8), bool)
        mask[y0:y1, x0:x1] = True
        levels, left, top, height = boundary_levels(Rle.from_dense(mask))
        right, bottom = min(x1 + 1, 8), min(y1 + 1, 9)
        assert (left, top, height) == (max(x0 - 1, 0), max(y0 - 1, 0), bottom - max(y0 - 1, 0))
        assert levels.shape == (4, right - left, 1)


def test_an_empty_mask_has_no_boundary() -> None:
    levels, x0, y0, height = boundary_levels(Rle.from_dense(np.zeros((9, 8), bool)))
    assert levels.shape == (4, 0, 0)
    assert (x0, y0, height) == (0, 0, 0)
    pixels, scores = boundary_pixels(np.zeros((9, 8), bool))
    assert (pixels.shape, scores.shape) == ((0, 2), (0,))

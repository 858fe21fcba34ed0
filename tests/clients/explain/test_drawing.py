"""Views, outlines, captions, rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.clients.explain import drawing
from maskmend.clients.explain.drawing import BLACK, GREEN, RED, WHITE, Key, Panel, View
from maskmend.patcher import Rle

OFFSET, SIDE, ROOM = st.integers(-50, 300), st.integers(1, 400), st.integers(20, 600)
WORDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=14), max_size=12)


def test_outlines_run_along_the_sides_of_pixels() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:9, 4:12] = True
    mask[6, 6] = False
    view = View(2, 3, 17, 18, 8.0)
    drawn = np.zeros((120, 120, 3), np.uint8)
    view.outline(drawn, Rle.from_dense(mask), WHITE, 1)
    on = drawn[:, :, 0] > 60
    # Lines between two pixels of the picture touch both.
    rows, columns = np.flatnonzero(on.any(1)), np.flatnonzero(on.any(0))
    assert (rows[0], rows[-1]) == (15, 48)
    assert (columns[0], columns[-1]) == (15, 80)
    hole = on[24:32, 32:40]
    assert hole[0].any()
    assert hole[-1].any()
    assert not on[28, 33:39].any()
    assert not on[40, 20:78].any()


def test_an_object_that_leaves_the_view_is_not_closed_at_its_side() -> None:
    view = View(0, 0, 10, 10, 4.0)
    drawn = np.zeros((40, 40, 3), np.uint8)
    mask = np.zeros((30, 30), bool)
    mask[3:, 3:] = True
    view.outline(drawn, Rle.from_dense(mask), WHITE, 2)
    assert not drawn[-1, 20:].any()
    assert not drawn[20:, -1].any()
    assert drawn[20, 11:13].all()


def test_an_empty_mask_has_no_outline() -> None:
    drawn = np.zeros((40, 40, 3), np.uint8)
    View(0, 0, 10, 10, 4.0).outline(drawn, Rle.from_dense(np.zeros((10, 10), bool)), WHITE)
    assert not drawn.any()


@settings(max_examples=60, deadline=None)
@given(OFFSET, OFFSET, SIDE, SIDE, ROOM, ROOM)
def test_a_view_is_as_large_as_fits(x: int, y: int, w: int, h: int, width: int, height: int) -> None:
    view = View.within((x, y, x + w, y + h), width, height)
    made = view.size
    assert made[0] <= width
    assert made[1] <= height
    assert made[0] == width or made[1] == height
    assert view.place(x, y) == (0, 0)
    assert view.photo(np.full((120, 90, 3), 7, np.uint8)).shape == (made[1], made[0], 3)
    assert view.values(np.ones((h, w), np.float32)).shape == (made[1], made[0])


def test_beyond_the_frame_a_view_repeats_the_border() -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(View(-2, -3, 8, 6, 1.0).photo(image), np.pad(image, ((3, 2), (2, 3), (0, 0)), mode="edge"))


@settings(max_examples=40, deadline=None)
@given(WORDS, st.integers(150, 400))
def test_captions_stay_within_their_width(words: list[str], width: int) -> None:
    text = " ".join(words)
    made = drawing.caption(text, width)
    assert made.shape[1] == width
    # Nothing of it is cut off at the sides or below: the last row and column are empty.
    assert (made[-1] == 255).all()
    assert (made[:, -1] == 255).all()
    taller = drawing.caption(text, width, lines=20)
    assert np.array_equal(taller[: made.shape[0] - 4], made[:-4])


def test_rows_and_legends_keep_panels_apart() -> None:
    square = np.zeros((50, 40, 3), np.uint8)
    made = drawing.row([Panel(square, "one"), Panel(square[:30], "two words")], 100)
    assert made.shape[1] == 2 * 100 + drawing.GAP
    below = made[-50:]
    assert (below[:, 30:70] == 0).all()
    assert (below[:30, 142:182] == 0).all()
    assert (below[30:, 112:] == 255).all()
    assert drawing.row([Panel(square, "")], 100).shape == (50, 100, 3)
    keys = [Key("first", RED), Key("second", GREEN, line=True), Key("third")]
    one, many = drawing.legend(keys, 900), drawing.legend(keys, 150)
    assert one.shape == (24, 900, 3)
    assert many.shape == (72, 150, 3)
    for colour in (RED, GREEN):
        assert (one == colour).all(2).sum() == (many == colour).all(2).sum() > 0


def test_heat_and_layers_are_what_they_say() -> None:
    shown = drawing.heat(np.array([[0.0, 1.0, 7.0]]))
    assert shown.flags.c_contiguous
    assert shown[0, 0, 2] > shown[0, 0, 1]  # dark violet
    assert shown[0, 1].min() < 60 < shown[0, 1].max()  # yellow
    assert np.array_equal(shown[0, 1], shown[0, 2])
    base = np.full((1, 2, 3), 100, np.uint8)
    mixed = drawing.laid_over(base, (200, 0, 100), np.array([[0.0, 0.5]]))
    assert mixed.tolist() == [[[100, 100, 100], [150, 50, 100]]]
    assert drawing.cells(np.array([[1, 2], [3, 4]]), 4).tolist() == [[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2
    marked = np.full((40, 40, 3), 128, np.uint8)
    drawing.cross(marked, 20, 20)
    assert (marked == WHITE).all(2).any()
    assert (marked == BLACK).all(2).any()

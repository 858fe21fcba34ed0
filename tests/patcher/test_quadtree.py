from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import reference_quadtree as plain
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher import MaskError, MaskmendError, OptionError
from maskmend.patcher.incoherence import incoherent_maps
from maskmend.patcher.quadtree import CHILDREN, Quadtree, propagate, quadtree, top_nodes


@st.composite
def pyramids(draw: st.DrawFn, dtype: type, elements: st.SearchStrategy) -> list[np.ndarray]:
    """Square arrays, coarse to fine."""
    side, levels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return [draw(arrays(dtype, (side * 2**level,) * 2, elements=elements)) for level in range(levels)]


@settings(max_examples=200, deadline=None)
@given(pyramids(bool, st.sampled_from([True, True, False])))
def test_nodes_are_the_cells_that_all_maps_above_allow(maps: list[np.ndarray]) -> None:
    tree = quadtree(maps)
    expected = plain.tree([cells.tolist() for cells in maps])
    assert tree.sides == tuple(len(cells) for cells in maps)
    assert tree.counts == tuple(map(len, expected))
    assert tree.offsets.tolist() == [sum(tree.counts[:level]) for level in range(len(maps) + 1)]
    assert (tree.nodes.dtype, tree.parents.dtype, tree.offsets.dtype) == (np.int32, np.int32, np.int64)
    assert tree.nodes.shape == (tree.offsets[-1], 2)
    for level, nodes in enumerate(expected):
        # Raster order is that of the reference's loops.
        assert list(map(tuple, tree.level(level).tolist())) == nodes
        assert tree.cells(level).tolist() == [r * len(maps[level]) + c for r, c in nodes]
    roots = tree.counts[0]
    assert (tree.parents[:roots] == -1).all()
    assert np.array_equal(tree.nodes[tree.parents[roots:]], tree.nodes[roots:] // 2)
    # The parent is of the level before, not merely a node with the same place.
    of_level = np.repeat(np.arange(len(maps)), tree.counts)
    assert np.array_equal(of_level[tree.parents[roots:]], of_level[roots:] - 1)


def test_a_disk() -> None:
    y, x = np.mgrid[:224, :224]
    mask = (y - 111.5) ** 2 + (x - 111.5) ** 2 < 80.0**2
    tree = quadtree(incoherent_maps(mask, 3)[::-1])
    assert tree.sides == (28, 56, 112)
    assert min(tree.counts) > 20
    wider = quadtree([cells.view(np.uint8) for cells in incoherent_maps(mask, 3, rule="bilinear")[::-1]])
    assert all(a > 2 * b for a, b in zip(wider.counts, tree.counts, strict=True))
    with pytest.raises(FrozenInstanceError):
        tree.sides = (1,)  # type: ignore[misc]


SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0]), st.floats(-2, 2, width=32), st.sampled_from([np.inf, -np.inf])
)


@settings(max_examples=300, deadline=None)
@given(st.data(), pyramids(np.float32, SCORES))
def test_slots_are_those_of_the_plain_way(data: st.DataObject, scores: list[np.ndarray]) -> None:
    k = [data.draw(st.integers(1, 20)) for _ in scores]
    threshold = data.draw(st.sampled_from([float("-inf"), -1.0, 0.0, 0.25, 0.5, 3.0]))
    before = [level.copy() for level in scores]
    found = top_nodes(scores, k, threshold)
    assert all(np.array_equal(a, b) for a, b in zip(before, scores, strict=True))
    grids = [level.tolist() for level in scores]
    expected = plain.slots(grids, k, [threshold] * len(k))
    for nodes, slots, most in zip(found, expected, k, strict=True):
        assert (nodes.index.dtype, nodes.valid.dtype) == (np.int64, np.bool_)
        assert nodes.index.shape == nodes.valid.shape == (most,)
        assert list(zip(nodes.index.tolist(), nodes.valid.tolist(), strict=True)) == slots
        kept = nodes.index[nodes.valid]
        assert len(np.unique(kept)) == len(kept)
        assert not nodes.index[~nodes.valid].any()
    thresholds = [data.draw(st.sampled_from([-1.0, 0.0, 0.5])) for _ in scores]
    each = [list(zip(n.index, n.valid, strict=True)) for n in top_nodes(scores, k, thresholds)]
    assert each == plain.slots(grids, k, thresholds)


@settings(max_examples=100, deadline=None)
@given(pyramids(bool, st.booleans()))
def test_with_room_for_all_slots_hold_the_nodes_of_the_maps(maps: list[np.ndarray]) -> None:
    tree = quadtree(maps)
    found = top_nodes([cells.astype(np.float32) for cells in maps], [cells.size for cells in maps], 0.5)
    for level, nodes in enumerate(found):
        assert sorted(nodes.index[nodes.valid].tolist()) == tree.cells(level).tolist()


def test_order_of_candidates() -> None:
    # Slot order comes before raster order: the children of the better parent are the earlier candidates.
    coarse = np.array([[0.6, 0.9], [0.1, 0.6]], np.float32)
    first, second = top_nodes([coarse, np.ones((4, 4), np.float32)], [3, 6], 0.5)
    assert first.index.tolist() == [1, 0, 3]
    best = [4 * i + 2 + j for i, j in CHILDREN]
    assert second.index.tolist() == [*best, 0, 1]
    assert second.valid.all()


def test_thresholds_are_those_of_float32() -> None:
    scores = [np.full((1, 1), 0.1, np.float32)]
    # 0.1 is a little more in float32 than in float64; both sides are rounded alike.
    assert top_nodes(scores, [1], 0.1)[0].valid.all()
    assert not top_nodes(scores, [1], np.nextafter(np.float32(0.1), np.float32(1)))[0].valid.any()
    assert not top_nodes(scores, [1], 1e300)[0].valid.any()


@st.composite
def journeys(draw: st.DrawFn) -> tuple[np.ndarray, list[dict[tuple[int, int], float]]]:
    """A coarsest map, and per level the values of some cells."""
    side, levels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    numbers = st.floats(-4, 4, width=16)
    start = draw(arrays(np.float32, (side, side), elements=numbers))
    nodes = []
    for level in range(levels):
        places = st.integers(0, side * 2**level - 1)
        nodes.append(draw(st.dictionaries(st.tuples(places, places), numbers, max_size=6)))
    return start, nodes


@settings(max_examples=200, deadline=None)
@given(journeys(), st.sampled_from(["nearest", "bilinear"]), st.booleans())
def test_values_travel_as_in_the_plain_way(
    journey: tuple[np.ndarray, list[dict[tuple[int, int], float]]], upsampling: str, inner: bool
) -> None:
    start, nodes = journey
    cells = [
        np.array([r * (len(start) << level) + c for r, c in values], np.int64) for level, values in enumerate(nodes)
    ]
    values = [np.array(list(found.values()), np.float32) for found in nodes]
    before = start.copy()
    found = propagate(start, cells, values, upsampling=upsampling, inner=inner)  # type: ignore[arg-type]
    assert np.array_equal(start, before)
    assert found.dtype == np.float32
    expected = np.array(plain.propagated(start.tolist(), nodes, upsampling, inner), float)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-5, rtol=0)
    if upsampling == "nearest":
        assert np.array_equal(found, expected)


def true_values(mask: np.ndarray, tree: Quadtree) -> list[np.ndarray]:
    """What the mask says at each node: the pixel that nearest neighbour keeps at the next finer size."""
    steps = [len(mask) // side for side in tree.sides]
    nodes = [tree.level(level) for level in range(len(steps))]
    return [mask[n[:, 0] * step, n[:, 1] * step].astype(np.float32) for n, step in zip(nodes, steps, strict=True)]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (16, 16)))
def test_true_values_in_a_tree_of_true_maps_give_the_mask_where_parents_found_it(mask: np.ndarray) -> None:
    """With nodes at every level and no holes, the finest map is the mask itself at that size."""
    everywhere = [np.ones((side, side), bool) for side in (2, 4, 8)]
    tree = quadtree(everywhere)
    cells = [tree.cells(level) for level in range(3)]
    found = propagate(np.zeros((2, 2), np.float32), cells, true_values(mask, tree))
    assert np.array_equal(found, mask[::2, ::2])
    # The true maps' own nodes: right at every node, and wherever the tree was cut off above only in error.
    start = mask[::8, ::8].astype(np.float32)
    tree = quadtree(incoherent_maps(mask, 3)[::-1])
    cells = [tree.cells(level) for level in range(3)]
    found = propagate(start, cells, true_values(mask, tree))
    assert np.array_equal(found.reshape(-1)[cells[2]], mask[::2, ::2].reshape(-1)[cells[2]])


def test_inner_nodes_carry_values_to_where_no_leaf_is() -> None:
    start = np.zeros((2, 2), np.float32)
    cells = [np.array([3]), np.array([15]), np.array([], np.int64)]
    values = [np.ones(1, np.float32), np.full(1, 2, np.float32), np.zeros(0, np.float32)]
    found = propagate(start, cells, values)
    assert found.shape == (8, 8)
    assert (found[6:, 6:] == 2).all()
    assert (found[4:6, 4:] == 1).all()
    assert found.sum() == 12 + 8
    assert not propagate(start, cells, values, inner=False).any()


BAD_MAPS = [
    [],
    None,
    [np.zeros((2, 2), bool), np.zeros((2, 2), bool)],
    [np.zeros((4, 4), bool), np.zeros((2, 2), bool)],
    [np.zeros((2, 3), bool)],
    [np.zeros((0, 0), bool)],
    [np.zeros(4, bool)],
    [np.zeros((2, 2), np.float32)],
    [np.zeros((2, 2), np.int8)],
    [[[True]]],
    [np.broadcast_to(np.uint8(1), (8192, 8192))],
]


@pytest.mark.parametrize("maps", BAD_MAPS)
def test_other_maps_are_refused(maps: object) -> None:
    with pytest.raises(MaskError) as caught:
        quadtree(maps)  # type: ignore[arg-type]
    assert caught.value.field == "maps"


GOOD = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("scores", "k", "threshold", "field"),
    [
        ([], [], 0.5, "scores"),
        ([GOOD.astype(np.float64)], [1], 0.5, "scores"),
        ([GOOD, GOOD], [1, 1], 0.5, "scores"),
        ([np.full((2, 2), np.nan, np.float32)], [1], 0.5, "scores"),
        ([GOOD], [1, 1], 0.5, "k"),
        ([GOOD], [0], 0.5, "k"),
        ([GOOD], [1.0], 0.5, "k"),
        ([GOOD], [2**24 + 1], 0.5, "k"),
        ([GOOD], [1], float("nan"), "threshold"),
        ([GOOD], [1], "0.5", "threshold"),
        ([GOOD], [1], True, "threshold"),
        ([GOOD], [1], [0.5, 0.5], "threshold"),
    ],
)
def test_other_scores_are_refused(scores: object, k: object, threshold: object, field: str) -> None:
    with pytest.raises(OptionError) as caught:
        top_nodes(scores, k, threshold)  # type: ignore[arg-type]
    assert caught.value.field == field


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("start", "cells", "values", "options", "field"),
    [
        (GOOD.astype(np.float64), [np.array([0])], [ONE], {}, "start"),
        (GOOD[:1], [np.array([0])], [ONE], {}, "start"),
        (GOOD, [np.array([0])] * 13, [ONE] * 13, {}, "start"),
        (GOOD, [np.array([0])] * 5000, [ONE] * 5000, {}, "start"),
        (GOOD, [], [], {}, "cells"),
        (GOOD, [np.array([0])], [ONE, ONE], {}, "cells"),
        (GOOD, [np.array([4])], [ONE], {}, "cells"),
        (GOOD, [np.array([-1])], [ONE], {}, "cells"),
        (GOOD, [np.array([0.0])], [ONE], {}, "cells"),
        (GOOD, [np.array([1, 1])], [np.ones(2, np.float32)], {}, "cells"),
        (GOOD, [np.array([0, 1])], [ONE], {}, "values"),
        (GOOD, [np.array([0])], [np.ones(1)], {}, "values"),
        (GOOD, [np.array([0])], [ONE], {"upsampling": "cubic"}, "upsampling"),
    ],
)
def test_other_journeys_are_refused(start: object, cells: object, values: object, options: dict, field: str) -> None:
    with pytest.raises(MaskmendError) as caught:
        propagate(start, cells, values, **options)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("cells", "values", "words"),
    [
        (np.array([[0]]), np.ones((1, 1), np.float32), r"cells\[0\] must be an integer array with one axis"),
        (np.array(0), np.ones((), np.float32), r"cells\[0\] must be an integer array with one axis"),
        ([0], ONE, r"cells\[0\] must be an integer array with one axis"),
        (np.array([4]), ONE, r"cells\[0\] hold an index outside 0 to 3"),
        (np.array([0, 1, 0]), np.ones(3, np.float32), r"cells\[0\] name a cell twice"),
        (np.array([0, 1, 2]), np.ones(2, np.float32), r"values\[0\] must be float32 \[3\]"),
        (np.array([0]), [1.0], r"values\[0\] must be float32 \[1\]"),
    ],
)
def test_what_is_wrong_with_the_cells_of_a_level_is_told(cells: object, values: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        propagate(GOOD, [cells], [values])  # type: ignore[list-item]

"""Quadtree operations on tensors against plain loops and against their twins on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="networks need the train extra")

from maskmend.models import quadtree_ops as ops  # noqa: E402
from maskmend.patcher import incoherence, quadtree  # noqa: E402

Case = tuple[list[np.ndarray], list[int], list[float]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores of up to three levels, with and without ties; slots, sometimes more than there are candidates; thresholds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side, levels = draw(st.sampled_from([1, 2, 3, 5, 8])), draw(st.integers(1, 3))
    values = draw(st.sampled_from([2, 5, 0]))
    scores, k, thresholds = [], [], []
    for level in range(levels):
        shape = (2, side << level, side << level)
        score = rng.integers(-values, values, shape) / 7 if values else rng.standard_normal(shape)
        scores.append(score.astype(np.float32))
        k.append(draw(st.integers(1, 40)))
        # One that a score meets exactly, as float32.
        thresholds.append(draw(st.sampled_from([-100.0, float(scores[-1].flat[0]), 1 / 7, 0.1])))
    return scores, k, thresholds


def chosen_by_loop(scores: list[np.ndarray], k: list[int], thresholds: list[float]) -> list[list[tuple[int, int]]]:
    """Cells (row, column) per level for one crop."""
    found: list[list[tuple[int, int]]] = []
    for level, (score, count, threshold) in enumerate(zip(scores, k, thresholds, strict=True)):
        if level:
            candidates = [(2 * r + a, 2 * c + b) for r, c in found[-1] for a in (0, 1) for b in (0, 1)]
        else:
            candidates = [(r, c) for r in range(len(score)) for c in range(len(score))]
        candidates = [cell for cell in candidates if score[cell] >= np.float32(threshold)]
        found.append(sorted(candidates, key=lambda cell: -score[cell])[:count])
    return found


@settings(max_examples=150, deadline=None)
@given(cases())
def test_nodes_are_those_of_a_loop_and_of_the_twin_on_arrays(case: Case) -> None:
    scores, k, thresholds = case
    got = ops.top_nodes([torch.from_numpy(score) for score in scores], k, thresholds)
    for crop in range(2):
        each = [score[crop] for score in scores]
        wanted = chosen_by_loop(each, k, thresholds)
        twins = quadtree.top_nodes(each, k, thresholds)
        for nodes, cells, twin in zip(got, wanted, twins, strict=True):
            valid = nodes.valid[crop].numpy()
            pairs = zip(nodes.row[crop].tolist(), nodes.column[crop].tolist(), strict=True)
            assert [pair for pair, on in zip(pairs, valid, strict=True) if on] == cells
            assert np.array_equal(valid, twin.valid)
            assert np.array_equal(nodes.index[crop].numpy(), twin.index)


@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans(), st.sampled_from(["nearest", "bilinear"]))
def test_values_travel_down_as_in_the_twin_on_arrays(case: Case, inner: bool, mode: str) -> None:
    scores, k, thresholds = case
    nodes = ops.top_nodes([torch.from_numpy(score) for score in scores], k, thresholds)
    rng = np.random.default_rng(len(scores))
    start = rng.standard_normal((2, 1, *scores[0].shape[1:])).astype(np.float32)
    new = [rng.standard_normal((2, count)).astype(np.float32) for count in k]
    side = scores[-1].shape[-1]
    got = ops.propagate(
        torch.from_numpy(start), nodes, [torch.from_numpy(v) for v in new], side, mode=mode, inner=inner
    )
    for crop in range(2):
        valid = [at.valid[crop].numpy() for at in nodes]
        cells = [at.index[crop].numpy()[on] for at, on in zip(nodes, valid, strict=True)]
        values = [value[crop][on] for value, on in zip(new, valid, strict=True)]
        wanted = quadtree.propagate(start[crop, 0], cells, values, upsampling=mode, inner=inner)
        assert np.abs(got[crop, 0].numpy() - wanted).max() <= (0 if mode == "nearest" else 1e-5)


def test_slots_left_over_do_not_write_to_the_first_cell() -> None:
    scores = torch.zeros(1, 4, 4)
    scores[0, 0, 0], scores[0, 2, 1] = 2.0, 1.0
    nodes = ops.top_nodes([scores], [5], [0.5])[0]
    got = ops.write_cells(torch.full((1, 1, 4, 4), 7.0), nodes, torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    wanted = torch.full((1, 1, 4, 4), 7.0)
    wanted[0, 0, 0, 0], wanted[0, 0, 2, 1] = 1.0, 2.0
    assert torch.equal(got, wanted)
    assert ops.read_cells(got, nodes)[0, :2].tolist() == [1.0, 2.0]


def test_neighbourhoods_are_the_cells_around_a_node_of_its_own_crop() -> None:
    features = torch.randn((3, 2, 5, 5), generator=torch.Generator().manual_seed(0))
    nodes = ops.top_nodes([torch.ones(3, 5, 5)], [25], [0.0])[0]
    got = ops.neighbourhoods(features, nodes)
    padded = torch.nn.functional.pad(features, (1, 1, 1, 1))
    for crop in range(3):
        for slot in range(25):
            r, c = divmod(slot, 5)
            assert torch.equal(got[crop, slot], padded[crop, :, r : r + 3, c : c + 3].flatten(1).T)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 24, 40]))
def test_incoherent_cells_are_those_of_the_twin_on_arrays(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((2, 1, side, side)) < rng.choice([0.02, 0.5])).astype(np.uint8)
    got, sure = ops.incoherent_maps(torch.from_numpy(target), 3)
    assert all(known.all() for known in sure)
    for crop in range(2):
        wanted = incoherence.incoherent_maps(target[crop, 0], 3)[::-1]
        for level, twin in zip(got, wanted, strict=True):
            assert np.array_equal(level[crop, 0].numpy(), twin)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_closed_maps_leave_no_child_without_its_parent_and_unsure_cells_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(rng.choice(3, (1, 1, 32, 32), p=[0.6, 0.37, 0.03]).astype(np.uint8))
    plain, sure = ops.incoherent_maps(target, 3)
    closed, _ = ops.incoherent_maps(target, 3, closed=True)
    assert not any((on & ~known).any() for on, known in zip(plain, sure, strict=True))
    for level in range(2):
        parents = closed[level].repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert not (closed[level + 1] & ~parents).any()
        assert not (plain[level] & ~closed[level]).any()
    assert torch.equal(plain[2], closed[2])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_lost_cells_are_the_incoherent_ones_and_those_where_the_coarse_mask_is_wrong(seed: int, closed: bool) -> None:
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(rng.choice(3, (1, 1, 32, 32), p=[0.6, 0.37, 0.03]).astype(np.uint8))
    coarse = (target == 1) ^ torch.from_numpy(rng.random((1, 1, 32, 32)) < 0.01)
    plain, _ = ops.incoherent_maps(target, 3, closed=closed)
    lost, _ = ops.lost_maps(target, coarse, 3, closed=closed)
    for level, (cells, incoherent) in enumerate(zip(lost, plain, strict=True)):
        size = 8 >> level
        for row in range(32 // size):
            for column in range(32 // size):
                rows, columns = slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size)
                true, mine = target[0, 0, rows, columns], coarse[0, 0, rows, columns]
                wrong = bool(((true == 1) != mine)[true != 2].any())
                assert bool(cells[0, 0, row, column]) == (wrong or bool(incoherent[0, 0, row, column]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 31), st.integers(1, 31))
def test_an_edge_passes_the_cells_on_both_sides_of_it(row: int, column: int) -> None:
    mask = -torch.ones(1, 1, 32, 32)
    mask[:, :, row:, column:] = 1
    for level, found in zip((8, 4, 2), ops.passing_cells(mask, 3), strict=True):
        assert found.shape[-1] == 32 // level
        wanted = torch.zeros(32 // level, 32 // level, dtype=torch.bool)
        for y in range(32):
            for x in range(32):
                around = mask[0, 0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                if around.min() != around.max():
                    wanted[y // level, x // level] = True
        assert torch.equal(found[0, 0], wanted)


def test_spread_numbers_are_unequal_and_even() -> None:
    for side in (28, 56, 112):
        numbers = ops.spread(side, torch.zeros(1)) + 64.0
        assert len(numbers.unique()) == side * side
        upper = (ops.spread(side, torch.zeros(1))[0] > 0.75).float()
        quarters = torch.nn.functional.avg_pool2d(upper[None, None], side // 2)
        assert (quarters - 0.25).abs().max() < 0.02

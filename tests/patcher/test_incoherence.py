from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference_quadtree as plain
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher import MaskError, OptionError
from maskmend.patcher.incoherence import doubled, incoherent_maps


@st.composite
def masks(draw: st.DrawFn, most: int = 3) -> tuple[np.ndarray, int]:
    """A square mask of blocks of some size, so that edges lie both on the even grid and off it, and its levels."""
    levels = draw(st.integers(1, most))
    side = 2**levels * draw(st.integers(1, 3))
    grain = draw(st.sampled_from([size for size in (1, 2, 3, 4) if size <= side]))
    small = draw(arrays(bool, (-(-side // grain),) * 2))
    dy, dx = draw(st.integers(0, grain - 1)), draw(st.integers(0, grain - 1))
    large = np.roll(small.repeat(grain, 0).repeat(grain, 1), (dy, dx), (0, 1))
    return np.ascontiguousarray(large[:side, :side]), levels


def pyramid(mask: np.ndarray, levels: int) -> list[list[list[bool]]]:
    grids = [mask.tolist()]
    for _ in range(levels - 1):
        grids.append(plain.halved_nearest(grids[-1]))
    return grids


@settings(max_examples=200, deadline=None)
@given(masks())
def test_equation_1_says_which_blocks_are_not_constant(case: tuple[np.ndarray, int]) -> None:
    mask, levels = case
    maps = incoherent_maps(mask, levels)
    assert [len(cells) for cells in maps] == [len(mask) // 2 ** (level + 1) for level in range(levels)]
    for cells, grid in zip(maps, pyramid(mask, levels), strict=True):
        assert cells.dtype == np.bool_
        assert cells.tolist() == plain.incoherent_by_equation(grid) == plain.incoherent_by_pooling(grid)


@settings(max_examples=60, deadline=None)
@given(masks(2))
def test_the_bilinear_rules_agree_with_exact_fractions(case: tuple[np.ndarray, int]) -> None:
    mask, levels = case
    maps = incoherent_maps(mask, levels, rule="bilinear")
    assert [m.tolist() for m in maps] == [plain.incoherent_bilinear(grid) for grid in pyramid(mask, levels)]
    assert [m.tolist() for m in incoherent_maps(mask, levels, rule="sampled")] == plain.sampled(mask.tolist(), levels)


@settings(max_examples=30, deadline=None)
@given(masks())
def test_the_bilinear_rule_is_what_torch_makes_of_it(case: tuple[np.ndarray, int]) -> None:
    torch = pytest.importorskip("torch", reason="compares with torch's interpolation (the train extra)")
    resized = torch.nn.functional.interpolate
    mask, levels = case
    for cells in incoherent_maps(mask, levels, rule="bilinear"):
        side = len(mask)
        values = torch.from_numpy(mask.astype(np.float32))[None, None]
        smaller = resized(values, size=(side // 2, side // 2), mode="bilinear", align_corners=False)
        lost = (values - resized(smaller, size=(side, side), mode="bilinear", align_corners=False)).abs()
        lost = resized(lost, size=(side // 2, side // 2), mode="bilinear", align_corners=False)
        assert np.array_equal(cells, (lost >= 0.01)[0, 0].numpy())
        mask = np.ascontiguousarray(mask[::2, ::2])


@settings(max_examples=50, deadline=None)
@given(masks(), st.sampled_from(["nearest", "bilinear", "sampled"]))
def test_symmetries_of_a_single_level(case: tuple[np.ndarray, int], rule: str) -> None:
    mask, _ = case
    found = incoherent_maps(mask, 1, rule=rule)[0]  # type: ignore[arg-type]
    assert np.array_equal(incoherent_maps(~mask, 1, rule=rule)[0], found)  # type: ignore[arg-type]
    assert np.array_equal(incoherent_maps(np.ascontiguousarray(mask.T), 1, rule=rule)[0], found.T)  # type: ignore[arg-type]
    # A block that is not constant is always found by the wider rule.
    assert (found | ~incoherent_maps(mask, 1)[0]).all()


def test_an_edge_on_the_even_grid_is_missed_by_equation_1_alone() -> None:
    mask = np.zeros((16, 16), bool)
    mask[:, 8:] = True
    assert not any(cells.any() for cells in incoherent_maps(mask, 3))
    shifted = np.roll(mask, 1, 1)
    assert incoherent_maps(shifted, 3)[0].sum(1).tolist() == [2] * 8
    for rule in ("bilinear", "sampled"):
        assert incoherent_maps(mask, 3, rule=rule)[0][:, 3:5].all()  # type: ignore[arg-type]


def test_one_marked_cell_of_sixteen_is_enough_for_a_sampled_map() -> None:
    mask = np.zeros((32, 32), bool)
    mask[6, 6] = True
    finest, _, coarsest = incoherent_maps(mask, 3, rule="sampled")
    # The pixel's cell and the four beside it; two of those are the only ones in their blocks of 4x4.
    assert np.argwhere(finest).tolist() == [[2, 3], [3, 2], [3, 3], [3, 4], [4, 3]]
    assert np.argwhere(coarsest).tolist() == [[0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "sampled"])
def test_uint8_and_dilation(rule: str) -> None:
    mask = np.zeros((32, 32), np.uint8)
    cv2.circle(mask, (13, 17), 7, 255, -1)
    maps = incoherent_maps(mask, 3, rule=rule)  # type: ignore[arg-type]
    assert all(np.array_equal(a, b) for a, b in zip(maps, incoherent_maps(mask > 0, 3, rule=rule), strict=True))  # type: ignore[arg-type]
    for cells, grown in zip(maps, incoherent_maps(mask, 3, rule=rule, dilation=1), strict=True):  # type: ignore[arg-type]
        padded = np.pad(cells, 1)
        side = len(cells)
        near = [padded[y : y + side, x : x + side] for y in range(3) for x in range(3)]
        assert np.array_equal(grown, np.any(near, 0))
        assert grown.sum() > cells.sum()
    assert all(cells.all() for cells in incoherent_maps(mask, 3, rule=rule, dilation=32))  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-8, 8, width=32)))
def test_doubling(values: np.ndarray) -> None:
    assert doubled(values, "nearest").tolist() == plain.doubled_nearest(values.tolist())
    found = doubled(values, "bilinear")
    assert found.dtype == np.float32
    expected = cv2.resize(values, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [
        None,
        np.zeros((8, 16), bool),
        np.zeros((12, 12), bool),
        np.zeros((8, 8), np.float32),
        np.zeros((0, 0), bool),
        np.zeros((8, 8, 1), bool),
        np.broadcast_to(np.uint8(0), (8192, 8192)),
    ],
)
def test_other_masks_are_refused(mask: object) -> None:
    with pytest.raises(MaskError) as caught:
        incoherent_maps(mask, 3)  # type: ignore[arg-type]
    assert caught.value.field == "mask"


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 0},
        {"levels": 13},
        {"levels": 1.0},
        {"levels": True},
        {"rule": "cubic"},
        {"dilation": -1},
        {"dilation": 17},
        {"dilation": 0.5},
    ],
)
def test_other_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        incoherent_maps(np.zeros((16, 16), bool), **options)  # type: ignore[arg-type]
    assert caught.value.field == next(iter(options))

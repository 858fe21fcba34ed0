from __future__ import annotations

import numpy as np
import pytest
import reference

from maskmend.patcher import _select, boundary_boxes
from maskmend.patcher.boxes import stencil


@pytest.mark.parametrize("word", [0, 1, 2, 65_535, 65_536, 2**31, 2**32 - 1, 0x1234_5678])
def test_the_hash_is_that_of_the_plain_implementation(word: int) -> None:
    assert int(_select.mix(np.uint64(word))) == reference.finalise(word)


def small_masks() -> list[np.ndarray]:
    rng = np.random.default_rng(21)
    shapes = [(1, 1), (1, 30), (30, 1), (5, 9), (20, 33), (70, 9), (130, 6)]
    return [rng.random(shape) < share for shape in shapes for share in (0.05, 0.5, 0.95)]


@pytest.mark.parametrize(("patch", "nms"), [(2, 0.1), (4, 0.25), (8, 0.2), (8, 0.9), (20, 0.55), (64, 0.05)])
def test_small_masks_agree_with_the_plain_implementation(patch: int, nms: float) -> None:
    for number, mask in enumerate(small_masks()):
        for ties in ("hash", "raster"):
            for border in ("exact", "reference"):
                options = {"patch": patch, "nms": nms, "ties": ties, "border": border, "seed": number}
                expected = reference.boxes(mask, **options)
                found = boundary_boxes(mask, **options)
                assert found.dtype == np.int32
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ties", ["hash", "raster"])
def test_more_pixels_of_a_level_than_one_pass_sorts(ties: str) -> None:
    mask = np.random.default_rng(4).random((70, 60)) < 0.5
    wide = np.zeros((90, 100), bool)
    wide[15:85, 30:90] = mask
    for dense in (mask, wide):
        expected = reference.boxes(dense, patch=2, nms=0.4, ties=ties)
        assert len(expected) > 1500
        np.testing.assert_array_equal(boundary_boxes(dense, patch=2, nms=0.4, ties=ties), expected)


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_keys_are_sorted_by_their_upper_half(count: int) -> None:
    rng = np.random.default_rng(count)
    ties = rng.choice(2**32, count, replace=False).astype(np.uint64)
    keys = ties << np.uint64(32) | rng.integers(0, 2**32, count).astype(np.uint64)
    expected = np.sort(keys)
    _select._sort(keys, np.empty_like(keys))
    np.testing.assert_array_equal(keys, expected)


@pytest.mark.parametrize(("patch", "nms"), [(2, 0.5), (4, 0.25), (10, 0.2), (64, 0.25), (64, 0.99)])
def test_the_stencil_is_where_boxes_overlap_too_much(patch: int, nms: float) -> None:
    reach = stencil(patch, nms)
    assert not reach.flags.writeable
    for dx in range(patch + 1):
        sides = [(patch - dx) * (patch - dy) for dy in range(patch)]
        over = [shared / (2 * patch * patch - shared) >= nms for shared in sides]
        assert (dx < len(reach)) == any(over)
        if dx < len(reach):
            assert reach[dx] == max(dy for dy, yes in enumerate(over) if yes)


def test_ends_of_the_options() -> None:
    mask = np.ones((4, 5), bool)
    for option in ({"patch": 2}, {"patch": 1024}, {"seed": 0}, {"seed": 2**32 - 1}, {"nms": np.float32(0.5)}):
        assert len(boundary_boxes(mask, **option))
    assert boundary_boxes(mask, patch=1024).tolist() == [[0, 0, 1024, 1024]]

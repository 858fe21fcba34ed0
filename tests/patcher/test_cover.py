from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import MaskError, OptionError, Rle, boundary_boxes, boundary_pixels
from maskmend.patcher.cover import covering_boxes

CHOICES = 48


def boxes_of(pixels: np.ndarray, patch: int, shape: tuple[int, int]) -> np.ndarray:
    """The box of each pixel (x, y), shifted into the frame."""
    most = np.maximum(np.array(shape[::-1]) - patch, 0)
    starts = np.clip(pixels - patch // 2, 0, most)
    return np.hstack([starts, starts + patch])


def holds(box: np.ndarray, pixels: np.ndarray, margin: int, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels a box covers: all but its margin, unless a side lies on the frame's border."""
    inside = np.ones(len(pixels), bool)
    for axis, side in enumerate(shape[::-1]):
        if box[axis] > 0:
            inside &= pixels[:, axis] >= box[axis] + margin
        if box[axis + 2] < side:
            inside &= pixels[:, axis] < box[axis + 2] - margin
    return inside


def plain_cover(pixels: np.ndarray, patch: int, margin: int, shape: tuple[int, int]) -> list[list[int]]:
    """The same boxes from lists of pixels, which come down the columns."""
    half = patch // 2 - margin
    boxes = boxes_of(pixels, patch, shape)
    left = np.ones(len(pixels), bool)
    found = []
    while left.any():
        first = int(np.argmax(left))
        x, y = pixels[first]
        near = np.flatnonzero(
            (pixels[:, 0] >= x) & (pixels[:, 0] < x + half) & (pixels[:, 1] > y - half) & (pixels[:, 1] < y + half)
        )
        tried = near[:: 1 + len(near) // CHOICES]
        cores = [holds(boxes[n], pixels, margin, shape) for n in tried]
        gains = [np.count_nonzero(core & left) if core[first] else -1 for core in cores]
        best = int(np.argmax(gains))
        left &= ~cores[best]
        found.append(boxes[tried[best]].tolist())
    return found


def moved_pixels(before: np.ndarray, after: np.ndarray, box: list[int]) -> int:
    x0, y0, x1, y1 = box
    return np.count_nonzero(before[y0:y1, x0:x1] != after[y0:y1, x0:x1])


@pytest.mark.parametrize("block", range(4))
def test_random_masks_agree_with_the_plain_implementation(block: int) -> None:
    rng = np.random.default_rng((7, block))
    for _ in range(40):
        mask = reference.random_mask(rng)
        patch = int(rng.choice([64, 64, 32, 10, 2]))
        margin = int(rng.integers(0, patch // 2))
        pixels, _ = boundary_pixels(mask)
        found = covering_boxes(mask if rng.random() < 0.3 else Rle.from_dense(mask), patch=patch, margin=margin)
        assert found.dtype == np.int32
        assert found.tolist() == plain_cover(pixels, patch, margin, mask.shape)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 31))
def test_every_boundary_pixel_lies_well_within_a_box_round_one(seed: int, margin: int) -> None:
    mask = reference.random_mask(np.random.default_rng(seed))
    pixels, _ = boundary_pixels(mask)
    boxes = covering_boxes(mask, margin=margin)
    covered = np.zeros(len(pixels), bool)
    for box in boxes:
        covered |= holds(box, pixels, margin, mask.shape)
    assert covered.all()
    own = {tuple(box) for box in boxes_of(pixels, 64, mask.shape).tolist()}
    assert {tuple(box) for box in boxes.tolist()} <= own
    assert len(np.unique(boxes, axis=0)) == len(boxes)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 3.0]))
def test_only_what_moved_is_covered(seed: int, moved: float) -> None:
    rng = np.random.default_rng(seed)
    mask = reference.random_mask(rng)
    before = np.roll(mask, rng.integers(-6, 7, 2), (0, 1))
    before[:, : mask.shape[1] // 2] = mask[:, : mask.shape[1] // 2]
    pixels, _ = boundary_pixels(mask)
    counts = np.array([moved_pixels(before, mask, box) for box in boxes_of(pixels, 64, mask.shape).tolist()])
    wanted = pixels[counts >= 64 * moved] if len(pixels) else pixels
    assert covering_boxes(mask, margin=0, before=before, moved=moved).tolist() == plain_cover(wanted, 64, 0, mask.shape)


def test_fewer_boxes_than_suppression_for_the_same_boundary() -> None:
    rows, columns = np.indices((600, 800))
    disk = (rows - 300) ** 2 + (columns - 400) ** 2 < 250**2
    assert len(covering_boxes(disk, margin=0)) <= 0.75 * len(boundary_boxes(disk))


def test_nothing_to_cover() -> None:
    empty, full = np.zeros((90, 80), bool), np.ones((90, 80), bool)
    assert covering_boxes(empty).shape == (0, 4)
    assert covering_boxes(full, before=full).shape == (0, 4)
    assert covering_boxes(empty, before=full).shape == (0, 4)


def test_an_object_that_fits_gets_one_box_and_a_small_frame_is_overhung() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:40] = True
    assert covering_boxes(mask).tolist() == [[0, 0, 64, 64]]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"patch": 63}, "patch"),
        ({"patch": 2048}, "patch"),
        ({"margin": 32}, "margin"),
        ({"margin": -1}, "margin"),
        ({"margin": 1.5}, "margin"),
        ({"moved": 0}, "moved"),
        ({"moved": True}, "moved"),
        ({"moved": float("nan")}, "moved"),
    ],
)
def test_options_out_of_range(options: dict[str, object], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        covering_boxes(np.ones((90, 80), bool), **options)
    assert caught.value.field == field


def test_masks_of_two_sizes() -> None:
    with pytest.raises(MaskError, match="before is 80x91 px but mask is 80x90 px"):
        covering_boxes(np.ones((90, 80), bool), before=np.ones((91, 80), bool))

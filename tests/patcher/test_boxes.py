from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.patcher import OptionError, Rle, boundary_boxes, boundary_pixels

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_golden import cases  # noqa: E402


@pytest.mark.parametrize(("nms", "count"), [(0.15, 8), (0.25, 12), (0.55, 26)])
def test_square_gives_the_published_counts(nms, count):
    assert len(boundary_boxes(cases()["square"], nms=nms, ties="raster")) == count


def test_full_frame_gives_the_published_count():
    assert len(boundary_boxes(np.ones((1024, 2048), bool), ties="raster")) == 156


def test_single_pixel_gives_the_box_around_it():
    assert boundary_boxes(cases()["pixel"]).tolist() == [[68, 68, 132, 132]]


def test_empty_mask_gives_no_boxes():
    boxes = boundary_boxes(np.zeros((40, 50), bool))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.int32


def test_golden_file():
    masks = cases()
    records = json.loads((GOLDEN / "boxes.json").read_text())
    assert len(records) == 72
    for record in records:
        expected = record.pop("boxes")
        found = boundary_boxes(masks[record.pop("mask")], **record)
        assert found.dtype == np.int32
        assert found.tolist() == expected


@pytest.mark.parametrize("block", range(10))
def test_a_thousand_random_masks_agree_with_the_plain_implementation(block):
    rng = np.random.default_rng((11, block))
    for _ in range(100):
        mask = reference.random_mask(rng)
        patch = int(rng.choice([64, 64, 64, 32, 10, 2, 96]))
        nms = float(rng.choice([0.05, 0.15, 0.2, 0.25, 1 / 3, 0.5, 0.55, 0.9]))
        seed = int(rng.choice([0, 1, 2**32 - 1]))
        given_as = mask if rng.random() < 0.3 else Rle.from_dense(mask).to_coco()
        for ties in ("hash", "raster"):
            kept = reference.suppress(reference.ranked(mask, ties, seed), patch, nms)
            for border in ("exact", "reference"):
                expected = reference.shifted(kept, mask.shape, patch, border)
                found = boundary_boxes(given_as, patch=patch, nms=nms, ties=ties, border=border, seed=seed)
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ties", ["hash", "raster"])
def test_several_passes_over_a_level_agree_with_the_plain_implementation(ties):
    # Noise has more pixels per level than one pass sorts.
    mask = np.random.default_rng(4).random((300, 260)) < 0.5
    np.testing.assert_array_equal(boundary_boxes(mask, ties=ties, nms=0.4), reference.boxes(mask, ties=ties, nms=0.4))


def test_boundary_pixels_and_scores():
    rng = np.random.default_rng(5)
    for _ in range(100):
        mask = reference.random_mask(rng, 150)
        pixels, score = boundary_pixels(mask)
        expected = np.zeros(mask.shape)
        expected[pixels[:, 1], pixels[:, 0]] = score
        np.testing.assert_allclose(expected, reference.scores(mask) / 4.5, rtol=0, atol=1e-12)
        assert len(pixels) == np.count_nonzero(expected)


def test_reach_of_the_stencil_on_the_axis():
    mask = np.zeros((3, 400), bool)
    mask[1] = True
    # Along a line of equal scores in raster order, boxes follow each other just beyond the stencil.
    for nms, reach in ((0.15, 47), (0.25, 38), (0.55, 18)):
        x = boundary_boxes(mask, nms=nms, ties="raster")[:, 0]
        steps = np.diff(np.sort(x[(x > 0) & (x < 336)]))
        assert steps.min() == reach + 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 60))
def test_a_moved_mask_has_moved_boxes(seed, dx, dy):
    mask = reference.random_mask(np.random.default_rng(seed), 80)
    frames = []
    for x, y in ((100, 100), (100 + dx, 100 + dy)):
        frame = np.zeros((400, 400), bool)
        frame[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        frames.append(boundary_boxes(frame, ties="raster"))
    np.testing.assert_array_equal(frames[0] + [dx, dy, dx, dy], frames[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_boxes_lie_in_the_frame_and_every_boundary_pixel_is_near_one(seed, nms):
    mask = reference.random_mask(np.random.default_rng(seed), 150)
    boxes = boundary_boxes(mask, nms=nms, seed=seed)
    h, w = mask.shape
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= max(w, 64)).all()
    assert (boxes[:, 3] <= max(h, 64)).all()
    assert (boxes[:, 2:] - boxes[:, :2] == 64).all()
    pixels, _ = boundary_pixels(mask)
    assert bool(len(boxes)) == bool(len(pixels))
    for x, y in pixels:
        # IoU above 0 with some box: closer than one side to its centre, on both axes.
        assert ((np.abs(boxes[:, 0] + 32 - x) < 64 + 32) & (np.abs(boxes[:, 1] + 32 - y) < 64 + 32)).any()


def test_the_seed_changes_the_boxes_and_threads_do_not():
    mask = cases()["ring"]
    assert not np.array_equal(boundary_boxes(mask, seed=1), boundary_boxes(mask, seed=2))
    alone = [boundary_boxes(mask, seed=s) for s in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda s: boundary_boxes(mask, seed=s), range(40)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("patch", v) for v in (0, 63, -64, 64.0, True, 4096, "64")],
        *[("nms", v) for v in (0, 1, -0.1, 1.5, float("nan"), True, "0.25", None)],
        *[("ties", v) for v in ("random", None)],
        *[("border", v) for v in ("clip", None)],
        *[("seed", v) for v in (-1, 2**32, 0.5, True)],
    ],
)
def test_options_out_of_range_name_themselves(option, value):
    with pytest.raises(OptionError) as caught:
        boundary_boxes(np.ones((10, 10), bool), **{option: value})
    assert caught.value.field == option
    assert option in str(caught.value)

"""Crops, votes and reassembly as PyTorch operations: the same as those of the patcher."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the GPU path needs PyTorch")

from maskmend.models.device_geometry import (  # noqa: E402
    Region,
    blend,
    cut_patches,
    known_pixels,
    pack,
    to_side,
    unpack,
    votes_of,
)
from maskmend.patcher import Rle, extract_patches, reassemble  # noqa: E402
from maskmend.patcher.field import fade  # noqa: E402
from maskmend.patcher.guard import hold  # noqa: E402
from maskmend.patcher.rle import region_bits  # noqa: E402

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")),
]


def scene(seed: int, height: int, width: int) -> tuple[np.ndarray, Rle]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    rows, columns = np.indices((height, width))
    y, x, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 0.7 * max(height, width))
    return image, Rle.from_dense((rows - y) ** 2 + (columns - x) ** 2 < r * r)


def squares(seed: int, count: int, side: int, height: int, width: int) -> np.ndarray:
    """Boxes in and partly out of the frame."""
    rng = np.random.default_rng(seed)
    corner = np.stack([rng.integers(-side, width, count), rng.integers(-side, height, count)], 1)
    return np.concatenate([corner, corner + side], 1).astype(np.int32)


def sent(mask: Rle, region: Region, device: str) -> torch.Tensor:
    bits = region_bits(mask, region.x, region.y, region.width, region.height)
    return unpack(torch.from_numpy(bits.view(np.int64)).to(device), region.height)


CASES = {
    "seed": st.integers(0, 2**31),
    "size": st.sampled_from([7, 16, 24, 31, 48]),
    "side": st.integers(1, 40),
    "padding": st.integers(0, 12),
    "frame": st.tuples(st.integers(3, 90), st.integers(3, 90)),
}


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_patches_are_the_same_bit_for_bit(
    device: str, seed: int, size: int, side: int, padding: int, frame: tuple[int, int]
) -> None:
    image, mask = scene(seed, *frame)
    boxes = squares(seed, 5, side, *frame)
    wanted = extract_patches(image, mask, boxes, size=size, padding=padding)
    region = Region(*mask.bbox)
    got = cut_patches(
        torch.from_numpy(image).to(device),
        sent(mask, region, device),
        region,
        torch.from_numpy(boxes.astype(np.int64)).to(device),
        side=side,
        size=size,
        padding=padding,
    )
    assert np.array_equal(got.cpu().numpy(), wanted)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 12),
    side=st.integers(1, 40),
    frame=st.tuples(st.integers(3, 90), st.integers(3, 90)),
    strength=st.sampled_from([None, 0.0, 0.1, 0.15, 0.5]),
)
def test_votes_and_masks_are_the_same_bit_for_bit(
    device: str, seed: int, count: int, side: int, frame: tuple[int, int], strength: float | None
) -> None:
    _, mask = scene(seed, *frame)
    boxes = squares(seed + 1, count, side, *frame)
    rng = np.random.default_rng(seed)
    # Halves and ends too: where a vote is a draw, the order of a sum would show.
    choices = np.concatenate([[0.0, 0.5, 1.0, 0.25, 0.75], rng.random(20)]).astype(np.float32)
    probabilities = rng.choice(choices, (count, side, side)).astype(np.float32)
    held = probabilities
    if strength is not None:
        known = np.stack([mask.crop(*box) for box in boxes.tolist()]).astype(np.float32) * 2 - 1
        held = hold(probabilities, known, strength)
    wanted_votes = fade(held)
    wanted = reassemble(mask, boxes, wanted_votes)
    region = Region(0, 0, frame[1], frame[0])
    there, dense = torch.from_numpy(boxes.astype(np.int64)).to(device), sent(mask, region, device)
    knows = None if strength is None else known_pixels(dense, region, there, side)
    votes = votes_of(torch.from_numpy(probabilities).to(device), knows, strength or 0.0)
    assert np.array_equal(votes.cpu().numpy(), wanted_votes)
    got = pack(blend(dense, region, there, votes)).cpu().numpy().view(np.uint64)
    assert np.array_equal(got, region_bits(wanted, *region))


def test_many_boxes_over_one_pixel_do_not_overflow() -> None:
    count, side = 3000, 4
    boxes = np.tile(np.array([[1, 1, 5, 5]], np.int32), (count, 1))
    mask = Rle.from_dense(np.zeros((8, 8), bool))
    for value in (0.0, 1.0, 0.5 + 2e-6, 0.5 - 2e-6):
        probabilities = np.full((count, side, side), value, np.float32)
        region = Region(0, 0, 8, 8)
        got = blend(
            sent(mask, region, "cpu"), region, torch.from_numpy(boxes.astype(np.int64)), torch.from_numpy(probabilities)
        )
        assert np.array_equal(got.numpy(), reassemble(mask, boxes, probabilities).to_dense())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 200), width=st.integers(1, 40))
def test_bit_columns_there_and_back(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    bits = region_bits(Rle.from_dense(mask), 0, 0, width, height)
    dense = unpack(torch.from_numpy(bits.view(np.int64)), height)
    assert np.array_equal(dense.numpy(), mask)
    assert np.array_equal(pack(dense != 0).numpy().view(np.uint64), bits)


def test_probabilities_of_another_size_are_resized_as_the_engine_does() -> None:
    from maskmend.service.proposal import to_side as on_the_cpu

    probabilities = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
    for side in (28, 13, 61):
        got = to_side(torch.from_numpy(probabilities), side).numpy()
        assert np.abs(got - on_the_cpu(probabilities, side)).max() < 4e-6

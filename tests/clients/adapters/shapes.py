"""Masks to put into the objects of libraries."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from maskmend.patcher import Rle, as_rle
from maskmend.patcher.polygons import polygons_to_rle


@st.composite
def stacks(draw: st.DrawFn, least: int = 0) -> np.ndarray:
    """Bool [N, H, W], blocks and noise, sometimes an empty mask."""
    count = draw(st.integers(least, 4))
    height, width = draw(st.integers(3, 24)), draw(st.integers(3, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = np.zeros((count, height, width), bool)
    for mask in out:
        if draw(st.booleans()):
            y, x = rng.integers(0, height), rng.integers(0, width)
            mask[y : y + 9, x : x + 9] = True
        mask ^= rng.random(mask.shape) < draw(st.sampled_from([0, 0.1]))
    return out


def others(stack: np.ndarray) -> list[dict]:
    """Refined masks for a stack: each moved by a pixel, the last one empty."""
    moved = np.roll(stack, (1, 1), (1, 2))
    if len(moved):
        moved[-1] = False
    return [Rle.from_dense(mask).to_coco() for mask in moved]


def read(masks: object, height: int, width: int) -> np.ndarray:
    """What `masks_of` gave, as bool [N, H, W]."""
    dense = [as_rle(mask, height=height, width=width).to_dense() for mask in masks]
    return np.stack(dense) if dense else np.zeros((0, height, width), bool)


def dense(rles: list[dict], height: int, width: int) -> np.ndarray:
    """COCO RLEs as bool [N, H, W]."""
    return read(rles, height, width)


def box(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def polygon(mask: list, height: int, width: int) -> np.ndarray:
    """Polygons of a mask, rasterised; none is an empty mask."""
    return polygons_to_rle(mask, height, width).to_dense() if mask else np.zeros((height, width), bool)

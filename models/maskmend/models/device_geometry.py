"""The geometry of patches as PyTorch operations, on whatever device their tensors are.

Each function repeats one of `maskmend.patcher` in the same order of float32 operations: on a CPU patches and votes come out
equal bit for bit, which the tests check. Masks are bit columns (see `maskmend.patcher._bits`) on the way in and out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maskmend.patcher.crops import MEAN, STD
from maskmend.patcher.field import window

_HALF_BITS = 54
"""Votes are added as integers of 2**-54: any float32 from 0 to 1, less one half in float64, is a multiple of that."""


class Region(NamedTuple):
    """A rectangle of the frame: first column and row, width and height in px."""

    x: int
    y: int
    width: int
    height: int


def unpack(bits: Tensor, height: int) -> Tensor:
    """Bit columns int64 [w, words] as a dense mask, uint8 [height, w]."""
    places = torch.arange(64, device=bits.device)
    dense = (bits.unsqueeze(2) >> places) & 1
    return dense.reshape(bits.shape[0], -1)[:, :height].to(torch.uint8).t()


def pack(mask: Tensor) -> Tensor:
    """A dense mask, bool [h, w], as bit columns int64 [w, words]; the reverse of `unpack`."""
    height, width = mask.shape
    columns = functional.pad(mask.t().to(torch.int64), (0, -height % 64)).reshape(width, -1, 64)
    return (columns << torch.arange(64, device=mask.device)).sum(2)


def cut_patches(
    image: Tensor, mask: Tensor, region: Region, boxes: Tensor, *, side: int, size: int, padding: int
) -> Tensor:
    """As `maskmend.patcher.extract_patches`: crop, resize, normalise.

    Args:
        image: uint8 [H, W, 3], RGB.
        mask: uint8 [h, w], 0 or 1: `region` of the mask, which is background elsewhere.
        region: of the frame.
        boxes: int64 [N, 4] (x0, y0, x1, y1) in px, squares of side `side`.
        side: of the boxes in px.
        size: of a patch in the result.
        padding: context around each box in px.

    Returns:
        float32 [N, 4, size, size].
    """
    height, width = image.shape[:2]
    whole = side + 2 * padding
    x0, y0 = boxes[:, 0:1] - padding, boxes[:, 1:2] - padding
    near, far, part = _taps(whole, size, image.device)
    scale, shift = _colours(image.device)
    every = torch.arange(whole, device=image.device)
    rows = (y0 + every).clamp(0, height - 1)
    if size == whole:
        columns = (x0 + every).clamp(0, width - 1)
        colours = image[rows[:, :, None], columns[:, None, :]].float() * scale + shift
        picture = colours.permute(0, 3, 1, 2)
    else:
        left = image[rows[:, :, None], (x0 + near).clamp(0, width - 1)[:, None, :]].float()
        right = image[rows[:, :, None], (x0 + far).clamp(0, width - 1)[:, None, :]].float()
        lines = ((left + (right - left) * part[:, None]) * scale + shift).permute(0, 3, 1, 2)
        upper, lower = lines[:, :, near], lines[:, :, far]
        picture = upper + (lower - upper) * part[:, None]
    nearest = torch.arange(size, device=image.device) * whole // size
    inside = _read(mask, region, x0 + nearest, y0 + nearest)
    return torch.cat([picture, inside.unsqueeze(1)], 1)


def known_pixels(mask: Tensor, region: Region, boxes: Tensor, side: int) -> Tensor:
    """The mask in the boxes as -1 and +1, float32 [N, side, side]."""
    every = torch.arange(side, device=boxes.device)
    return _read(mask, region, boxes[:, 0:1] + every, boxes[:, 1:2] + every)


def _read(mask: Tensor, region: Region, columns: Tensor, rows: Tensor) -> Tensor:
    """Pixels at columns [N, S] and rows [N, S] of the frame as -1 and +1, float32 [N, S, S]."""
    x, y = columns - region.x, rows - region.y
    there = ((y >= 0) & (y < region.height))[:, :, None] & ((x >= 0) & (x < region.width))[:, None, :]
    if not mask.numel():
        return torch.full(there.shape, -1.0, device=mask.device)
    found = mask[y.clamp(0, region.height - 1)[:, :, None], x.clamp(0, region.width - 1)[:, None, :]]
    return (found * there).float() * 2 - 1


def to_side(probabilities: Tensor, side: int) -> Tensor:
    """Probabilities, float32 [N, P, P], at the size of their boxes, resized bilinearly where it differs."""
    if probabilities.shape[-1] == side:
        return probabilities
    return functional.interpolate(
        probabilities.unsqueeze(1), size=(side, side), mode="bilinear", align_corners=False
    ).squeeze(1)


def votes_of(probabilities: Tensor, known: Tensor | None, strength: float) -> Tensor:
    """What is averaged: as `maskmend.patcher.guard.hold`, unless `known` is None, and then `maskmend.patcher.field.fade`.

    Args:
        probabilities: float32 [N, P, P], foreground.
        known: from `known_pixels`; None where nothing is held back.
        strength: of the hold.
    """
    # Constants as tensors: PyTorch multiplies by the inverse where it is to divide by a plain number.
    half, force, spread = torch.tensor([0.5, strength, 1 + 2 * strength], device=probabilities.device).unbind()
    if known is not None:
        probabilities = ((probabilities - half + force * known) / spread + half).clamp(0.0, 1.0)
    weights = _window(probabilities.shape[-1], probabilities.device)
    return (probabilities - half) * weights + half


def blend(mask: Tensor, region: Region, boxes: Tensor, votes: Tensor) -> Tensor:
    """As `maskmend.patcher.reassemble`: bool [h, w], the region after the vote of its patches.

    Votes are added as integers, so that the sum is exact and its order does not matter, which it would with floating
    point on a GPU. It can differ from the CPU's only where a sum lies within rounding (1e-15) of zero.

    Args:
        mask: uint8 [h, w], 0 or 1: the coarse mask in `region`.
        region: of the frame, which holds the object and all of the boxes that lies in the frame.
        boxes: int64 [N, 4] in px, squares of side P.
        votes: float32 [N, P, P] from `votes_of`.
    """
    count, side = votes.shape[:2]
    area = region.height * region.width
    # So many boxes over one pixel must not overflow 63 bits.
    unit = 2.0 ** (_HALF_BITS - max(0, count.bit_length() - 9))
    every = torch.arange(side, device=boxes.device)
    x, y = boxes[:, 0:1] + every - region.x, boxes[:, 1:2] + every - region.y
    there = ((y >= 0) & (y < region.height))[:, :, None] & ((x >= 0) & (x < region.width))[:, None, :]
    places = torch.where(there, y[:, :, None] * region.width + x[:, None, :], area).reshape(-1)
    sums = torch.zeros(area + 1, dtype=torch.int64, device=boxes.device)
    sums.index_add_(0, places, ((votes.double() - 0.5) * unit).to(torch.int64).reshape(-1))
    covered = torch.zeros(area + 1, dtype=torch.bool, device=boxes.device)
    covered[places] = True
    shape = (region.height, region.width)
    return torch.where(covered[:area].reshape(shape), (sums[:area] > 0).reshape(shape), mask != 0)


@lru_cache(maxsize=64)
def _taps(side: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear taps with half-pixel centres, as `maskmend.patcher._crop` has them."""
    at = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0.0, side - 1.0)
    near = at.astype(np.int64)
    far = np.minimum(near + 1, side - 1)
    part = (at - near).astype(np.float32)
    return torch.from_numpy(near).to(device), torch.from_numpy(far).to(device), torch.from_numpy(part).to(device)


@lru_cache(maxsize=8)
def _colours(device: torch.device) -> tuple[Tensor, Tensor]:
    scale = (1.0 / np.array(STD)).astype(np.float32)
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)
    return torch.from_numpy(scale).to(device), torch.from_numpy(shift).to(device)


@lru_cache(maxsize=16)
def _window(side: int, device: torch.device) -> Tensor:
    return torch.from_numpy(window(side)).to(device)

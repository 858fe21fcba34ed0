"""Incoherent regions: cells in which a mask of half the size loses something (Mask Transfiner, Ke et al., CVPR 2022)."""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import MaskError, OptionError
from maskmend.patcher.rle import dense_pixels, is_whole

MAX_LEVELS: Final = 12
MAX_SIDE: Final = 2**MAX_LEVELS

LOST: Final = 0.01
"""Mean residual from which the bilinear rules call a cell incoherent."""
MARKED: Final = 0.05
"""Value from which a cell of a sampled map counts."""

Rule = Literal["nearest", "bilinear", "sampled"]
Upsampling = Literal["nearest", "bilinear"]


def incoherent_maps(
    mask: NDArray[np.generic], levels: int = 3, *, rule: Rule = "nearest", dilation: int = 0
) -> list[NDArray[np.bool_]]:
    """Incoherent cells of a square mask at each level of its pyramid.

    Level 0 has cells of 2x2 px of the mask, each further level cells of 2x2 of the one before. The mask itself gets
    smaller by the top-left pixel of each 2x2 block, so it stays binary.

    Args:
        mask: bool or uint8 [S, S]; every value but 0 is foreground. S is a multiple of 2**`levels`, at most 4096.
        levels: how many maps, 1 to 12.
        rule: ``"nearest"`` is the paper's Eq. 1: the mask at half the size and back by nearest neighbour, XOR with what
            it was, OR over each 2x2 block; that is, the block is not all of one value. ``"bilinear"`` is that of the
            official code at each level: halved and doubled bilinearly, the absolute residual averaged over each
            block, 0.01 or more. ``"sampled"`` finds the map so at level 0 alone; the others are its means over their
            cells, 0.05 or more.
        dilation: how many cells every map is dilated by, in the 8 directions, 0 to S; 0 leaves it.

    Returns:
        bool [S/2, S/2], [S/4, S/4], ...: fine to coarse. `quadtree` wants them the other way round.

    Raises:
        MaskError: the mask is no such array.
        OptionError: an option is outside its range.
    """
    if not is_whole(levels) or not 1 <= levels <= MAX_LEVELS:
        raise OptionError(f"levels must be an integer from 1 to {MAX_LEVELS}", field="levels")
    if rule not in ("nearest", "bilinear", "sampled"):
        raise OptionError("rule must be 'nearest', 'bilinear' or 'sampled'", field="rule")
    if not isinstance(mask, np.ndarray):
        raise MaskError(f"mask is {type(mask).__name__}; send bool or uint8 [S, S]", field="mask")
    pixels = dense_pixels(mask, "mask") != 0
    height, side = pixels.shape
    if height != side or side % 2**levels or side > MAX_SIDE:
        wanted = f"send a square with a side of a multiple of {2**levels} px, at most {MAX_SIDE}"
        raise MaskError(f"mask is {height} x {side}; {wanted}", field="mask")
    if not is_whole(dilation) or not 0 <= dilation <= side:
        raise OptionError("dilation must be an integer from 0 to the side of the mask", field="dilation")
    if rule == "sampled":
        maps = _sampled(pixels, levels)
    else:
        maps = []
        for _ in range(levels):
            maps.append(_mixed(pixels) if rule == "nearest" else _residual(pixels) >= LOST)
            pixels = pixels[::2, ::2]
    return [_dilated(cells, int(dilation)) for cells in maps] if dilation else maps


def doubled(values: NDArray[np.float32], upsampling: Upsampling) -> NDArray[np.float32]:
    """A map at twice the size.

    Args:
        values: float32 [H, W].
        upsampling: ``"nearest"`` repeats each value. ``"bilinear"`` has half-pixel centres (`align_corners` False) and
            repeats the border.

    Returns:
        float32 [2 * H, 2 * W].
    """
    if upsampling == "nearest":
        return values.repeat(2, 0).repeat(2, 1)
    return _between(_between(values.T).T)


def _between(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Twice the rows, interpolated."""
    near, far = np.float32(0.75), np.float32(0.25)
    out = np.empty((2 * len(values), values.shape[1]), np.float32)
    out[0], out[-1] = values[0], values[-1]
    out[2::2] = far * values[:-1] + near * values[1:]
    out[1:-1:2] = near * values[:-1] + far * values[1:]
    return out


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2x2 blocks, which is what bilinear interpolation at half the size comes to."""
    rows = values[::2] + values[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def _mixed(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # The pixel that nearest neighbour keeps against the three that it loses.
    kept = pixels[::2, ::2]
    lost: NDArray[np.bool_] = (kept ^ pixels[::2, 1::2]) | (kept ^ pixels[1::2, ::2]) | (kept ^ pixels[1::2, 1::2])
    return lost


def _residual(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    # Every number here is a multiple of 1/256, at most 1: float32 holds it exactly, so no threshold hangs on rounding.
    values = pixels.astype(np.float32)
    return _halved(np.abs(values - doubled(_halved(values), "bilinear")))


def _sampled(pixels: NDArray[np.bool_], levels: int) -> list[NDArray[np.bool_]]:
    values = _residual(pixels)
    # Residuals below the threshold are kept, not cleared: so the code does it, and it samples them too.
    values[values >= LOST] = 1.0
    maps = [values >= MARKED]
    for _ in range(levels - 1):
        values = _halved(values)
        maps.append(values >= MARKED)
    return maps


def _dilated(cells: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    # A square is two lines, and more than the map's side changes nothing.
    reach = 2 * min(by, len(cells)) + 1
    grown = cv2.dilate(cells.view(np.uint8), np.ones((reach, 1), np.uint8))
    return np.asarray(cv2.dilate(grown, np.ones((1, reach), np.uint8)), np.uint8).view(np.bool_)

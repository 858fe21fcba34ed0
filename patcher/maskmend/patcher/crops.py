"""Patches of an image and a coarse mask, as a network takes them (BPR, section 3.2)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _crop
from maskmend.patcher._blend import survey
from maskmend.patcher.errors import ImageError, OptionError
from maskmend.patcher.rle import as_rle, is_whole, region_bits

MEAN: Final = (123.675, 116.28, 103.53)
"""ImageNet mean of R, G and B, in grey levels."""
STD: Final = (58.395, 57.12, 57.375)
"""ImageNet standard deviation of R, G and B, in grey levels."""
MAX_SIZE: Final = 2048

FARTHEST: Final = 2**20
"""Farthest that a box may lie from the frame's origin, in px."""

_FAR: Final = "boxes lie more than 2**20 px from the origin; give px of the image"
_SCALE = (1.0 / np.array(STD)).astype(np.float32)
_SHIFT = (-np.array(MEAN) / np.array(STD)).astype(np.float32)


def extract_patches(
    image: NDArray[np.uint8],
    mask: object,
    boxes: NDArray[Any],
    *,
    size: int = 128,
    padding: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Cut, resize and normalise one patch per box.

    The image is resized bilinearly with half-pixel centres (as cv2.INTER_LINEAR, in float32) within the crop, the mask
    by nearest neighbour. Outside the frame the image repeats its border pixels and the mask is background.

    Args:
        image: uint8 [H, W, 3], RGB.
        mask: any mask that `as_rle` reads, of the image's size.
        boxes: integers [N, 4] (x0, y0, x1, y1) in px, squares of one size.
        size: side of a patch in the result, 1 to 2048 px.
        padding: context around each box in px, 0 to 512; the crop is box + 2 * padding before the resize.
        out: where to write the result, C-ordered float32 [N, 4, size, size]; a new array when not given. Memory that is
            used again and again costs less than new memory, and patches are the most of it that an image takes.

    Returns:
        float32 [N, 4, size, size]: R, G, B minus `MEAN` over `STD`, then the mask as -1 (background) and +1.

    Raises:
        ImageError: `image` is not uint8 [H, W, 3].
        MaskError: the mask cannot be read, or is not of the image's size.
        OptionError: boxes, `size` or `padding` are outside their range, or `out` is not such an array.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError("image must be an array uint8 [H, W, 3], RGB", field="image")
    if not is_whole(size) or not 1 <= size <= MAX_SIZE:
        raise OptionError(f"size is {size!r}; use an integer from 1 to {MAX_SIZE}", field="size")
    if not is_whole(padding) or not 0 <= padding <= 512:
        raise OptionError(f"padding is {padding!r}; use an integer from 0 to 512", field="padding")
    rle = as_rle(mask, height=image.shape[0], width=image.shape[1])
    squares = check_boxes(boxes).boxes
    wanted = (len(squares), 4, int(size), int(size))
    if out is None:
        out = np.empty(wanted, np.float32)
    elif out.shape != wanted or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise OptionError(
            f"out is {out.dtype} {out.shape}; give a writeable C-ordered float32 array of shape {wanted}", field="out"
        )
    if len(squares):
        x, y, width, height = rle.bbox
        bits = region_bits(rle, x, y, width, height)
        _crop.cut(np.ascontiguousarray(image), bits, x, y, height, squares, int(padding), _SCALE, _SHIFT, out)
    return out


class Squares(NamedTuple):
    """Checked boxes: C-ordered int32 [N, 4], their side in px (0 when there are none), the rectangle around them."""

    boxes: NDArray[np.int32]
    side: int
    left: int
    top: int
    right: int
    bottom: int


def check_boxes(boxes: NDArray[Any]) -> Squares:
    """Check boxes.

    Raises:
        OptionError: not integers [N, 4], not squares of one size, or more than 2**20 px from the frame's origin.
    """
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or (boxes.size and boxes.dtype.kind not in "iu"):
        raise OptionError("boxes must be integers [N, 4]: x0, y0, x1, y1", field="boxes")
    if not len(boxes):
        return Squares(np.zeros((0, 4), np.int32), 0, 0, 0, 0, 0)
    if boxes.dtype != np.int32 and (boxes.min() < -FARTHEST or boxes.max() > FARTHEST):
        raise OptionError(_FAR, field="boxes")
    squares = np.ascontiguousarray(boxes, dtype=np.int32)
    alike, left, top, right, bottom = survey(squares)
    if min(left, top) < -FARTHEST or max(right, bottom) > FARTHEST:
        raise OptionError(_FAR, field="boxes")
    side = int(squares[0, 2]) - int(squares[0, 0])
    if not alike or not 1 <= side <= MAX_SIZE:
        raise OptionError(f"boxes must be squares of one size, 1 to {MAX_SIZE} px", field="boxes")
    return Squares(squares, side, int(left), int(top), int(right), int(bottom))

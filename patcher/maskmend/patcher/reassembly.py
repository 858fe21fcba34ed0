"""From the probabilities of patches back to a mask (BPR, section 3.3)."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _bits, _blend
from maskmend.patcher.crops import Squares, check_boxes
from maskmend.patcher.errors import OptionError
from maskmend.patcher.rle import Rle, as_rle, region_bits, rle_of_runs

EPSILON: Final = _blend.EPSILON
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""

Mask = TypeVar("Mask")


def reassemble(
    mask: Mask,
    boxes: NDArray[Any],
    probabilities: NDArray[np.floating[Any]],
    *,
    mean: Literal["probability", "logit"] = "probability",
) -> Mask:
    """Refined mask from the foreground probabilities of its patches.

    Where boxes overlap, their probabilities (as the official code) or logits (as the paper) are averaged in float64, in
    the order of the boxes. A pixel is foreground if the mean probability is strictly above 0.5, or the mean logit
    strictly above 0. Pixels that no box covers keep the coarse value; what lies outside the frame is ignored.

    Args:
        mask: the coarse mask: `Rle`, bool or uint8 [H, W], or COCO RLE.
        boxes: integers [N, 4] (x0, y0, x1, y1) in px, squares of side P.
        probabilities: floats [N, P, P] from 0 to 1.
        mean: ``"probability"``, or ``"logit"``: probabilities are clipped to 1e-6 and 1 - 1e-6 first.

    Returns:
        A mask of the kind that `mask` is: `Rle`, bool [H, W], or COCO RLE with compressed counts.

    Raises:
        MaskError: the mask cannot be read.
        OptionError: boxes are no squares of one size, probabilities do not fit them, or one is NaN or outside 0 to 1.
    """
    if mean not in ("probability", "logit"):
        raise OptionError(f"mean is {mean!r}; use 'probability' or 'logit'", field="mean")
    squares = check_boxes(boxes)
    values = _checked(probabilities, len(squares.boxes), squares.side)
    rle = as_rle(mask)
    x0, y0, x1, y1 = _region(rle, squares)
    touched = len(squares.boxes) > 0 and x0 < x1 and y0 < y1
    if touched:
        bits = region_bits(rle, x0, y0, x1 - x0, y1 - y0)
        _blend.blend(bits, x0, y0, y1 - y0, squares.boxes, values, mean == "logit")
    if isinstance(mask, np.ndarray):
        dense = np.asarray(mask) != 0
        if touched:
            _bits.undraw(bits, dense.view(np.uint8), x0, y0, y1 - y0)
        return cast("Mask", dense)
    if touched:
        rle = rle_of_runs(rle.height, rle.width, _bits.read_runs(bits, rle.height, rle.width, x0, y0, y1 - y0))
    return cast("Mask", rle if isinstance(mask, Rle) else rle.to_coco())


def _region(rle: Rle, squares: Squares) -> tuple[int, int, int, int]:
    """What can hold foreground afterwards: the object and the boxes, within the frame."""
    x, y, w, h = rle.bbox
    x0, y0, x1, y1 = squares.left, squares.top, squares.right, squares.bottom
    if w:
        x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x + w), max(y1, y + h)
    return max(x0, 0), max(y0, 0), min(x1, rle.width), min(y1, rle.height)


def _checked(probabilities: NDArray[np.floating[Any]], count: int, side: int) -> NDArray[np.float32]:
    values = np.asarray(probabilities)
    if values.dtype.kind != "f" or values.ndim != 3 or len(values) != count:
        raise OptionError(f"probabilities must be floats [{count}, P, P], one per box", field="probabilities")
    if not count:
        return np.zeros((0, 1, 1), np.float32)
    if values.shape[1:] != (side, side):
        shown = " x ".join(map(str, values.shape[1:]))
        raise OptionError(f"probabilities are {shown} px but boxes are {side} x {side} px", field="probabilities")
    # A NaN makes both comparisons fail.
    if not (values.min() >= 0.0 and values.max() <= 1.0):
        raise OptionError("probabilities hold NaN or a value outside 0 to 1; check the weights", field="probabilities")
    return np.ascontiguousarray(values, dtype=np.float32)

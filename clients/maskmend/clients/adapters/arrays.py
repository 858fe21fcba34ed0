"""Masks as NumPy arrays or tensors, and the boxes around them.

A tensor is known by what it can do (`detach`, `cpu`, `numpy`, `new_tensor`): no library needs to be imported for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor like torch's."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy", "new_tensor"))


def is_array(value: Any) -> bool:
    """Whether a value is a NumPy array or a tensor."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def array_of(value: Any) -> NDArray[Any]:
    """A NumPy array [...] of an array or a tensor, wherever it lies and whether or not it takes part in a gradient.

    Shape and dtype stay as they are; bfloat16, which NumPy does not have, becomes float32.
    """
    if not is_tensor(value):
        return np.asarray(value)
    tensor = value.detach().cpu()
    # NumPy has no bfloat16; nothing is lost in float32.
    return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())


def array_like(array: NDArray[Any], original: Any) -> Any:
    """The values of an array of any shape [...], bool or numbers, with the dtype of another one and on its device."""
    return original.new_tensor(array) if is_tensor(original) else array.astype(original.dtype)


def binary(mask: NDArray[Any], field: str) -> NDArray[Any]:
    """A mask [H, W], or masks [N, H, W], of bool or whole numbers as they came; of floats cut at 0.5, as bool.

    Raises:
        MaskError: floats outside 0 to 1, or whole numbers of more than two values.
    """
    if mask.dtype.kind not in "fiu" or not mask.size:
        return mask
    if mask.dtype.kind != "f":
        # What is neither the largest nor the smallest is a third value.
        if ((mask != mask.max()) & (mask != mask.min())).any():
            raise MaskError(
                f"{field} holds more than two values, as a map of labels does; give one mask for each: "
                "[labels == value for value in np.unique(labels) if value]",
                field=field,
            )
        return mask
    # NaN fails this comparison too.
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise MaskError(
            f"{field} holds numbers outside 0 to 1; give probabilities, or bool where logits > 0", field=field
        )
    return np.asarray(mask > 0.5)


def masks(value: Any) -> Sequence[NDArray[Any]]:
    """The masks of a stack, each [H, W].

    Args:
        value: array or tensor, [N, H, W], [N, 1, H, W] or [H, W]; bool, uint8, or floats of 0 to 1, which are cut at 0.5.

    Raises:
        MaskError: another shape, floats outside 0 to 1, or whole numbers of more than two values in a mask.
    """
    array = array_of(value)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (2, 3):
        raise MaskError(f"masks have shape {array.shape}; give [N, H, W] or [H, W]", field="masks")
    stack = array[None] if array.ndim == 2 else array
    return [binary(mask, f"masks[{number}]") for number, mask in enumerate(stack)]


def like(original: Any, rles: Sequence[Rle]) -> Any:
    """Masks in the form of a stack: its shape, dtype and device. Foreground of uint8 is its largest value, else 1."""
    shape = original.shape
    one = len(shape) == 2
    checked(rles, 1 if one else int(shape[0]), int(shape[-2]), int(shape[-1]))
    array = stacked(rles, int(shape[-2]), int(shape[-1]))
    if str(original.dtype).endswith("uint8"):
        # One mask after the other: a comparison of the whole stack would be as large as the stack.
        array *= max((int(mask.max()) for mask in masks(original) if mask.size), default=1) or 1
    return array_like((array[0] if one else array).reshape(shape), original)


def stacked(rles: Sequence[Rle], height: int, width: int) -> NDArray[np.uint8]:
    """Masks as 0 and 1, uint8 [N, H, W]."""
    out = np.zeros((len(rles), height, width), np.uint8)
    for number, rle in enumerate(rles):
        out[number] = rle.crop(0, 0, width, height)
    return out


def checked(rles: Sequence[Rle], count: int, height: int, width: int) -> None:
    """See that masks fit the object that they are to be put into.

    Raises:
        MaskError: another number of masks, or one of another size.
    """
    numbered(rles, count)
    if count:
        check_size(height, width, "size")
    for number, rle in enumerate(rles):
        if (rle.height, rle.width) != (height, width):
            field = f"rles[{number}]"
            raise MaskError(
                f"{field} is {rle.height} x {rle.width} but the original is {height} x {width}", field=field
            )


def numbered(rles: Sequence[Rle], count: int) -> None:
    """See that there is one mask per instance.

    Raises:
        MaskError: there is another number.
    """
    if len(rles) != count:
        raise MaskError(f"there are {len(rles)} masks for {count} instances; give one each, in order", field="rles")


def corners(rles: Sequence[Rle], before: Any) -> Any:
    """Boxes around masks, in the form of the boxes from before.

    Args:
        rles: masks.
        before: array or tensor [N, 4 or more]: x0, y0, x1, y1 in px, and columns that are kept.

    Returns:
        The same with the corners of the smallest boxes that hold all pixels, so that x1 - x0 is the width; where a mask is
        empty, the box that was there.
    """
    rows = np.array(array_of(before))
    for row, rle in zip(rows, rles, strict=True):
        x, y, width, height = rle.bbox
        if width:
            row[:4] = (x, y, x + width, y + height)
    return array_like(rows, before)

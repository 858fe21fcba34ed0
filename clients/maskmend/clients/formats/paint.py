"""Pictures with one instance per pixel: masks painted into them, and what becomes of pixels that two want, or none."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.clients.formats.base import Instance, OverlapPolicy, Picture, Policies
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError

Values = NDArray[np.int32]
"""int32 [H, W], a number for each pixel: whose it is."""


@dataclass(frozen=True, slots=True)
class Repainted:
    """A picture with new masks in it.

    Attributes:
        values: as they are now.
        vacated: bool [H, W], pixels that an instance left and no other took.
        nearest: int64 [number of vacated pixels], in row-major order: which pixel of the old picture each became like,
            counted row by row; -1 where there was none to become like.
    """

    values: Values
    vacated: NDArray[np.bool_]
    nearest: NDArray[np.int64]


def owners(masks: Sequence[Rle], height: int, width: int, policy: OverlapPolicy, where: str) -> Values:
    """Which mask has each pixel.

    Args:
        masks: all of one image, of its size.
        height: of the image in px.
        width: of the image in px.
        policy: see `Policies.overlaps`; of the smallest masks that are equally small the first takes the pixel.
        where: name of the image, for the message.

    Returns:
        int32 [H, W], the number of a mask from 0, or -1.

    Raises:
        JobError: two masks share pixels, and the policy calls that an error.
    """
    canvas = np.full((height, width), -1, np.int32)
    shared = 0
    for number in _painting_order(masks, policy):
        x, y, w, h = masks[number].bbox
        view = canvas[y : y + h, x : x + w]
        own = masks[number].crop(x, y, x + w, y + h) > 0
        if policy == "error":
            shared += int(np.count_nonzero(view[own] >= 0))
        view[own] = number
    if shared:
        raise JobError(
            f"{where[:100]}: instances share {shared} px, and this format holds one instance per pixel; say with "
            "--overlaps which of them takes such a pixel: first, last or smallest",
            field="overlaps",
        )
    return canvas


def _painting_order(masks: Sequence[Rle], policy: OverlapPolicy) -> list[int]:
    """What is painted last is on top."""
    numbers = list(range(len(masks)))
    if policy == "first":
        return numbers[::-1]
    if policy == "smallest":
        return sorted(numbers, key=lambda n: (-masks[n].area, -n))
    return numbers


def separated(picture: Picture, policies: Policies) -> Picture:
    """An image whose instances share no pixel. An instance of which nothing is left has an empty mask.

    Raises:
        JobError: see `owners`.
    """
    masks = [mask for _, mask in picture.instances]
    canvas = owners(masks, picture.height, picture.width, policies.overlaps, picture.name)
    apart: list[tuple[Instance, Rle]] = []
    for number, (instance, mask) in enumerate(picture.instances):
        x, y, w, h = mask.bbox
        left = canvas[y : y + h, x : x + w] == number
        apart.append((instance, Rle.from_crop(left, picture.height, picture.width, x, y)))
    return replace(picture, instances=apart)


def painted(picture: Picture, policies: Policies) -> Values:
    """Values from 1 on for the instances of an image, in order; 0 elsewhere.

    Raises:
        JobError: see `owners`, or nothing is left of an instance.
    """
    masks = [mask for _, mask in picture.instances]
    canvas = owners(masks, picture.height, picture.width, policies.overlaps, picture.name) + 1
    left = np.bincount(canvas.ravel(), minlength=len(masks) + 1)[1:]
    if not left.all():
        number = int(np.argmin(left))
        raise JobError(
            f"{picture.name[:100]}: nothing of instance {number} is left beside the others; leave it out, or choose "
            "another way with --overlaps",
            field="overlaps",
        )
    return np.asarray(canvas, np.int32)


def repaint(
    values: Values,
    things: Sequence[int],
    changed: Mapping[int, Rle],
    *,
    fixed: Collection[int],
    policy: OverlapPolicy,
    where: str,
) -> Repainted:
    """Put new masks in the place of old ones, so that every pixel still has one value.

    A thing takes its pixels from whatever is no thing. What it leaves becomes like the nearest pixel that belongs to no
    thing and no fixed segment: background, stuff, or void. Another thing never gets it, since its own mask says no. A
    segment that nothing would be left of keeps all that it had, so that no record is without pixels.

    Args:
        values: the picture.
        things: values of the instances, in order.
        changed: their new masks, of the picture's size.
        fixed: values of segments that neither gain nor lose: crowds.
        policy: for pixels that two things want, of which at least one is changed.
        where: name of the image, for the message.

    Raises:
        JobError: see `owners`.
    """
    masks = [changed[value] if value in changed else Rle.from_dense(values == value) for value in things]
    canvas = owners(masks, values.shape[0], values.shape[1], policy, where)
    taken = canvas >= 0
    numbers = np.array([*things, 0], np.int32)
    held = np.isin(values, list(fixed))
    vacated = np.isin(values, list(changed)) & ~taken
    present = set(np.unique(values).tolist()) - {0}
    while True:
        new = np.where(taken, numbers[canvas], values)
        new[held] = values[held]
        empty = vacated & ~held
        nearest = _fill(new, values, empty, [*things, *fixed])
        lost = present - set(np.unique(new).tolist())
        if not lost:
            return Repainted(np.asarray(new, np.int32), empty, nearest)
        held |= np.isin(values, list(lost))


def _fill(new: NDArray[Any], values: Values, empty: NDArray[np.bool_], barred: list[int]) -> NDArray[np.int64]:
    """Give each empty pixel the value of the nearest one that may give it; which ones those are."""
    count = int(np.count_nonzero(empty))
    if not count:
        return np.empty(0, np.int64)
    givers = ~np.isin(new, barred) & ~empty
    if not givers.any():
        new[empty] = 0
        return np.full(count, -1, np.int64)
    _, labels = cv2.distanceTransformWithLabels(
        np.asarray(~givers, np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros(int(labels.max()) + 1, np.int64)
    places[labels[givers]] = np.flatnonzero(givers)
    nearest = places[labels[empty]]
    new[empty] = values.ravel()[nearest]
    return np.asarray(nearest, np.int64)


def resized(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """A picture of values, integers [H, W], in another size: each pixel as the one its middle falls on."""
    if values.shape == (height, width):
        return values
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.int64)
    return np.ascontiguousarray(values[rows][:, columns])


def check_size(mask: Rle, shape: tuple[int, ...], policies: Policies) -> None:
    """See that a mask can be painted into a picture of that shape.

    Raises:
        MaskError: the sizes differ, and the policy is not to resize.
    """
    if shape != (mask.height, mask.width) and policies.size_mismatch == "error":
        raise MaskError(
            f"the mask is {mask.width}x{mask.height} px but the PNG is {shape[1]}x{shape[0]} px (width x height); "
            "--size-mismatch resize brings it to that size",
            field="size",
        )

"""From what a request brought to an image and its coarse masks, limits first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.images import ExifPolicy, load_image
from maskmend.patcher.mask_images import read_index_mask, read_mask
from maskmend.service.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class MaskFile:
    """One mask as an encoded image; whatever is not black is foreground."""

    data: bytes


@dataclass(frozen=True, slots=True)
class IndexMask:
    """All masks as one encoded image of indices; 0 is no instance."""

    data: bytes


MOST_RUNS = 8_000_000
"""Of all masks of a request together."""
Masks = Sequence[object] | IndexMask


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a request may bring.

    Attributes:
        max_pixels: of the image.
        max_instances: masks of one image.
    """

    max_pixels: int = 64_000_000
    max_instances: int = 1000


def read_image(source: bytes | NDArray[np.uint8], policy: ExifPolicy, limits: InputLimits) -> NDArray[np.uint8]:
    """Decode the image of a request.

    Raises:
        ImageError: see `load_image`.
    """
    return load_image(source, exif_policy=policy, max_pixels=limits.max_pixels)


def read_masks(
    masks: Masks, height: int, width: int, limits: InputLimits, check: Callable[[], None] = lambda: None
) -> list[Rle]:
    """Read the masks of a request: `Rle`, COCO RLE, polygons, COCO records, `MaskFile`, arrays; or one `IndexMask`.

    `check` is called before each mask, and may raise.

    Raises:
        InvalidRequestError: there are none, or too many.
        MaskError: one of them cannot be read, or is of another size than the image.
    """
    if isinstance(masks, IndexMask):
        found: list[Rle] = []
        options = {"most": limits.max_instances, "max_pixels": limits.max_pixels}
        for instance in read_index_mask(masks.data, field="index_mask", **options):
            check()
            found.append(_sized(instance, height, width, "index_mask"))
        _check_count(len(found), limits, "index_mask")
        return found
    check_count(masks, limits)
    read: list[Rle] = []
    runs = 0
    for number, mask in enumerate(masks):
        check()
        field = f"masks[{number}]"
        given: Any = mask
        if isinstance(given, MaskFile):
            given = read_mask(given.data, field=field, max_pixels=limits.max_pixels)
        elif isinstance(given, Mapping) and "counts" not in given and "segmentation" in given:
            given = given["segmentation"]
        # Polygons need the frame; of other masks the size is checked below, where the remedy is known.
        frame = {"height": height, "width": width} if isinstance(given, (list, tuple)) else {}
        read.append(_sized(as_rle(given, **frame, field=field), height, width, field))
        runs += len(read[-1].counts)
        if runs > MOST_RUNS:
            raise InvalidRequestError(f"the masks have more than {MOST_RUNS} runs together; send fewer", field=field)
    return read


def check_count(masks: Sequence[object], limits: InputLimits) -> None:
    """Refuse no masks at all, and too many.

    Raises:
        InvalidRequestError: so it is.
    """
    _check_count(len(masks), limits, "masks")


def _check_count(count: int, limits: InputLimits, field: str) -> None:
    if not 1 <= count <= limits.max_instances:
        raise InvalidRequestError(
            f"{field} holds {count} instances; send 1 to {limits.max_instances} with each image", field=field
        )


def _sized(mask: Rle, height: int, width: int, field: str) -> Rle:
    if (mask.height, mask.width) != (height, width):
        raise MaskError(
            f"{field} is {mask.width}x{mask.height} px but the image is {width}x{height} px; if the image carries an EXIF "
            "rotation, exif_policy says whether it is applied",
            field=field,
        )
    return mask

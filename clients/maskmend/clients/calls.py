"""One call to a server, made ready: the image as bytes, the masks as COCO has them, the options that were set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from maskmend.clients.adapters import masks_of
from maskmend.clients.errors import UnexpectedAnswerError
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import MaskError, OptionError
from maskmend.patcher.images import load_image, read_image_file
from maskmend.service.schema import RefineOptions

LARGEST_ANSWER = 256 * 2**20
"""Bytes of an answer that are read at most."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent.

    Attributes:
        image: an encoded file as it is, or uint8 [H, W, 3] RGB.
        masks: per instance a compressed COCO RLE dict, or COCO polygons.
        options: fields of `RefineOptions` that were set.
    """

    image: bytes | NDArray[np.uint8]
    masks: Sequence[dict[str, Any] | list[list[float]]]
    options: dict[str, Any]

    def file(self) -> bytes:
        """The image as an encoded file; arrays become PNG."""
        if isinstance(self.image, bytes):
            return self.image
        # The least compression: it is sent once, and loses nothing.
        return bytes(cv2.imencode(".png", self.image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])

    def nothing(self) -> RefineResult:
        """The answer where there are no masks: nobody need be asked.

        Raises:
            ImageError: the image cannot be read.
        """
        picture = load_image(self.image, exif_policy=self.options.get("exif_policy", "apply"))
        return RefineResult(picture.shape[0], picture.shape[1], [], {})

    def fits(self, result: RefineResult) -> RefineResult:
        """An answer, if it is one to this call.

        Raises:
            UnexpectedAnswerError: it has another number of instances, or a mask that is none, or of another size.
        """
        if len(result) != len(self.masks):
            raise UnexpectedAnswerError(f"the server answered {len(self.masks)} masks with {len(result)} instances")
        for instance in result.instances:
            self.fits_one(instance, (result.height, result.width))
        return result

    def fits_one(self, instance: RefinedInstance, size: tuple[int, int] | None = None) -> RefinedInstance:
        """An instance of an answer, if its mask can be read and has the size (height, width) that is known.

        Raises:
            UnexpectedAnswerError: it cannot, or has not.
        """
        try:
            mask = Rle.from_coco(instance.rle)
        except MaskError:
            raise UnexpectedAnswerError("a mask of the server's answer is damaged") from None
        if size is not None and (mask.height, mask.width) != size:
            raise UnexpectedAnswerError("a mask of the server's answer is of another size than the image")
        return instance


def checked_options(**given: Any) -> dict[str, Any]:
    """Options of a call, without those that are left to the server.

    Raises:
        OptionError: one is out of range.
    """
    values = {key: value for key, value in given.items() if value is not None}
    try:
        RefineOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0])
        raise OptionError(f"{field}: {first['msg']}", field=field) from None
    return values


def prepare(image: Any, masks: Any, options: dict[str, Any]) -> Call:
    """Make a call of what `refine` was given; see there.

    Raises:
        ImageError: there is no such file, or the array is none of an image.
        MaskError: a mask cannot be read.
    """
    ready = [_mask(mask, f"masks[{number}]") for number, mask in enumerate(masks_of(masks))]
    return Call(_image(image, options), ready, options)


def _image(image: Any, options: dict[str, Any]) -> bytes | NDArray[np.uint8]:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, Path)):
        return read_image_file(Path(image))
    return load_image(image, exif_policy=options.get("exif_policy", "apply"))


def _mask(mask: Any, field: str) -> dict[str, Any] | list[list[float]]:
    if isinstance(mask, Sequence) and not isinstance(mask, (str, bytes)):
        # Polygons are drawn where the size of the image is known.
        try:
            return [[float(value) for value in polygon] for polygon in mask]
        except (TypeError, ValueError):
            raise MaskError(f"{field} is no list of polygons, flat lists of numbers each", field=field) from None
    return (mask if isinstance(mask, Rle) else as_rle(mask, field=field)).to_coco()

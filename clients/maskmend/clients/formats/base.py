"""What all formats of mask files have in common: opened, read instance by instance, masks replaced, saved."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from maskmend.clients.json_files import BOM, loads
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskError, MaskmendError
from maskmend.patcher.images import ExifPolicy

SizePolicy = Literal["error", "resize"]
OverlapPolicy = Literal["error", "first", "last", "smallest"]
_LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Policies:
    """What to do where a format leaves it open.

    Attributes:
        exif_policy: turn photographs as their EXIF orientation says (`apply`), or not (`ignore`).
        size_mismatch: a mask of another size than its photograph is an error, or is brought to that size (`resize`).
        overlaps: where a format has one instance per pixel and two masks share one: an error, or the `first`, the
            `last` or the `smallest` of them takes it.
        tolerance: farthest, in px, that a written polygon may lie from the mask's outline; 0 for outlines that make
            exactly the same mask again.
    """

    exif_policy: ExifPolicy = "apply"
    size_mismatch: SizePolicy = "error"
    overlaps: OverlapPolicy = "error"
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a mask file, without its mask.

    Attributes:
        image: name of its photograph as the file has it, `/` between folders; the same for all instances of an image.
        label: name of its category; empty where the file has none.
        score: of the segmenter, 0 to 1; None where the file has none.
        refinable: False for what must pass through untouched: crowds, stuff, boxes, points.
        fields: what else a conversion may carry over, by COCO's names: `id`, `annotation_id`, `image_id`,
            `category_id`, `iscrowd`.
    """

    image: str
    label: str = ""
    score: float | None = None
    refinable: bool = True
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to write with its instances: what a conversion hands to the target format.

    Attributes:
        name: of the photograph, relative to the images folder.
        height: in px, after the EXIF policy.
        width: in px.
        instances: with their masks, of that size, in order.
        image_id: that it has in the source; None where it has none.
    """

    name: str
    height: int
    width: int
    instances: Sequence[tuple[Instance, Rle]]
    image_id: int | str | None = None


class Peek:
    """A first look at a file or folder, shared by all formats that are asked whether it is theirs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def document(self) -> Any:
        """What a JSON file holds; None where it is none."""
        if self.path.suffix.lower() != ".json" or not self.path.is_file():
            return None
        try:
            data = self.path.read_bytes()
            try:
                return loads(data)
            except ValueError:
                # Whose it is can be seen even if some number in it is none; what reads it will say so.
                return json.loads(data.removeprefix(BOM))
        except (OSError, ValueError, RecursionError):
            return None


class MaskFile(ABC):
    """A file or folder of masks that was opened. It keeps everything it does not understand as it was.

    Attributes:
        name: of the format, as `--format` has it.
        writes_folder: whether `save` makes a folder rather than a file.
        default_tolerance: of polygons, where nobody chose one; see `Policies.tolerance`.
        one_per_pixel: whether a pixel can belong to one instance only, so that `Policies.overlaps` matters.
    """

    name: ClassVar[str]
    writes_folder: ClassVar[bool] = False
    default_tolerance: ClassVar[float] = 0.0
    one_per_pixel: ClassVar[bool] = False
    instances: Sequence[Instance]
    _path: Path

    @classmethod
    @abstractmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> MaskFile:
        """Open a file or folder.

        Args:
            path: of it.
            images: folder of the photographs; None where only masks are read.
            policies: see there.

        Raises:
            JobError: it is not of this format, or cannot be used as a whole.
        """

    @classmethod
    @abstractmethod
    def matches(cls, peek: Peek) -> bool:
        """Whether a file or folder looks like one of this format. Never raises."""

    @abstractmethod
    def mask(self, number: int, height: int, width: int) -> Rle:
        """The mask of an instance, in its own size.

        Args:
            number: of the instance, from 0.
            height: of the photograph in px, for formats that say nothing of their own.
            width: of the photograph in px.

        Raises:
            MaskError: the mask cannot be read.
        """

    @abstractmethod
    def photograph(self, number: int) -> Path:
        """The photograph of an instance, inside the images folder and nowhere else.

        Raises:
            ImageError: there is none.
        """

    def stamp(self, number: int) -> list[int]:
        """Size and time of change of the photograph of an instance; empty where there is none."""
        try:
            found = self.photograph(number).stat()
        except (MaskmendError, OSError):
            return []
        return [found.st_size, found.st_mtime_ns]

    def expect(self, number: int, *, whole: bool = True) -> None:
        """Told that the photograph of an instance, or its stamp alone, will be asked for soon.

        One that is far away may come meanwhile.
        """
        return

    @abstractmethod
    def replace(self, number: int, mask: Rle) -> None:
        """Put a refined mask, of the photograph's size, in the place of the one that is there.

        Raises:
            MaskError: the format cannot hold it there; then everything is as it was.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write everything in the same format: the same records in the same order, foreign fields kept.

        Raises:
            JobError: it cannot be written.
        """

    def files(self) -> Iterable[Path]:
        """The files that were read, photographs apart, in a fixed order: what is saved depends on nothing else."""
        yield self._path

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """Write a new file or folder: the second half of a conversion.

        Raises:
            JobError: it cannot be written, or the format cannot hold this.
        """
        raise JobError(f"format {cls.name} can be read, but not be converted to", field="to")

    def by_image(self) -> Iterator[tuple[str, list[int]]]:
        """Numbers of the instances of each image, images in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for number, instance in enumerate(self.instances):
            groups.setdefault(instance.image, []).append(number)
        yield from groups.items()


def known_fields(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Fields of a record for `Instance.fields`: those that are text, or numbers that fit 64 bits."""
    return {name: record[name] for name in names if name in record and _is_plain(record[name])}


def score_of(value: object) -> float | None:
    """The score of a record, if it is a number."""
    return float(value) if isinstance(value, (int, float)) and is_number(value) else None


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold, and neither NaN nor infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_plain(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def fitted(mask: Rle, height: int, width: int, policies: Policies, field: str) -> Rle:
    """A mask in the size of its photograph.

    Raises:
        MaskError: the sizes differ, and the policy is not to resize.
    """
    if (mask.height, mask.width) == (height, width):
        return mask
    if policies.size_mismatch == "resize":
        dense = mask.to_dense().astype(np.uint8)
        return Rle.from_dense(cv2.resize(dense, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    turned = (mask.height, mask.width) == (width, height)
    hint = "; its EXIF rotation may be the reason: --exif-policy says whether it is applied" if turned else ""
    raise MaskError(
        f"{field} is {mask.width}x{mask.height} px but the image is {width}x{height} px (width x height){hint}; "
        "--size-mismatch resize brings it to that size",
        field=field,
    )

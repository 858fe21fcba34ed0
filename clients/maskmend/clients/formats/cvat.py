"""CVAT for images 1.1 (XML): polygons and masks of images; boxes, points, tracks and all else stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.categories import category_numbers, check_text, label_of
from maskmend.clients.formats.cvat_xml import Shape, read_shapes, spliced
from maskmend.clients.formats.locate import find_photograph
from maskmend.clients.formats.one_ring import ring_of
from maskmend.clients.formats.rowwise import counts, from_counts, from_row_runs, row_runs
from maskmend.clients.json_files import write_whole
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size


class CvatMasks(MaskFile):
    """A CVAT file. Only the attributes of replaced shapes change; every other byte of the file stays.

    Attributes:
        default_tolerance: of polygons in px, for people drag their vertices.
    """

    name = "cvat"
    default_tolerance: ClassVar[float] = 0.5

    def __init__(self, path: Path, images: Path | None, policies: Policies) -> None:
        self._path, self._images, self._policies = path, images, policies
        self._data, self._shapes = read_shapes(path)
        self._changes: dict[int, dict[str, str]] = {}
        self.instances = [
            Instance(
                image=shape.image.get("name", ""),
                label=shape.attributes.get("label", ""),
                refinable=shape.kind in ("polygon", "mask"),
            )
            for shape in self._shapes
        ]

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> CvatMasks:
        """See `MaskFile.open`."""
        return cls(path, images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """An XML file whose first kilobytes hold `<annotations`."""
        if peek.path.suffix.lower() != ".xml" or not peek.path.is_file():
            return False
        try:
            with peek.path.open("rb") as file:
                return b"<annotations" in file.read(4096)
        except OSError:
            return False

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """A file to import: masks, or polygons where tolerance is above 0."""
        check_text(pictures, controls=True)
        labels = list(category_numbers(pictures))
        kind = "polygon" if policies.tolerance > 0 else "mask"
        named = "".join(f"<label><name>{escape(label)}</name><type>{kind}</type></label>" for label in labels)
        lines = [
            '<?xml version="1.0" encoding="utf-8"?>',
            "<annotations>",
            "  <version>1.1</version>",
            f"  <meta><task><mode>annotation</mode><labels>{named}</labels></task></meta>",
        ]
        for number, picture in enumerate(pictures):
            name = quoteattr(picture.name)
            lines.append(f'  <image id="{number}" name={name} width="{picture.width}" height="{picture.height}">')
            for instance, mask in picture.instances:
                values = _polygon(mask, policies.tolerance) if kind == "polygon" else _mask(mask)
                values = {"label": label_of(instance), "source": "auto", "occluded": "0", **values}
                told = " ".join(f"{key}={quoteattr(value)}" for key, value in values.items())
                lines += (f'    <{kind} {told} z_order="0">', f"    </{kind}>")
            lines.append("  </image>")
        write_whole(path, "\n".join([*lines, "</annotations>", ""]).encode())

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. In the size that the file says its image has."""
        shape = self._shapes[number]
        height, width = _whole(shape.image, "height", height), _whole(shape.image, "width", width)
        check_size(height, width, "image")
        if shape.kind == "polygon":
            return polygons_to_rle([_points(shape)], height, width, field="points")
        if shape.kind == "mask":
            return _read_mask(shape, height, width)
        raise MaskError(f"a {shape.kind} has no mask", field=shape.kind)

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`."""
        return find_photograph(self._images, [self._shapes[number].image.get("name", "")], "image name")

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`. A shape that has this mask already stays as it came."""
        shape = self._shapes[number]
        if self.mask(number, mask.height, mask.width) == mask:
            self._changes.pop(shape.place, None)
        elif shape.kind == "polygon":
            self._changes[shape.place] = _polygon(mask, self._policies.tolerance)
        else:
            self._changes[shape.place] = _mask(mask)

    def save(self, path: Path) -> None:
        """See `MaskFile.save`."""
        write_whole(path, spliced(self._data, self._changes))


def _points(shape: Shape) -> list[float]:
    text = shape.attributes.get("points", "")
    try:
        return [float(number) for pair in text.split(";") for number in _two(pair)]
    except ValueError:
        raise MaskError("points must be x,y;x,y;... in px", field="points") from None


def _two(pair: str) -> tuple[str, str]:
    x, y = pair.split(",")
    return x, y


def _read_mask(shape: Shape, height: int, width: int) -> Rle:
    left, top, w, h = (_whole(shape.attributes, name) for name in ("left", "top", "width", "height"))
    check_size(h, w, "mask")
    text = shape.attributes.get("rle", "")
    try:
        lengths = np.array([int(number) for number in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise MaskError("rle must be whole numbers with commas between them", field="rle") from None
    return from_row_runs(from_counts(lengths, w * h, "rle"), (left, top, w, h), height, width, "mask")


def _whole(attributes: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    try:
        return int(attributes.get(name, str(otherwise)))
    except ValueError:
        raise MaskError(f"{name} is missing, or no whole number", field=name) from None


def _polygon(mask: Rle, tolerance: float) -> dict[str, str]:
    ring = ring_of(mask, tolerance, "polygon")
    return {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(ring[::2], ring[1::2], strict=True))}


def _mask(mask: Rle) -> dict[str, str]:
    left, top, width, height = box = mask.bbox
    if not width:
        raise MaskError("the mask is empty, and a mask of CVAT cannot be; delete the shape instead", field="mask")
    rle = ", ".join(map(str, counts(row_runs(mask, box), width * height)))
    return {"rle": rle, "left": str(left), "top": str(top), "width": str(width), "height": str(height)}

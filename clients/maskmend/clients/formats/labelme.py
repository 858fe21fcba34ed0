"""LabelMe: one JSON file per photograph, or a folder of them; shapes of type polygon and mask."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.categories import label_of
from maskmend.clients.formats.json_text import Layout, read_json_text
from maskmend.clients.formats.locate import find_photograph
from maskmend.clients.formats.one_ring import ring_of
from maskmend.clients.inside import has_file, printable
from maskmend.clients.json_files import write_whole
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import ImageError, JobError, MaskError
from maskmend.patcher.mask_images import read_mask, write_mask
from maskmend.patcher.rle import check_size, is_whole

Shape = dict[str, Any]
_LOOKED_AT = 20
"""JSON files of a folder that `matches` looks into."""
_VERSION = "5.5.0"
"""Of LabelMe, whose form is written: the first whose masks and descriptions are as they are now."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a shape stands: number of its file, and its own number in there."""

    file: int
    shape: int


class LabelmeMasks(MaskFile):
    """A folder of LabelMe files. Only one of them is in memory at a time: photographs may be embedded in them.

    Attributes:
        default_tolerance: of polygons in px, for people drag their vertices.
    """

    name = "labelme"
    writes_folder = True
    default_tolerance: ClassVar[float] = 0.5

    def __init__(self, path: Path, files: Sequence[Path], images: Path | None, policies: Policies) -> None:
        self._files, self._images, self._policies = list(files), images, policies
        self._path = path
        self._changes: dict[_Place, Shape] = {}
        self._places: list[_Place] = []
        self._held: tuple[int, dict[str, Any], Layout] | None = None
        self.instances: list[Instance] = []
        for number, path in enumerate(self._files):
            document, _ = self._document(number)
            for index, shape in enumerate(document["shapes"]):
                if not isinstance(shape, dict):
                    raise JobError(f"{path}: shape {index} is a {type(shape).__name__}, not an object", field="shapes")
                self._places.append(_Place(number, index))
                label = shape.get("label")
                self.instances.append(
                    Instance(
                        image=_image_path(document, path),
                        label=printable(label) if isinstance(label, str) else "",
                        refinable=_kind(shape) in ("polygon", "mask"),
                    )
                )

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> LabelmeMasks:
        """See `MaskFile.open`. JSON files of a folder that are not of LabelMe are left out."""
        if path.is_dir():
            files = [file for file in _json_files(path) if _is_labelme(Peek(file).document)]
            if not files:
                raise JobError(f"{path} has no LabelMe files", field="results")
            return cls(path, files, images, policies)
        return LabelmeFile(path, [path], images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A JSON object with `shapes` and `imagePath`, or a folder with one among its first JSON files."""
        if peek.path.is_dir():
            return any(_is_labelme(Peek(file).document) for file in _json_files(peek.path)[:_LOOKED_AT])
        return _is_labelme(peek.document)

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """A folder with a file for each image: shapes of type mask, or polygon where tolerance is above 0."""
        _make(path)
        taken: set[str] = set()
        for picture in pictures:
            shapes = []
            for instance, mask in picture.instances:
                shape: Shape = {
                    "label": label_of(instance),
                    "points": [],
                    "group_id": None,
                    "description": "",
                    "shape_type": "polygon" if policies.tolerance > 0 else "mask",
                    "flags": {},
                    "mask": None,
                }
                shapes.append({**shape, **_replaced(shape, mask, policies.tolerance)})
            document: dict[str, Any] = {
                "version": _VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": picture.name,
                "imageData": None,
                "imageHeight": picture.height,
                "imageWidth": picture.width,
            }
            name = PurePosixPath(picture.name).with_suffix(".json").name
            if name in taken:
                raise JobError(
                    f"two photographs would share {name[:100]}; LabelMe files of one folder need different names",
                    field="to",
                )
            taken.add(name)
            write_whole(path / name, Layout(indent="  ", ascii=False).encoded(document))

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        return list(self._files)

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. In the size that the file says its photograph has, if it does."""
        place = self._places[number]
        document, _ = self._document(place.file)
        return _mask(
            document["shapes"][place.shape],
            _side(document, "imageHeight", height),
            _side(document, "imageWidth", width),
        )

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`. `imagePath` within the images folder, or its last part."""
        name = self.instances[number].image
        names = (
            [name, PurePosixPath(name).name] if ".." not in PurePosixPath(name).parts else [PurePosixPath(name).name]
        )
        return find_photograph(self._images, names, "imagePath")

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`. A shape that has this mask already stays as it came."""
        place = self._places[number]
        document, _ = self._document(place.file)
        shape = document["shapes"][place.shape]
        size = _side(document, "imageHeight", mask.height), _side(document, "imageWidth", mask.width)
        if _mask(shape, *size) != mask:
            self._changes[place] = _replaced(shape, mask, self._policies.tolerance)
        else:
            self._changes.pop(place, None)

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. Files in which nothing changed are copied."""
        _make(path)
        for number, file in enumerate(self._files):
            write_whole(path / file.name, self._saved(number))

    def _saved(self, number: int) -> bytes:
        changes = {place.shape: shape for place, shape in self._changes.items() if place.file == number}
        if not changes:
            return self._files[number].read_bytes()
        document, layout = self._document(number)
        shapes = [{**shape, **changes.get(index, {})} for index, shape in enumerate(document["shapes"])]
        return layout.encoded({**document, "shapes": shapes})

    def _document(self, number: int) -> tuple[dict[str, Any], Layout]:
        if self._held is None or self._held[0] != number:
            path = self._files[number]
            document, layout = read_json_text(path, "results")
            if not _is_labelme(document):
                raise JobError(f"{path} is no LabelMe file: `shapes` and `imagePath` are needed", field="results")
            self._held = number, document, layout
        return self._held[1], self._held[2]


class LabelmeFile(LabelmeMasks):
    """A single LabelMe file."""

    writes_folder = False

    def save(self, path: Path) -> None:
        """See `MaskFile.save`."""
        write_whole(path, self._saved(0))


def _json_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if has_file(folder, path.name)]


def _is_labelme(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("shapes"), list) and "imagePath" in document


def _image_path(document: dict[str, Any], path: Path) -> str:
    name = document["imagePath"]
    return printable(name.replace("\\", "/")) if isinstance(name, str) and name else path.with_suffix("").name


def _kind(shape: Shape) -> str:
    """Type of a shape; files of old versions have none, and mean polygons."""
    return str(shape.get("shape_type") or "polygon")


def _side(document: dict[str, Any], name: str, otherwise: int) -> int:
    side: Any = document.get(name)
    return int(side) if is_whole(side) else otherwise


def _mask(shape: Shape, height: int, width: int) -> Rle:
    check_size(height, width, "imageHeight and imageWidth")
    kind = _kind(shape)
    if kind == "polygon":
        return polygons_to_rle([_flat(shape)], height, width, field="points")
    if kind != "mask":
        raise MaskError(f"a shape of type {kind[:40]} has no mask", field="shape_type")
    flat = _flat(shape)
    if len(flat) != 4:
        raise MaskError("points of a mask must be its first and its last pixel, [[x, y], [x, y]]", field="points")
    if not all(abs(value) < 1e6 for value in flat):
        raise MaskError("points of a mask lie outside any photograph", field="points")
    x0, y0, x1, y1 = (int(value) for value in flat)
    text = shape.get("mask")
    if not isinstance(text, str):
        raise MaskError("mask must be a PNG in base64", field="mask")
    try:
        data = base64.b64decode(text, validate=True)
        crop = read_mask(data, field="mask")
    except (binascii.Error, ValueError, ImageError) as error:
        raise MaskError("mask must be a PNG in base64", field="mask") from error
    if (crop.width, crop.height) != (x1 - x0 + 1, y1 - y0 + 1):
        raise MaskError(f"mask is {crop.width}x{crop.height} px, but its points say otherwise", field="mask")
    return Rle.from_crop(crop.to_dense(), height, width, x0, y0)


def _flat(shape: Shape) -> list[float]:
    points = shape.get("points")
    if not isinstance(points, list):
        raise MaskError("points must be a list of [x, y] in px", field="points")
    flat: list[float] = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(type(v) in (int, float) for v in point):
            raise MaskError("points must be a list of [x, y] in px", field="points")
        flat += point
    return flat


def _replaced(shape: Shape, mask: Rle, tolerance: float) -> Shape:
    """The fields of a shape that say its mask."""
    if _kind(shape) == "polygon":
        ring = ring_of(mask, tolerance, "polygon")
        return {"points": [[float(x), float(y)] for x, y in zip(ring[::2], ring[1::2], strict=True)]}
    x, y, width, height = mask.bbox
    if not width:
        raise MaskError("the mask is empty, and a mask of LabelMe cannot be; delete the shape instead", field="mask")
    crop = Rle.from_dense(mask.crop(x, y, x + width, y + height))
    points = [[float(x), float(y)], [float(x + width - 1), float(y + height - 1)]]
    return {"points": points, "mask": base64.b64encode(write_mask(crop)).decode()}


def _make(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise JobError(f"{path} cannot be made: {error.strerror}", field="output") from error

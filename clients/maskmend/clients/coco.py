"""COCO files: result lists and instances files, read whole, written once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from maskmend.clients.inside import LeadsOutError, file_inside, printable
from maskmend.clients.json_files import read_json, write_json
from maskmend.clients.remote_folder import RemoteFolder
from maskmend.clients.storage import StorageError
from maskmend.patcher.errors import ImageError, JobError

__all__ = ["SUFFIXES", "CocoFile", "ImageFolder", "Record", "read_coco", "read_json", "write_json"]

Record = dict[str, Any]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class CocoFile:
    """A parsed COCO file.

    Attributes:
        document: what the file holds: a list of results, or a dict with `images` and `annotations`.
        records: the list inside it whose elements carry masks; the very objects of `document`.
        images: image records by id; of a result list those of its annotation file, empty where there is none.
        named: names of categories by id, from the annotation file.
    """

    document: Any
    records: list[Record]
    images: dict[int | str, Record]
    named: Mapping[int | str, str] = field(default_factory=dict)

    @property
    def is_results(self) -> bool:
        """Whether this is a result list (True) or an instances file."""
        return isinstance(self.document, list)

    @cached_property
    def labels(self) -> dict[Any, str]:
        """Names of categories by id; of a result list those that an annotation file names."""
        return {**self.named, **_category_names(self.document)}

    def file_name(self, record: Record) -> str:
        """Name of a record's photograph, or the image_id as text where the file has no names."""
        image_id = record.get("image_id")
        known = self.images.get(image_id, {}) if isinstance(image_id, (int, str)) else {}
        return printable(str(known.get("file_name") or record.get("file_name") or image_id))

    def by_image(self) -> Iterator[tuple[Any, list[int]]]:
        """Record numbers of each image, images in order of first appearance, so that each is read once."""
        groups: dict[Any, list[int]] = {}
        for number, record in enumerate(self.records):
            image_id = record.get("image_id")
            key = image_id if isinstance(image_id, (int, str)) else f"record {number}"
            groups.setdefault(key, []).append(number)
        yield from groups.items()


def read_coco(path: Path, *, field: str = "results") -> CocoFile:
    """Read a result list or an instances file.

    Raises:
        JobError: not readable, not JSON (NaN and truncated files included), or neither of the two forms.
    """
    document = read_json(path, field)
    if isinstance(document, dict):
        records = document.get("annotations")
        if not isinstance(records, list):
            raise JobError(
                f"{path} is a JSON object without an `annotations` list; give a COCO result list or an instances file",
                field=field,
            )
    elif isinstance(document, list):
        records = document
    else:
        raise JobError(f"{path} holds a {type(document).__name__}, not a COCO result list or object", field=field)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise JobError(f"{path}: element {number} is a {type(record).__name__}, not an object", field=field)
    images = image_records(document, path) if isinstance(document, dict) else {}
    return CocoFile(document, records, images)


def image_records(document: Any, path: Path) -> dict[int | str, Record]:
    """The `images` of an instances file by id.

    Raises:
        JobError: missing or malformed.
    """
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(image, dict) and isinstance(image.get("id"), (int, str)) for image in images
    ):
        raise JobError(f"{path} needs `images`, a list of objects with an `id`", field="images")
    return {image["id"]: image for image in images}


def with_names(coco: CocoFile, annotations: Path) -> CocoFile:
    """A file with the `images` of an annotation file, and with the categories of that one where it has none of its own.

    Raises:
        JobError: `annotations` is not a COCO file with `images`.
    """
    document = read_json(annotations, "annotations")
    return replace(coco, images=image_records(document, annotations), named=_category_names(document))


def instances_nearby(folder: Path | RemoteFolder, coco: CocoFile) -> Path | None:
    """The `instances.json` in the folder of the photographs, or beside it, for a file that names none of them itself."""
    if isinstance(folder, RemoteFolder) or coco.images or any("file_name" in record for record in coco.records):
        return None
    places = (folder / "instances.json", folder.resolve().parent / "instances.json")
    return next((place for place in places if place.is_file()), None)


def _category_names(document: Any) -> dict[int | str, str]:
    categories = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(categories, list):
        return {}
    known = (c for c in categories if isinstance(c, dict) and isinstance(c.get("id"), (int, str)))
    return {category["id"]: str(category.get("name", "")) for category in known}


class ImageFolder:
    """Finds the photograph of a record inside one folder, and nowhere else.

    The image record's `file_name` names the file, or the record's own. A bare result list has neither: then a file is
    taken whose name is the id, with or without leading zeros (`000000012345.jpg`, `12345.png`).

    Args:
        folder: where the photographs lie.
        images: image records by id; empty when there are none.
    """

    def __init__(self, folder: Path | RemoteFolder, images: dict[int | str, Record]) -> None:
        self._folder = folder if isinstance(folder, RemoteFolder) else folder.resolve()
        self._images = images

    def find(self, record: Record) -> Path:
        """Path of the record's photograph.

        Raises:
            ImageError: unknown image_id, missing file, or a name that leads out of the folder.
            StorageError: the folder is far away, and its storage did not answer.
        """
        return self._inside(self._name(record))

    def stamp(self, record: Record) -> list[int] | None:
        """Size of the record's photograph and a number for its version; None where the folder is not far away."""
        if isinstance(self._folder, RemoteFolder):
            try:
                return self._folder.stamp(self._name(record))
            except (ImageError, StorageError, LeadsOutError):
                return []
        return None

    def expect(self, record: Record, *, whole: bool = True) -> None:
        """Have the record's photograph, or its stamp alone, fetched meanwhile, where the folder is far away."""
        if isinstance(self._folder, RemoteFolder):
            # What is wrong with it is said when it is asked for.
            with suppress(ImageError, StorageError):
                self._folder.begin(self._name(record), whole=whole)

    def _name(self, record: Record) -> str:
        image_id = record.get("image_id")
        if not isinstance(image_id, (int, str)) or isinstance(image_id, bool):
            raise ImageError("image_id is missing or neither a number nor a string", field="image_id")
        known = self._images.get(image_id)
        if self._images and known is None:
            raise ImageError(f"image_id {printable(str(image_id)[:64])} is not among the `images`", field="image_id")
        name = (known or {}).get("file_name", record.get("file_name"))
        if name is None:
            name = self._by_id.get(str(image_id))
        if name is None:
            raise ImageError(
                f"no photograph of image_id {printable(str(image_id)[:64])} in the images folder; --annotations FILE can "
                "name it",
                field="image_id",
            )
        return str(name)

    @cached_property
    def _by_id(self) -> dict[str, str]:
        """File names by what id they stand for: the stem, and the number in it when it is all digits."""
        found: dict[str, str] = {}
        folder = self._folder
        names = folder.names() if isinstance(folder, RemoteFolder) else [path.name for path in folder.iterdir()]
        for path in sorted(map(PurePath, names), reverse=True):
            if path.suffix.lower() in SUFFIXES:
                found[path.name] = found[path.stem] = path.name
                if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 20:
                    found[str(int(path.stem))] = path.name
        return found

    def _inside(self, name: str) -> Path:
        try:
            folder = self._folder
            path = folder.file(name) if isinstance(folder, RemoteFolder) else file_inside(folder, name)
        except LeadsOutError:
            raise ImageError(
                "file_name leads out of the images folder; only files inside it are read", field="file_name"
            ) from None
        if path is None:
            shown = printable(name.replace("\\", "/").rpartition("/")[2][:100])
            raise ImageError(f"{shown} is not in the images folder", field="file_name")
        return path

"""COCO files: result lists and instances files, read whole, written once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from maskmend.patcher.errors import ImageError, JobError

Record = dict[str, Any]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class CocoFile:
    """A parsed COCO file.

    Attributes:
        document: what the file holds: a list of results, or a dict with `images` and `annotations`.
        records: the list inside it whose elements carry masks; the very objects of `document`.
        images: image records by id; empty for a result list.
    """

    document: Any
    records: list[Record]
    images: dict[int | str, Record]

    @property
    def is_results(self) -> bool:
        """Whether this is a result list (True) or an instances file."""
        return isinstance(self.document, list)

    @cached_property
    def labels(self) -> dict[Any, str]:
        """Names of categories by id; empty for a result list."""
        categories = self.document.get("categories") if isinstance(self.document, dict) else None
        return {c["id"]: str(c.get("name", "")) for c in categories or () if isinstance(c, dict) and "id" in c}

    def file_name(self, record: Record) -> str:
        """Name of a record's photograph, or the image_id as text where the file has no names."""
        image_id = record.get("image_id")
        known = self.images.get(image_id, {}) if isinstance(image_id, (int, str)) else {}
        return str(known.get("file_name") or record.get("file_name") or image_id)

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


def photographs(folder: Path, coco: CocoFile, annotations: Path | None) -> ImageFolder:
    """The photographs of a file: named by its own `images`, by an annotation file, or by `instances.json` next to them.

    Args:
        folder: where they lie.
        coco: the file whose records are looked up.
        annotations: COCO file given for the purpose; wins over the rest.

    Raises:
        JobError: `annotations` is not a COCO file with `images`.
    """
    if annotations is not None:
        return ImageFolder(folder, image_records(read_json(annotations, "annotations"), annotations))
    if coco.images:
        return ImageFolder(folder, coco.images)
    if not any("file_name" in record for record in coco.records):
        for nearby in (folder / "instances.json", folder.resolve().parent / "instances.json"):
            if nearby.is_file():
                return ImageFolder(folder, image_records(read_json(nearby, "annotations"), nearby))
    return ImageFolder(folder, {})


def read_json(path: Path, field: str) -> Any:
    """Parse a strict JSON file.

    Raises:
        JobError: not readable or not strict JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field=field) from error
    except orjson.JSONDecodeError as error:
        raise JobError(
            f"{path} is not valid JSON at line {error.lineno}, column {error.colno}; is it complete?", field=field
        ) from error


def write_json(path: Path, document: Any, *, indent: bool = False) -> None:
    """Write JSON beside `path` and move it into place, so that a reader never sees half a file.

    Raises:
        JobError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise JobError(f"{path} cannot be written: {error.strerror}", field="output") from error


class ImageFolder:
    """Finds the photograph of a record inside one folder, and nowhere else.

    The image record's `file_name` names the file, or the record's own. A bare result list has neither: then a file is
    taken whose name is the id, with or without leading zeros (`000000012345.jpg`, `12345.png`).

    Args:
        folder: where the photographs lie.
        images: image records by id; empty when there are none.
    """

    def __init__(self, folder: Path, images: dict[int | str, Record]) -> None:
        self._folder, self._images = folder.resolve(), images

    def find(self, record: Record) -> Path:
        """Path of the record's photograph.

        Raises:
            ImageError: unknown image_id, missing file, or a name that leads out of the folder.
        """
        image_id = record.get("image_id")
        if not isinstance(image_id, (int, str)) or isinstance(image_id, bool):
            raise ImageError("image_id is missing or neither a number nor a string", field="image_id")
        known = self._images.get(image_id)
        if self._images and known is None:
            raise ImageError(f"image_id {str(image_id)[:64]} is not among the `images`", field="image_id")
        name = (known or {}).get("file_name", record.get("file_name"))
        if name is None:
            name = self._by_id.get(str(image_id))
        if name is None:
            raise ImageError(
                f"no photograph of image_id {str(image_id)[:64]} in the images folder; --annotations FILE can name it",
                field="image_id",
            )
        return self._inside(str(name))

    @cached_property
    def _by_id(self) -> dict[str, str]:
        """File names by what id they stand for: the stem, and the number in it when it is all digits."""
        found: dict[str, str] = {}
        for path in sorted(self._folder.iterdir(), reverse=True):
            if path.suffix.lower() in SUFFIXES:
                found[path.name] = found[path.stem] = path.name
                if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 20:
                    found[str(int(path.stem))] = path.name
        return found

    def _inside(self, name: str) -> Path:
        if not self._leads_inside(name):
            raise ImageError(
                "file_name leads out of the images folder; only files inside it are read", field="file_name"
            )
        path = self._folder / name
        if not path.is_file():
            raise ImageError(f"{path.name[:100]} is not in the images folder", field="file_name")
        return path

    def _leads_inside(self, name: str) -> bool:
        if "\0" in name or len(name) > 1024 or Path(name).is_absolute():
            return False
        # Resolving follows symbolic links too.
        return (self._folder / name).resolve().is_relative_to(self._folder)

"""COCO files: result lists and instances files, read whole, written once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    """Write JSON beside `path` and move it into place, so that a reader never sees half a file."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None))
    temporary.replace(path)


class ImageFolder:
    """Finds the photograph of a record inside one folder, and nowhere else.

    A record's own `file_name`, or that of its image record, names the file. A bare result list has neither: then the
    id itself is tried, as COCO writes it (12 digits) and as it is, with the usual suffixes.

    Args:
        folder: where the photographs lie.
        images: image records by id.
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
        if name is not None:
            return self._inside(str(name))
        stems = [f"{image_id:012d}", str(image_id)] if isinstance(image_id, int) else [image_id]
        for stem in stems:
            for suffix in ("", *SUFFIXES) if isinstance(image_id, str) else SUFFIXES:
                if self._leads_inside(stem + suffix) and (self._folder / (stem + suffix)).is_file():
                    return self._inside(stem + suffix)
        raise ImageError(
            f"no photograph of image_id {str(image_id)[:64]} in the images folder; --annotations FILE can name it",
            field="image_id",
        )

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

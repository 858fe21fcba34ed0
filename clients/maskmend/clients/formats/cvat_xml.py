"""CVAT's XML, read with the place of each shape's tag, so that all bytes but those of a changed shape stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from maskmend.patcher.errors import JobError, MaskError

MAX_BYTES = 2**29
_DEEPEST = 32
_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")
_ATTRIBUTE = re.compile(rb"""([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG = re.compile(rb"""<[^\s/>"']+(?:\s+[^\s=/>"']+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of an image.

    Attributes:
        kind: name of its tag.
        image: attributes of the image that it is in.
        attributes: its own.
        place: byte that its tag begins at.
    """

    kind: str
    image: Mapping[str, str]
    attributes: Mapping[str, str]
    place: int


def read_shapes(path: Path) -> tuple[bytes, list[Shape]]:
    """The bytes of a CVAT file, and the shapes of its images in order. Tracks are passed over.

    Raises:
        JobError: not readable, too large, not UTF-8, no XML, XML with a document type, or not of CVAT.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise JobError(f"{path} has {size} bytes; at most {MAX_BYTES} are read", field="results")
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field="results") from error
    reader = _Reader(path)
    reader.read(data)
    if reader.root != "annotations":
        raise JobError(f"{path} is no CVAT file: its root must be `annotations`", field="results")
    return data, reader.shapes


def spliced(data: bytes, changes: Mapping[int, Mapping[str, str]]) -> bytes:
    """The bytes of a file with other values for some attributes.

    Args:
        data: of the file.
        changes: new values by name, by the byte that their tag begins at; values hold no characters that XML would escape.

    Raises:
        MaskError: a tag has none of the attributes to change.
    """
    pieces: list[bytes] = []
    done = 0
    for place in sorted(changes):
        tag = _TAG.match(data, place)
        if tag is None:
            raise MaskError("a shape's tag cannot be found again", field="shape")
        left = dict(changes[place])
        for attribute in _ATTRIBUTE.finditer(data, place, tag.end()):
            value = left.pop(attribute[1].decode(), None)
            if value is not None:
                # Within the quotes.
                pieces += (data[done : attribute.start(2) + 1], value.encode())
                done = attribute.end(2) - 1
        if left:
            raise MaskError(f"a shape has no attribute {next(iter(left))}, so it cannot be replaced", field="shape")
    return b"".join((*pieces, data[done:]))


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[str] = []
        self._image: dict[str, str] = {}
        self.root = ""
        self.shapes: list[Shape] = []

    def read(self, data: bytes) -> None:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise self._unusable("is not UTF-8")
        parser = expat.ParserCreate()
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = self._refused
        parser.StartElementHandler = lambda name, attributes: self._start(name, attributes, parser.CurrentByteIndex)
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise self._unusable(f"is not valid XML at line {error.lineno}, column {error.offset + 1}") from error

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise self._unusable("is not UTF-8")

    def _refused(self, *_: object) -> None:
        raise self._unusable("has a document type, which CVAT never writes")

    def _start(self, name: str, attributes: dict[str, str], place: int) -> None:
        if not self._open:
            self.root = name
        if self._open == ["annotations"] and name == "image":
            self._image = attributes
        elif self._open == ["annotations", "image"] and name in _SHAPES:
            self.shapes.append(Shape(name, self._image, attributes, place))
        self._open.append(name)
        if len(self._open) > _DEEPEST:
            raise self._unusable("is nested too deeply")

    def _end(self, name: str) -> None:
        self._open.pop()

    def _unusable(self, reason: str) -> JobError:
        return JobError(f"{self._path} {reason}; give the annotations.xml that CVAT exported", field="results")

"""YOLO segmentation: text files with one normalised polygon per line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.categories import category_numbers, label_of
from maskmend.clients.formats.folders import Photographs, copy_files, new_folder, read_text, write_file
from maskmend.clients.formats.index_png import png_names
from maskmend.clients.formats.yaml_names import write_names
from maskmend.clients.formats.yolo_files import LABELS, class_names, label_files, name_files, photograph_stems
from maskmend.clients.inside import has_file
from maskmend.patcher import Rle, polygons_to_rle
from maskmend.patcher.errors import JobError, MaskError, MaskmendError
from maskmend.patcher.simplify import joined, rings

_LOOKED_AT = 20
"""Text files that `matches` looks into."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_BOX = (5, 6)
"""Numbers in the line of a box, without and with its score."""
_LEAST = 7
"""Numbers in the line of a triangle."""


@dataclass(slots=True)
class _Line:
    """A line that is not blank.

    Attributes:
        file: that it is in.
        place: number of the line in it.
        head: the class, as it is written.
        points: of the polygon; 0 for a box.
        tail: what follows the polygon, as it is written: score, number of a track.
        mask: that takes the polygon's place.
        text: of the line, with that mask in it.
    """

    file: str
    place: int
    head: str
    points: int
    tail: list[str]
    error: MaskError | None = None
    mask: Rle | None = None
    text: str = ""


class YoloMasks(MaskFile):
    """A folder `labels/`, or the folder that has it, or any folder of such text files.

    A line is a class, the polygon, and what `save_conf` adds: a score. Boxes pass through untouched; lines that were not
    replaced are written back as they came. One line holds one polygon: several parts, and holes, are joined by cuts
    between their nearest corners, there and back again.
    """

    name = "yolo"
    writes_folder = True

    def __init__(self, path: Path, files: Sequence[str], images: Path | None, policies: Policies) -> None:
        self._path, self._files, self._policies = path, files, policies
        self._photographs = Photographs(images)
        self._name_files = name_files(path)
        self._cached: tuple[str, list[str]] | None = None
        self._lines: list[_Line] = []
        self._stems: list[list[str]] = []
        names = class_names(self._name_files)
        found: list[Instance] = []
        for file in files:
            stems = photograph_stems(file)
            for place, text in enumerate(self._texts(file)):
                if not _words(text):
                    continue
                line = _parsed(file, place, text)
                self._lines.append(line)
                self._stems.append(stems)
                number = int(line.head) if line.head.isdecimal() and len(line.head) < 10 else -1
                found.append(
                    Instance(
                        image=stems[0],
                        label=names.get(number, str(number)) if number >= 0 else "",
                        score=_score(line),
                        refinable=line.points > 0 or line.error is not None,
                        fields={"category_id": number} if number >= 0 else {},
                    )
                )
        self.instances: Sequence[Instance] = found

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> YoloMasks:
        """See `MaskFile.open`."""
        files = label_files(path)
        if not files:
            raise JobError(f"{path} has no text files with lines `class x y x y ...`", field="results")
        return cls(path, files, images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A folder with text files, of which most that have anything in them begin with a line of numbers."""
        looked_at: list[bool] = []
        try:
            for file in label_files(peek.path):
                line = next((line for line in read_text(peek.path / file).splitlines() if _words(line)), None)
                if line is not None:
                    looked_at.append(_parsed(file, 0, line).error is None)
                if len(looked_at) == _LOOKED_AT:
                    break
        except MaskmendError:
            return False
        return 2 * sum(looked_at) > len(looked_at)

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """`labels/<stem>.txt` and `data.yaml`. Scores are written if every instance has one."""
        numbers = category_numbers(pictures, first=0)
        scored = all(instance.score is not None for picture in pictures for instance, _ in picture.instances)
        with new_folder(path) as folder:
            for picture, name in zip(pictures, png_names(pictures), strict=True):
                lines = []
                for instance, mask in picture.instances:
                    tail = [f"{instance.score:.6g}"] if scored else []
                    lines.append(_line(str(numbers[label_of(instance)]), mask, tail, policies.tolerance))
                write_file(folder, f"{LABELS}/{name.removesuffix('.png')}.txt", "".join(f"{line}\n" for line in lines))
            write_file(folder, "data.yaml", write_names(numbers))

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        return [*self._name_files, *(self._path / name for name in self._files)]

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`. The polygon is drawn in the photograph's size."""
        line = self._lines[number]
        if line.error is not None:
            raise line.error
        if line.mask is not None:
            return line.mask
        if not line.points:
            raise MaskError("the line is a box; only lines with a polygon can be refined", field="line")
        parts = _words(self._texts(line.file)[line.place])[1 : 1 + 2 * line.points]
        polygon = (np.array(parts, np.float64).reshape(-1, 2) * (width, height)).ravel().tolist()
        return polygons_to_rle([polygon], height, width, field="line")

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`."""
        return self._photographs.of(*self._stems[number])

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`. A mask that is the same as before leaves the line as it is, and so does an empty one."""
        if mask.area and self.mask(number, mask.height, mask.width) != mask:
            line = self._lines[number]
            # Made now, so that a mask without a polygon is refused while there is something to leave as it was.
            line.text = _line(line.head, mask, line.tail, self._policies.tolerance)
            line.mask = mask

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. `data.yaml` and `classes.txt` go along, from the folder of the dataset too."""
        with new_folder(path) as folder:
            for file in self._name_files:
                inside = file.is_relative_to(self._path)
                root = self._path if inside else file.parent
                if inside or not has_file(folder, file.name):
                    copy_files(root, folder, [file.relative_to(root).as_posix()])
            replaced: dict[str, dict[int, str]] = {}
            for line in self._lines:
                if line.mask is not None:
                    replaced.setdefault(line.file, {})[line.place] = line.text
            for name in self._files:
                mine = replaced.get(name, {})
                lines = read_text(self._path / name).splitlines(keepends=True)
                write_file(folder, name, "".join(_with(line, mine.get(n)) for n, line in enumerate(lines)))

    def _texts(self, file: str) -> list[str]:
        """Lines of a file. The last one is kept: instances are asked for image by image."""
        cached = self._cached
        if cached is None or cached[0] != file:
            cached = file, read_text(self._path / file).splitlines()
            self._cached = cached
        return cached[1]


def _words(text: str) -> list[str]:
    return text.strip("\ufeff").split()


def _parsed(file: str, place: int, text: str) -> _Line:
    parts = _words(text)
    wrong = MaskError("a line must be `class x y x y x y ...`, three points or more, numbers from 0 to 1", field="line")
    if not parts[0].isdecimal() or not all(_NUMBER.fullmatch(part) for part in parts[1:]):
        return _Line(file, place, parts[0], 0, [], wrong)
    if len(parts) in _BOX:
        return _Line(file, place, parts[0], 0, parts[5:])
    if len(parts) < _LEAST:
        return _Line(file, place, parts[0], 0, [], wrong)
    end = len(parts) - _trailing(parts)
    numbers = [float(part) for part in parts[1:end]]
    # As far as its trainer lets coordinates lie outside, and somewhat farther.
    if not all(-1 <= value <= 2 for value in numbers):
        return _Line(file, place, parts[0], 0, [], wrong)
    return _Line(file, place, parts[0], len(numbers) // 2, parts[end:])


def _trailing(parts: list[str]) -> int:
    """How many numbers follow the polygon: a score, and after it the number of a track, which is above 1."""
    if len(parts) % 2 == 0:
        return 1
    tracked = parts[-1].isdecimal() and int(parts[-1][:12]) > 1 and len(parts) >= _LEAST + 2
    return 2 if tracked else 0


def _score(line: _Line) -> float | None:
    if not line.tail:
        return None
    score = float(line.tail[0])
    return score if 0 <= score <= 1 and math.isfinite(score) else None


def _line(head: str, mask: Rle, tail: list[str], tolerance: float) -> str:
    loops = [loop for part in rings(mask, tolerance) for loop in part]
    if not loops:
        raise JobError("an empty mask has no polygon; leave it out", field="to")
    numbers = joined(loops) / (mask.width, mask.height)
    return " ".join([head, *(f"{value:.6f}".rstrip("0").rstrip(".") for value in numbers.ravel()), *tail])


def _with(line: str, text: str | None) -> str:
    """A line with other text and the end of line that it had."""
    if text is None:
        return line
    mark = "\ufeff" if line.startswith("\ufeff") else ""
    return mark + text + line[len(line.rstrip("\r\n")) :]

"""Results in the form that Cityscapes' evaluation reads: a text file per photograph, a PNG per instance."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.binary_pictures import rewritten
from maskmend.clients.formats.categories import label_of
from maskmend.clients.formats.folders import (
    Photographs,
    copy_files,
    files_below,
    inside,
    new_folder,
    read_text,
    write_file,
)
from maskmend.patcher import Rle
from maskmend.patcher.errors import ImageError, JobError, MaskError, MaskmendError
from maskmend.patcher.images import read_image_file
from maskmend.patcher.mask_images import read_mask, write_mask

# fmt: off
NAMES: Final = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road",
    "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck",
    "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)
# fmt: on
"""Labels by Cityscapes' ids (not the training ids)."""
_PHOTO = "_leftImg8bit"


@dataclass(frozen=True, slots=True)
class _Line:
    """One instance: its text file and mask, both relative to the root; an error instead of a mask that cannot be."""

    file: str
    mask: str
    error: MaskError | None = None


class CityscapesMasks(MaskFile):
    """A folder of text files with lines `mask.png labelID score`, masks relative to the text file.

    Text files are written back byte for byte; masks keep their names and the value of their foreground.
    """

    name = "cityscapes"
    writes_folder = True

    def __init__(self, path: Path, files: Sequence[str], images: Path | None) -> None:
        self._path, self._files = path, files
        self._photographs = Photographs(images)
        self._lines: list[_Line] = []
        self._replaced: dict[int, Rle] = {}
        found: list[Instance] = []
        for file in files:
            image = str(PurePosixPath(file).with_suffix(""))
            for text in read_text(path / file).splitlines():
                if text.split():
                    line, label, score = _parsed(file, text)
                    self._lines.append(line)
                    name = NAMES[label] if 0 <= label < len(NAMES) else str(label)
                    found.append(Instance(image=image, label=name, score=score, fields={"category_id": label}))
        self.instances: Sequence[Instance] = found

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> CityscapesMasks:
        """See `MaskFile.open`."""
        files = files_below(path, ".txt") if path.is_dir() else []
        if not files:
            raise JobError(f"{path} is not a folder with text files of lines `mask.png labelID score`", field="results")
        return cls(path, files, images)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A folder with text files whose first line names a PNG, a label and a score."""
        if not peek.path.is_dir():
            return False
        try:
            for file in files_below(peek.path, ".txt"):
                lines = [line for line in read_text(peek.path / file).splitlines() if line.strip()]
                if lines and not PurePosixPath(file).name.lower().startswith("readme"):
                    return lines[0].split()[0].lower().endswith(".png") and _parsed(file, lines[0])[0].error is None
        except MaskmendError:
            pass
        return False

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """`<stem>_pred.txt` for each photograph, masks in `masks/`. The score is 1 where there is none."""
        with new_folder(path) as folder:
            for picture in pictures:
                stem = str(PurePosixPath(picture.name).with_suffix("")).removesuffix(_PHOTO)
                if any(character.isspace() for character in stem):
                    raise JobError(f"{picture.name[:100]} has a space in it, which Cityscapes forbids", field="images")
                up = "../" * stem.count("/")
                lines = []
                for number, (instance, mask) in enumerate(picture.instances):
                    label = label_of(instance)
                    if label not in NAMES:
                        raise JobError(
                            f"label {label[:50]!r} is none of Cityscapes'; rename it, or leave it out", field="to"
                        )
                    name = f"masks/{stem}_{number}.png"
                    write_file(folder, name, write_mask(mask))
                    score = 1.0 if instance.score is None else instance.score
                    lines.append(f"{up}{name} {NAMES.index(label)} {score:.6g}\n")
                write_file(folder, f"{stem}_pred.txt", "".join(lines))

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        masks = (line.mask for line in self._lines if line.error is None)
        names = [*self._files, *sorted({name for name in masks if self._is_there(name)})]
        yield from (self._path / name for name in names)

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`."""
        if number in self._replaced:
            return self._replaced[number]
        return read_mask(self._old(number), field="mask")

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`. `aachen_000000_000019_leftImg8bit.png` fits any text file whose name begins so."""
        stem = PurePosixPath(self.instances[number].image).name
        while stem:
            for name in (stem, stem + _PHOTO):
                if self._photographs.knows(name):
                    return self._photographs.of(name)
            stem = stem.rpartition("_")[0]
        raise ImageError("no photograph whose name the text file begins with", field="images")

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        self._replaced[number] = mask

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. Masks that were not replaced are copied byte for byte."""
        with new_folder(path) as folder:
            copy_files(self._path, folder, list(self._files))
            for number, line in enumerate(self._lines):
                if number in self._replaced:
                    write_file(folder, line.mask, rewritten(self._old(number), self._replaced[number]))
                elif line.error is None and self._is_there(line.mask):
                    copy_files(self._path, folder, [line.mask])

    def _is_there(self, name: str) -> bool:
        try:
            return inside(self._path, name, field="mask").is_file()
        except MaskError:
            return False

    def _old(self, number: int) -> bytes:
        line = self._lines[number]
        if line.error is not None:
            raise line.error
        return read_image_file(inside(self._path, line.mask, field="mask"), "mask")


def _parsed(file: str, text: str) -> tuple[_Line, int, float | None]:
    """A line of a text file: where its mask is, its label and its score."""
    parts = text.split()
    wrong = MaskError("a line must be `mask.png labelID score`, without spaces in the path", field="line")
    if len(parts) != 3 or parts[0].startswith("/"):
        return _Line(file, "", wrong), -1, None
    # The path may lead upwards, as long as it stays inside the folder of results.
    mask = posixpath.normpath(posixpath.join(posixpath.dirname(file), parts[0]))
    try:
        label, score = float(parts[1]), float(parts[2])
    except ValueError:
        return _Line(file, mask, wrong), -1, None
    if not (math.isfinite(label) and math.isfinite(score)):
        return _Line(file, mask, wrong), -1, None
    return _Line(file, mask), int(label), score

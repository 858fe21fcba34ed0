"""PNG masks: a folder with one picture per instance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.binary_pictures import rewritten
from maskmend.clients.formats.folders import Photographs, copy_files, files_below, new_folder, write_file
from maskmend.clients.formats.index_pictures import read_indices, values_of
from maskmend.clients.formats.index_png import png_names
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import read_image_file
from maskmend.patcher.mask_images import read_mask, write_mask

_LOOKED_AT = 20
"""Pictures that `matches` looks into."""


class PngMasks(MaskFile):
    """A folder of PNGs, each an instance: foreground is whatever is not black.

    A PNG belongs to the photograph `<stem>` if it is called `<stem>_<n>.png`, or lies in a folder `<stem>`, or is
    called `<stem>.png`; the photographs' names decide, if their folder is given. Instances of a photograph are in the
    order of their names, numbers in them counted as numbers.
    """

    name = "png"
    writes_folder = True

    def __init__(self, path: Path, images: Path | None) -> None:
        self._path = path
        self._photographs = Photographs(images)
        self._names = sorted(files_below(path, ".png"), key=_natural)
        self._replaced: dict[int, Rle] = {}
        self.instances: Sequence[Instance] = [Instance(image=self._stem(name)) for name in self._names]

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> PngMasks:
        """See `MaskFile.open`."""
        if not path.is_dir():
            raise JobError(f"{path} is not a folder; {cls.name} is a folder of PNGs", field="results")
        return cls(path, images)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A folder of PNGs whose first ones have a single value besides black."""
        if not peek.path.is_dir():
            return False
        try:
            names = files_below(peek.path, ".png")
            return bool(names) and all(_is_binary(read_image_file(peek.path / n, "png")) for n in names[:_LOOKED_AT])
        except MaskmendError:
            return False

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """`<stem>_<n>.png`, n from 0, grey of 0 and 255. Labels are lost."""
        with new_folder(path) as folder:
            for picture, name in zip(pictures, png_names(pictures), strict=True):
                for number, (_, mask) in enumerate(picture.instances):
                    write_file(folder, f"{name.removesuffix('.png')}_{number}.png", write_mask(mask))

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        yield from (self._path / name for name in self._names)

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`."""
        if number in self._replaced:
            return self._replaced[number]
        return read_mask(read_image_file(self._path / self._names[number], "png"), field="png")

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`."""
        return self._photographs.of(self.instances[number].image)

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        self._replaced[number] = mask

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. Pictures that were not replaced are copied byte for byte."""
        with new_folder(path) as folder:
            for number, name in enumerate(self._names):
                if number in self._replaced:
                    old = read_image_file(self._path / name, "png")
                    write_file(folder, name, rewritten(old, self._replaced[number]))
                else:
                    copy_files(self._path, folder, [name])

    def _stem(self, name: str) -> str:
        """What the photograph is called, in its folder."""
        pure = PurePosixPath(name).with_suffix("")
        numbered = re.fullmatch(r"(.+)_\d+", pure.name)
        candidates = [str(pure.parent)] if pure.parent.name else []
        if numbered:
            candidates.insert(0, str(pure.with_name(numbered[1])))
        candidates.append(str(pure))
        return next((stem for stem in candidates if self._photographs.knows(stem)), candidates[0])


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `a_2` before `a_10`."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() and len(part) < 20 else (-1, part) for part in parts]


def _is_binary(data: bytes) -> bool:
    try:
        return len(values_of(read_indices(data, field="png"))) <= 2
    except MaskmendError:
        # Colours or alpha: no indices, but perhaps a mask.
        return read_mask(data, field="png") is not None

"""Index PNGs: one picture per photograph, each value an instance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.formats.base import Instance, MaskFile, Peek, Picture, Policies
from maskmend.clients.formats.folders import Photographs, copy_files, files_below, new_folder, write_file
from maskmend.clients.formats.index_pictures import IndexPicture, read_indices, values_of, write_indices
from maskmend.clients.formats.paint import Repainted, check_size, painted, repaint, resized
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import read_image_file


class IndexPngMasks(MaskFile):
    """A folder of PNGs, each of the name of its photograph: every value but 0 is an instance.

    They are grey, of up to 16 bits, or have a palette. Values and palettes stay.
    """

    name = "index-png"
    writes_folder = True
    one_per_pixel = True
    void: ClassVar[tuple[int, ...]] = (0,)
    """Values that are no instance."""

    def __init__(self, path: Path, folder: str, images: Path | None, policies: Policies) -> None:
        self._path, self._root, self._policies = path, path / folder, policies
        self._folder = folder
        self._photographs = Photographs(images)
        self._names = files_below(self._root, ".png", within=path)
        self._places: list[tuple[str, int]] = []
        self._broken: dict[int, MaskmendError] = {}
        self._replaced: dict[int, Rle] = {}
        self._cached: tuple[str, IndexPicture] | None = None
        found: list[Instance] = []
        for name in self._names:
            stem = str(PurePosixPath(name).with_suffix(""))
            try:
                picture = self._picture(name)
                values = [value for value in values_of(picture) if value not in self.void]
                labels = self._labels(name, picture, values)
            except MaskmendError as error:
                # It stands for whatever the picture holds, so that the job names it.
                self._broken[len(found)] = error
                values, labels = [-1], [""]
            for value, label in zip(values, labels, strict=True):
                self._places.append((name, value))
                found.append(Instance(image=stem, label=label, fields={"id": value} if value >= 0 else {}))
        self.instances: Sequence[Instance] = found

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> IndexPngMasks:
        """See `MaskFile.open`."""
        if not path.is_dir():
            raise JobError(f"{path} is not a folder; {cls.name} is a folder of PNGs", field="results")
        return cls(path, "", images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A folder of PNGs that can be read as indices."""
        if not peek.path.is_dir():
            return False
        try:
            names = files_below(peek.path, ".png")
            return bool(names) and read_indices(read_image_file(peek.path / names[0], "png"), field="png") is not None
        except MaskmendError:
            return False

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """One PNG per photograph, of its name: value i + 1 is its instance i; 16 bits from 256 on. Labels are lost."""
        with new_folder(path) as folder:
            for picture, name in zip(pictures, png_names(pictures), strict=True):
                write_file(
                    folder, name, write_indices(IndexPicture(narrowed(painted(picture, policies), picture.name)))
                )

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        yield from (self._root / name for name in self._names)

    def mask(self, number: int, height: int, width: int) -> Rle:
        """See `MaskFile.mask`."""
        if number in self._broken:
            raise self._broken[number]
        if number in self._replaced:
            return self._replaced[number]
        name, value = self._places[number]
        return Rle.from_dense(np.asarray(self._picture(name).indices == value))

    def photograph(self, number: int) -> Path:
        """See `MaskFile.photograph`."""
        return self._photographs.of(self.instances[number].image)

    def replace(self, number: int, mask: Rle) -> None:
        """See `MaskFile.replace`."""
        check_size(mask, self._picture(self._places[number][0]).indices.shape, self._policies)
        self._replaced[number] = mask

    def save(self, path: Path) -> None:
        """See `MaskFile.save`. Pictures in which nothing changed are copied byte for byte."""
        with new_folder(path) as folder:
            self._save(folder)

    def _save(self, folder: Path) -> None:
        numbers: dict[str, list[int]] = {}
        for number, (name, _) in enumerate(self._places):
            numbers.setdefault(name, []).append(number)
        for name in self._names:
            members = numbers.get(name, [])
            if not any(n in self._replaced for n in members):
                copy_files(self._path, folder, [self._relative(name)])
                continue
            picture = self._picture(name)
            masks = {self._places[n][1]: self._replaced[n] for n in members if n in self._replaced}
            size = next(iter(masks.values()))
            before = resized(picture.indices, size.height, size.width).astype(np.int32)
            things = [self._places[n][1] for n in members]
            made = repaint(before, things, masks, fixed=(), policy=self._policies.overlaps, where=name)
            self._write(folder, name, picture, before, made)

    def _write(
        self, folder: Path, name: str, picture: IndexPicture, before: NDArray[np.int32], made: Repainted
    ) -> None:
        if made.values.shape == picture.indices.shape and np.array_equal(made.values, picture.indices):
            copy_files(self._path, folder, [self._relative(name)])
            return
        indices = made.values.astype(picture.indices.dtype)
        write_file(folder, self._relative(name), write_indices(IndexPicture(indices, picture.chunks)))

    def _relative(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name

    def _labels(self, name: str, picture: IndexPicture, values: list[int]) -> list[str]:
        """Labels of the instances of a picture."""
        return [""] * len(values)

    def _picture(self, name: str) -> IndexPicture:
        """The last picture is kept: instances are asked for image by image."""
        cached = self._cached
        if cached is None or cached[0] != name:
            cached = name, read_indices(read_image_file(self._root / name, "png"), field="png")
            self._cached = cached
        return cached[1]


def png_names(pictures: Sequence[Picture]) -> list[str]:
    """Names of PNGs for photographs: theirs, with another suffix.

    Raises:
        JobError: two of them would be the same.
    """
    names = [str(PurePosixPath(picture.name).with_suffix(".png")) for picture in pictures]
    if len(set(names)) < len(names):
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise JobError(f"two photographs would both get {twice[:100]}; rename one of them", field="images")
    return names


def narrowed(values: NDArray[np.int32], where: str) -> NDArray[Any]:
    """Values [H, W] as uint8, or as uint16 where one is above 255.

    Raises:
        JobError: one is above 65535.
    """
    most = int(values.max(initial=0))
    if most > 65_535:
        raise JobError(f"{where[:100]} has {most} instances; a PNG of 16 bits holds 65535", field="to")
    return values.astype(np.uint8 if most < 256 else np.uint16)

"""Pascal VOC: index PNGs in SegmentationObject, and the classes of their pixels in SegmentationClass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.formats.base import Peek, Picture, Policies
from maskmend.clients.formats.categories import category_numbers, label_of
from maskmend.clients.formats.folders import copy_files, files_below, new_folder, read_words, write_file
from maskmend.clients.formats.index_pictures import IndexPicture, read_indices, voc_palette, write_indices
from maskmend.clients.formats.index_png import IndexPngMasks, png_names
from maskmend.clients.formats.paint import Repainted, painted, resized
from maskmend.clients.inside import has_file, has_folder
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import read_image_file

OBJECTS: Final = "SegmentationObject"
CLASSES: Final = "SegmentationClass"
LABELS: Final = "labelmap.txt"
VOID: Final = 255
# fmt: off
NAMES: Final = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
"""Pascal VOC's classes by index. A `labelmap.txt`, as CVAT and Datumaro write it, names others."""


class VocMasks(IndexPngMasks):
    """A folder with `SegmentationObject`. Value 255 is void.

    Palettes are kept. What an object leaves becomes like the nearest void or background: VOC draws a void rim round its
    objects, so it becomes void. `SegmentationClass` follows, pixel by pixel. Annotations in XML are not carried over:
    their boxes would no longer be those of the masks.
    """

    name = "voc"
    void: ClassVar[tuple[int, ...]] = (0, VOID)

    def __init__(self, path: Path, folder: str, images: Path | None, policies: Policies) -> None:
        self._classes = path / CLASSES
        self._label_names = _label_names(path)
        super().__init__(path, folder, images, policies)

    @classmethod
    def open(cls, path: Path, images: Path | None, policies: Policies) -> VocMasks:
        """See `MaskFile.open`."""
        if not has_folder(path, OBJECTS):
            raise JobError(f"{path} has no folder {OBJECTS}; give the folder that has it", field="results")
        return cls(path, OBJECTS, images, policies)

    @classmethod
    def matches(cls, peek: Peek) -> bool:
        """A folder with a folder SegmentationObject."""
        return has_folder(peek.path, OBJECTS)

    @classmethod
    def write(cls, path: Path, pictures: Sequence[Picture], policies: Policies) -> None:
        """Objects and classes with VOC's palette, without a void rim; `labelmap.txt` where the labels are not VOC's."""
        used = list(category_numbers(pictures))
        own = not set(used) <= set(NAMES[1:])
        names = ["background", *used] if own else list(NAMES)
        if len(names) > VOID:
            raise JobError(f"{len(used)} labels; Pascal VOC holds 254", field="to")
        if own and any(":" in name or name.splitlines() != [name] or name.startswith("#") for name in used):
            raise JobError("a label has a colon or a line break in it, or begins with #; rename it", field="to")
        palette = ((b"PLTE", voc_palette()),)
        listed = png_names(pictures)
        with new_folder(path) as folder:
            for picture, name in zip(pictures, listed, strict=True):
                values = painted(picture, policies)
                if len(picture.instances) >= VOID:
                    raise JobError(
                        f"{picture.name[:100]} has {len(picture.instances)} instances; Pascal VOC holds 254", field="to"
                    )
                kinds = np.array([0, *(names.index(label_of(i)) for i, _ in picture.instances)], np.uint8)
                for kind, indices in ((OBJECTS, values.astype(np.uint8)), (CLASSES, kinds[values])):
                    write_file(folder, f"{kind}/{name}", write_indices(IndexPicture(indices, palette)))
            if own:
                colours = np.frombuffer(voc_palette(), np.uint8).reshape(-1, 3)
                lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(names, colours[: len(names)], strict=True)]
                write_file(folder, LABELS, "\n".join(["# label:color_rgb:parts:actions", *lines, ""]))
            stems = "".join(f"{name.removesuffix('.png')}\n" for name in listed)
            write_file(folder, "ImageSets/Segmentation/default.txt", stems)

    def files(self) -> Iterable[Path]:
        """See `MaskFile.files`."""
        yield from super().files()
        labels = [LABELS] if has_file(self._path, LABELS) else []
        yield from (self._path / name for name in [*self._below(CLASSES, ".png"), *labels])

    def _labels(self, name: str, picture: IndexPicture, values: list[int]) -> list[str]:
        """Of each instance the class that most of its pixels have."""
        classes = self._class_picture(name, picture.indices.shape)
        if classes is None:
            return [""] * len(values)
        names = self._names_of(classes)
        labels = []
        for value in values:
            counts = np.bincount(classes.indices[picture.indices == value], minlength=VOID + 1)
            counts[list(self.void)] = 0
            labels.append(names.get(int(np.argmax(counts)), "") if counts.any() else "")
        return labels

    def _names_of(self, classes: IndexPicture) -> dict[int, str]:
        """Names of the classes by index."""
        palette = classes.palette
        if self._label_names is None or palette is None:
            return dict(enumerate(NAMES))
        found = {}
        for index, colour in enumerate(palette.tolist()):
            name = self._label_names.get(tuple(colour))
            if name is not None:
                found[index] = name
        return found

    def _class_picture(self, name: str, shape: tuple[int, ...]) -> IndexPicture | None:
        if not has_file(self._path, f"{CLASSES}/{name}"):
            return None
        try:
            classes = read_indices(read_image_file(self._classes / name, CLASSES), field=CLASSES)
        except MaskmendError:
            # Labels are a help, not what the job is about: colours instead of indices are left as they are.
            return None
        return classes if classes.indices.shape == shape else None

    def _save(self, folder: Path) -> None:
        labels = [LABELS] if has_file(self._path, LABELS) else []
        copy_files(self._path, folder, [*self._below(CLASSES, ".png"), *self._below("ImageSets", ".txt"), *labels])
        super()._save(folder)

    def _below(self, name: str, suffix: str) -> list[str]:
        if not has_folder(self._path, name):
            return []
        return [f"{name}/{file}" for file in files_below(self._path / name, suffix, within=self._path)]

    def _write(
        self, folder: Path, name: str, picture: IndexPicture, before: NDArray[np.int32], made: Repainted
    ) -> None:
        super()._write(folder, name, picture, before, made)
        classes = self._class_picture(name, picture.indices.shape)
        if classes is None:
            return
        old = resized(classes.indices, *made.values.shape)
        new: NDArray[Any] = old.copy()
        gained = (made.values != before) & ~made.vacated
        for value in np.unique(made.values[gained]).tolist():
            own = np.bincount(old[before == value], minlength=1)
            new[gained & (made.values == value)] = int(np.argmax(own))
        known = np.where(made.nearest < 0, 0, made.nearest)
        new[made.vacated] = np.where(made.nearest < 0, 0, old.ravel()[known])
        write_file(folder, f"{CLASSES}/{name}", write_indices(IndexPicture(new, classes.chunks)))


def _label_names(path: Path) -> dict[tuple[int, ...], str] | None:
    """Labels by colour from `labelmap.txt`: lines `name:r,g,b:parts:actions`; None where there is no such file."""
    if not has_file(path, LABELS):
        return None
    found: dict[tuple[int, ...], str] = {}
    for line in read_words(path / LABELS).splitlines():
        name, _, rest = line.partition(":")
        numbers = rest.split(":")[0].split(",")
        if (
            not line.startswith("#")
            and len(numbers) == 3
            and all(n.strip().isdecimal() and len(n) < 10 for n in numbers)
        ):
            found.setdefault(tuple(int(n) for n in numbers), name)
    return found

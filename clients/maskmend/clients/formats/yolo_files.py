"""Which files of a folder are YOLO's: text files of labels, and the files that name classes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from maskmend.clients.coco import SUFFIXES
from maskmend.clients.formats.folders import files_below, read_text, read_words
from maskmend.clients.formats.yaml_names import read_names
from maskmend.clients.inside import has_file

LABELS = "labels"
_CLASSES = "classes.txt"
_YAML = ("data.yaml", "data.yml", "dataset.yaml")


def label_files(path: Path) -> list[str]:
    """Text files with a line per instance: those below any folder `labels`; where there is none, all of the folder.

    Files called README or classes.txt, and lists of photographs, are none.

    Returns:
        Relative names with `/`, sorted.

    Raises:
        JobError: the folder cannot be read.
    """
    if not path.is_dir():
        return []
    names = [name for name in files_below(path, ".txt") if not _is_aside(PurePosixPath(name).name)]
    below = [name for name in names if LABELS in PurePosixPath(name).parts[:-1]]
    return below or [name for name in names if not _is_list(path / name)]


def photograph_stems(file: str) -> list[str]:
    """Names that the photograph of a label file may have, without suffix; the first names the image.

    `train/labels/1.txt` belongs to `train/1`, or to `train/images/1`.
    """
    pure = PurePosixPath(file).with_suffix("")
    parts = list(pure.parts)
    folders = parts[:-1]
    if LABELS not in folders:
        return [str(pure)]
    place = len(folders) - 1 - folders[::-1].index(LABELS)
    without = [*parts[:place], *parts[place + 1 :]]
    return ["/".join(without), "/".join([*parts[:place], "images", *parts[place + 1 :]])]


def name_files(path: Path) -> list[Path]:
    """Files that name classes, the likeliest first.

    They lie in the folder, in its `labels`, or in the folder of a dataset of which it is a part.
    """
    found = [path / name for name in (*_YAML, _CLASSES, f"{LABELS}/{_CLASSES}") if has_file(path, name)]
    for folder in _datasets(path):
        found += [folder / name for name in _YAML if has_file(folder, name)]
    return found


def class_names(files: list[Path]) -> dict[int, str]:
    """Names of classes by number, from the first file that has any.

    Raises:
        JobError: a file cannot be read.
    """
    for file in files:
        text = read_words(file)
        if file.name == _CLASSES:
            return {number: name.strip() for number, name in enumerate(text.splitlines()) if name.strip()}
        if names := read_names(text):
            return names
    return {}


def _datasets(path: Path) -> list[Path]:
    """Folders above that the folder is a part of: `set` for `set/train` with `labels` in it, and for `set/labels/train`."""
    whole = path.resolve()
    ours = [whole, *whole.parents][:3]
    labels = next((folder for folder in ours if folder.name == LABELS), None)
    if labels is not None:
        between = [folder for folder in whole.parents if folder == labels or labels in folder.parents]
        return [*between, labels.parent, labels.parent.parent]
    return [whole.parent] if (path / LABELS).is_dir() else []


def _is_aside(name: str) -> bool:
    return name == _CLASSES or name.lower().startswith("readme")


def _is_list(path: Path) -> bool:
    """Whether a text file lists photographs, as `train.txt` does."""
    first = next((line.strip() for line in read_text(path).splitlines() if line.strip()), "")
    return first.lower().endswith(SUFFIXES)

"""Folders of mask files: what lies in them, which photograph a file belongs to, and new folders written whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from maskmend.clients.coco import SUFFIXES, ImageFolder
from maskmend.clients.inside import LeadsOutError, file_inside, has_file, printable
from maskmend.patcher.errors import ImageError, JobError, MaskError

MOST_FILES = 2_000_000
"""Files that a folder may hold."""
MOST_TEXT = 2**26
"""Largest text file that is read, in bytes."""
"""Largest picture that is read, in bytes."""


def files_below(root: Path, suffix: str, *, within: Path | None = None, most: int = MOST_FILES) -> list[str]:
    """Files of a kind in a folder and those below it: relative names with `/`, sorted.

    Links that lead out of the folder are passed over, and so are files and folders whose name begins with a dot.

    Args:
        root: the folder.
        suffix: in lower case, such as `.png`.
        within: the folder that links must stay in; the root itself if not given, which may then be a link.
        most: files that may be found.

    Raises:
        JobError: the folder cannot be read, or holds more.
    """
    found: list[str] = []
    try:
        limit = (within or root).resolve()
        for path in root.rglob("*"):
            relative = path.relative_to(root)
            if path.suffix.lower() != suffix or any(part.startswith(".") for part in relative.parts):
                continue
            if path.is_file() and path.resolve().is_relative_to(limit):
                found.append(relative.as_posix())
                if len(found) > most:
                    raise JobError(f"{root} holds more than {most} files *{suffix}; give a part of it", field="results")
    except OSError as error:
        raise JobError(f"{root} cannot be read: {error.strerror}", field="results") from error
    except RuntimeError as error:
        raise JobError(f"{root} cannot be read: it holds a link to itself", field="results") from error
    return sorted(found)


def inside(root: Path, name: str, *, field: str) -> Path:
    """A file that another file names, inside a folder and nowhere else; the name does not even lead upwards in between.

    Raises:
        MaskError: the name leads out of the folder, or there is no such file.
    """
    try:
        path = file_inside(root, name if _is_plain(name) else "")
    except LeadsOutError:
        raise MaskError(f"{field} leads out of its folder; only files inside it are read", field=field) from None
    if path is None:
        raise MaskError(f"{field} names {printable(Path(name).name[:100])}, which is not there", field=field)
    return path


def _is_plain(name: str) -> bool:
    """Whether a relative name has no part that leads upwards."""
    pure = Path(name)
    return "\0" not in name and 0 < len(name) <= 1024 and not pure.is_absolute() and ".." not in pure.parts


def read_text(path: Path) -> str:
    """A text file. Bytes that are no UTF-8 come back out as they were when written by `write_file`.

    Raises:
        JobError: it cannot be read, or is too large.
    """
    try:
        size = path.stat().st_size
        if size > MOST_TEXT:
            raise JobError(f"{path} has {size} bytes; text files may have {MOST_TEXT}", field="results")
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}", field="results") from error


def read_words(path: Path) -> str:
    """A text file to be understood, such as names of classes: UTF-8, else as Windows writes Western languages.

    Raises:
        JobError: it cannot be read, or is too large.
    """
    data = read_text(path).encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


class Photographs:
    """Finds photographs by their name, or by the name of a file that belongs to them; in one folder and nowhere else.

    Args:
        folder: where they lie; None where none are needed.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def named(self, name: str) -> Path:
        """The photograph of that name, `/` between folders.

        Raises:
            ImageError: there is none, or the name leads out of the folder.
        """
        return ImageFolder(self._folder(), {}).find({"image_id": name, "file_name": name})

    def of(self, *stems: str) -> Path:
        """The photograph that a relative name without suffix belongs to, such as `train/0001`.

        Tried in this order: the same place in the images folder; anywhere in it under that name, if there is only one.

        Args:
            stems: the name; where there are several, the likeliest first, all with the same last part.

        Raises:
            ImageError: there is none, or more than one.
        """
        folder = self._folder()
        for stem in stems:
            for suffix in SUFFIXES:
                for name in (stem + suffix, stem + suffix.upper()):
                    if _may_be(folder, name):
                        return self.named(name)
        last = PurePosixPath(stems[0]).name
        found = self.by_stem.get(last, [])
        if len(found) > 1:
            raise ImageError(
                f"{len(found)} photographs are called {printable(last[:100])}; name the folder of the right ones with "
                "--images",
                field="images",
            )
        if not found:
            raise ImageError(
                f"no photograph {printable(last[:100])} (.jpg, .png ...) in the images folder", field="images"
            )
        return self.named(found[0])

    def knows(self, stem: str) -> bool:
        """Whether some photograph has that name, in whatever folder."""
        return self.folder is not None and PurePosixPath(stem).name in self.by_stem

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Relative names of all photographs by their name without suffix."""
        found: dict[str, list[str]] = {}
        for suffix in SUFFIXES:
            for name in files_below(self._folder(), suffix):
                found.setdefault(PurePosixPath(name).stem, []).append(name)
        return found

    def _folder(self) -> Path:
        if self.folder is None:
            raise JobError("photographs are needed here; say where they are with --images", field="images")
        return self.folder


def _may_be(folder: Path, name: str) -> bool:
    """Whether there is such a file, or the name leads out and must be refused."""
    try:
        return file_inside(folder, name) is not None
    except LeadsOutError:
        return True


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, moved to its place when it is whole.

    Where there is a folder already, its files are replaced one by one and others in it stay.

    Raises:
        JobError: it cannot be written.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", dir=path.parent))
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror}", field="output") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.is_dir() and any(path.iterdir()):
            for source in sorted(p for p in temporary.rglob("*") if p.is_file()):
                target = path / source.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
        else:
            temporary.replace(path)
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror}", field="output") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_file(folder: Path, name: str, data: bytes | str) -> None:
    """Write a file into a folder, making the folders between.

    Raises:
        JobError: the name leads out of the folder.
    """
    if not _is_plain(name):
        raise JobError("a name leads out of the folder that is written; rename the file", field="output")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)


def copy_files(source: Path, target: Path, names: list[str]) -> None:
    """Copy files byte for byte, by their relative names.

    Raises:
        JobError: a file is gone, or lies outside the folder by now.
    """
    for name in names:
        if not has_file(source, name):
            raise JobError(f"{printable(name[:100])} is no longer in {source}", field="results")
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, place)

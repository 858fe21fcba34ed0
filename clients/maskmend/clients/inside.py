"""Names that come from strangers, made files inside one folder and nowhere else."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

LONGEST = 1024
"""Characters of a name that is looked up."""


class LeadsOutError(ValueError):
    """A name leads out of the folder that it is looked up in."""


def file_inside(root: Path, name: str) -> Path | None:
    """A file by its name relative to a folder.

    Args:
        root: the folder. It may be a link itself: it is what the user gave.
        name: `/` between folders; where there is no such file, a backslash is taken for one too.

    Returns:
        The folder and the name put together, links in the name not followed; None where there is no such file, or there can
        be none of that name.

    Raises:
        LeadsOutError: the name, or a link that it goes through, leads out of the folder.
    """
    found = _found(root, name, folder=False)
    if found is None and "\\" in name:
        return _found(root, name.replace("\\", "/"), folder=False)
    return found


def has_file(root: Path, name: str) -> bool:
    """Whether a name is that of a file inside a folder."""
    try:
        return _found(root, name, folder=False) is not None
    except LeadsOutError:
        return False


def has_folder(root: Path, name: str) -> bool:
    """Whether a name is that of a folder inside another."""
    try:
        return _found(root, name, folder=True) is not None
    except LeadsOutError:
        return False


def printable(text: str) -> str:
    """Text that can be written anywhere: halves of surrogate pairs, and bytes that were no UTF-8, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _found(root: Path, name: str, *, folder: bool) -> Path | None:
    if "\0" in name or not 0 < len(name) <= LONGEST or PurePosixPath(name).is_absolute():
        raise LeadsOutError(name[:100])
    path = root / name
    try:
        # Resolving follows symbolic links too.
        if path.resolve().is_relative_to(root.resolve()):
            return path if (path.is_dir() if folder else path.is_file()) else None
    except (OSError, RuntimeError, ValueError):
        # Too long for the file system, a link to itself, half of a surrogate pair.
        return None
    raise LeadsOutError(name[:100])

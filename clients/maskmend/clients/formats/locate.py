"""Photographs by the names that annotation tools give them, inside one folder and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from maskmend.patcher.errors import ImageError, JobError

_LONGEST = 1024
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight hexadecimal digits before the name of an uploaded file."""


def find_photograph(folder: Path | None, names: Iterable[str], field: str) -> Path:
    """The first of some names that is a file in the folder.

    Args:
        folder: of the photographs.
        names: relative paths, `/` between folders; the likeliest first.
        field: how error messages name them.

    Raises:
        JobError: no folder was given.
        ImageError: none is there, or the name leads out of the folder.
    """
    if folder is None:
        raise JobError("photographs are needed here; say where they are with --images", field="images")
    root = folder.resolve()
    shown = ""
    for name in names:
        shown = shown or name.rpartition("/")[2]
        if not name or "\0" in name or len(name) > _LONGEST or Path(name).is_absolute():
            continue
        path = root / name
        try:
            # Resolving follows symbolic links too.
            if not path.resolve().is_relative_to(root):
                raise ImageError(f"{field} leads out of the images folder; only files inside it are read", field=field)
            if path.is_file():
                return path
        except (OSError, RuntimeError):
            continue
    raise ImageError(f"{field}: {shown[-100:] or 'the photograph'} is not in the images folder", field=field)


def reference_names(reference: str) -> Iterator[str]:
    """Names that a photograph may have in a local folder, for a URL or path as Label Studio has it.

    Of `/data/local-files/?d=cats/1.jpg` it is `cats/1.jpg`, then `1.jpg`; of an upload also its name without the digits that
    Label Studio put before it. Folders are left out from the front one by one, because nobody knows which of them the
    local folder stands for.
    """
    try:
        parts = urlsplit(reference)
        query = parse_qs(parts.query)
    except ValueError:
        return
    asked = query.get("d")
    path = asked[0] if asked else unquote(parts.path)
    steps = [step for step in path.replace("\\", "/").split("/") if step not in ("", ".", "..")]
    for first in range(len(steps)):
        yield "/".join(steps[first:])
    if steps and (uploaded := _UPLOADED.fullmatch(steps[-1])):
        yield uploaded[1]

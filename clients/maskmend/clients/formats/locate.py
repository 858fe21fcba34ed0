"""Photographs by the names that annotation tools give them, inside one folder and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from maskmend.clients.inside import LONGEST, LeadsOutError, file_inside, printable
from maskmend.patcher.errors import ImageError, JobError

_LONGEST_REFERENCE = 4096
_DEEPEST = 32
"""Folders of a reference that are looked at, from its end."""
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
        if not name or "\0" in name or len(name) > LONGEST or Path(name).is_absolute():
            continue
        try:
            path = file_inside(root, name)
        except LeadsOutError:
            raise ImageError(
                f"{field} leads out of the images folder; only files inside it are read", field=field
            ) from None
        if path is not None:
            return path
    raise ImageError(f"{field}: {printable(shown[-100:]) or 'the photograph'} is not in the images folder", field=field)


def reference_names(reference: str) -> Iterator[str]:
    """Names that a photograph may have in a local folder, for a URL or path as Label Studio has it.

    Of `/data/local-files/?d=cats/1.jpg` it is `cats/1.jpg`, then `1.jpg`; of an upload also its name without the digits that
    Label Studio put before it. Folders are left out from the front one by one, because nobody knows which of them the
    local folder stands for. A reference of more than 4096 characters names nothing.
    """
    if len(reference) > _LONGEST_REFERENCE:
        return
    try:
        parts = urlsplit(reference)
        query = parse_qs(parts.query)
    except ValueError:
        return
    asked = query.get("d")
    path = asked[0] if asked else unquote(parts.path)
    steps = [step for step in path.replace("\\", "/").split("/") if step not in ("", ".", "..")][-_DEEPEST:]
    for first in range(len(steps)):
        yield "/".join(steps[first:])
    if steps and (uploaded := _UPLOADED.fullmatch(steps[-1])):
        yield uploaded[1]

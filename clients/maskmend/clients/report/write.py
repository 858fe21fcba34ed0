"""Writing a report: every instance measured, the most changed ones cut out, all of it put into one page."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.report.crops import cut
from maskmend.clients.report.document import Row, document, short, shown_text
from maskmend.clients.report.items import LIMIT, SIDE, About, Item, measure
from maskmend.clients.report.page import embedded, write_page
from maskmend.clients.report.truth import Fit, Truth
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import ExifPolicy, load_image

Progress = Callable[[int], None]
"""Called with the number of instances finished."""


@dataclass(slots=True)
class _Gathered:
    """Rows in the order of the file, and instances that could not be shown."""

    rows: list[Row] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)


def write_report(
    folder: Path,
    groups: Iterable[Sequence[Item]],
    about: About,
    *,
    truth: Truth | None = None,
    limit: int = LIMIT,
    side: int = SIDE,
    exif_policy: ExifPolicy = "apply",
    progress: Progress | None = None,
) -> Path:
    """Write `FOLDER/index.html`. The same input makes the same bytes.

    Each photograph is read once, and held alone; crops wait in a temporary file in `folder`.

    Args:
        folder: made where it does not exist.
        groups: instances, one group for each image.
        about: what else the page says.
        truth: ground truth.
        limit: instances that the page shows, the most changed ones; its figures are of all.
        side: longest side of a photograph's crop in px.
        exif_policy: whether photographs are turned as their EXIF orientation says.
        progress: called after each image.

    Returns:
        The page's path.

    Raises:
        JobError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as spool:
            gathered = _gather(groups, spool, truth, limit, side, exif_policy, progress)
            shown = sorted((row for row in gathered.rows if row.place), key=lambda row: row.rank, reverse=True)[:limit]
            page = folder / "index.html"
            write_page(
                page,
                shown_text(about.title),
                document(gathered.rows, shown, gathered.failed, about, truth is not None),
                _crops(spool, shown),
            )
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error.strerror}", field="report") from error
    return page


def _gather(
    groups: Iterable[Sequence[Item]],
    spool: IO[bytes],
    truth: Truth | None,
    limit: int,
    side: int,
    exif_policy: ExifPolicy,
    progress: Progress | None,
) -> _Gathered:
    gathered = _Gathered()
    best: list[tuple[int, int]] = []
    for group in groups:
        try:
            path = group[0].photograph()
            image = load_image(path, exif_policy=exif_policy)
        except MaskmendError as error:
            gathered.failed += [_failure(item, error) for item in group]
            continue
        for row, masks in _measured(group, image.shape[0], image.shape[1], truth, gathered.failed):
            # A result list may have no names of its own, only numbers.
            if row.image == str(row.item.instance.fields.get("image_id")):
                row.image = path.name
            gathered.rows.append(row)
            # An instance that as many as can be shown are already ahead of needs no crop.
            if len(best) < limit or row.rank > best[0]:
                (heapq.heappush if len(best) < limit else heapq.heapreplace)(best, row.rank)
                row.place = _spooled(spool, image, row, masks, side)
        if progress is not None:
            progress(len(gathered.rows) + len(gathered.failed))
    gathered.rows.sort(key=lambda row: row.item.number)
    gathered.failed.sort(key=lambda entry: int(entry["index"]))
    return gathered


def _measured(
    group: Sequence[Item], height: int, width: int, truth: Truth | None, failed: list[dict[str, Any]]
) -> Iterator[tuple[Row, tuple[Rle, Rle]]]:
    items, masks = [], []
    for item in group:
        try:
            masks.append(item.masks(height, width))
            items.append(item)
        except MaskmendError as error:
            failed.append(_failure(item, error))
    fits: list[Fit | None] = [None] * len(items)
    if truth is not None:
        try:
            fits = truth.match(items, masks)
        except MaskmendError as error:
            failed += [_failure(item, error) for item in items]
            return
    for item, pair, fit in zip(items, masks, fits, strict=True):
        yield Row(item, item.instance.image, measure(*pair), fit), pair


def _spooled(
    spool: IO[bytes], image: NDArray[np.uint8], row: Row, masks: tuple[Rle, Rle], side: int
) -> tuple[int, int]:
    """Write an instance's crop to the spool; where it lies there, and its length."""
    named = {"before": masks[0]}
    if row.figures.changed:
        named["after"] = masks[1]
    if row.fit is not None:
        named["truth"] = row.fit.mask
    crop = cut(image, named, side)
    if row.fit is not None:
        crop["fit"] = [[short(value) for value in values] for values in (row.fit.before, row.fit.after)]
    data = embedded(crop)
    place = spool.tell()
    spool.write(data)
    return place, len(data)


def _crops(spool: IO[bytes], shown: Sequence[Row]) -> Iterator[bytes]:
    for row in shown:
        if row.place is not None:
            spool.seek(row.place[0])
            yield spool.read(row.place[1])


def _failure(item: Item, error: MaskmendError) -> dict[str, Any]:
    return {"index": item.number, "code": error.code, "message": str(error)}

"""A job: every instance of a mask file through a refiner, in order, image by image."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskmend.clients.backends import Backend
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import MaskFile, Policies, fitted
from maskmend.clients.job_records import failure, success, take
from maskmend.clients.job_summary import JobSummary, Record
from maskmend.clients.journal import Journal
from maskmend.clients.json_files import write_lines
from maskmend.clients.remote_folder import RemoteFolder
from maskmend.clients.results import RefineResult
from maskmend.clients.storage import StorageError
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import load_image

__all__ = ["JobSummary", "Progress", "run_job"]

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all records."""
_ENDS_THE_JOB = {"connection_failed", "unexpected_answer", "unauthorized", "overloaded", "rate_limited", "unavailable"}
_ENDS_THE_JOB |= {"runtime_lost"}
"""Errors of a server, or of the Tritons of a runtime, that the next image would meet too."""
_MAY_PASS = {"deadline_exceeded", "internal", "worker_lost"}
"""Errors that may be the server's or the image's: after some in a row they are taken for the server's."""
_LOOK_AHEAD = 16
"""Images whose photographs may be fetched before their turn."""
_IN_A_ROW = 3


@dataclass
class _Work:
    """One image on its way: what is known of its instances already, and those that are to be refined."""

    numbers: list[int]
    entries: list[Record]
    image: Any = None
    wanted: list[int] = field(default_factory=list)
    coarse: list[Rle] = field(default_factory=list)
    stamp: list[int] = field(default_factory=list)
    in_journal: bool = False
    may_pass: bool = False


def run_job(
    results: Path,
    images: Path | RemoteFolder,
    output: Path,
    backend: Backend,
    *,
    format: str = "auto",
    annotations: Path | None = None,
    policies: Policies | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> JobSummary:
    """Refine the masks of a file or folder.

    Args:
        results: the file or folder.
        images: folder of the photographs; for COCO files also one at a URL.
        output: where the refined one goes; `OUTPUT.errors.jsonl` beside it when some records could not be refined.
        backend: what refines.
        format: of the file, or `auto`.
        annotations: COCO file whose `images` name the photographs of a COCO result list.
        policies: for EXIF orientation, masks of another size, and overlaps.
        resume: go on with the journal of a job that was interrupted.
        progress: called after each image.

    Returns:
        What became of the records.

    Raises:
        JobError: the job cannot be run at all, and nothing is written; or the server gave up, and `resume` goes on.
        OptionError: no such format.
    """
    policies = policies or Policies()
    masks = _open(results, images, output, format, annotations, policies)
    if masks.one_per_pixel and not backend.provenance.get("arbitrate", 1) and policies.overlaps == "error":
        raise JobError(
            f"format {masks.name} has one instance per pixel: leave --arbitrate on, or say with --overlaps who takes a "
            "pixel that two want",
            field="overlaps",
        )
    fingerprint = {
        "input": _digest(results, masks.files()),
        "format": masks.name,
        "exif_policy": policies.exif_policy,
        "size_mismatch": policies.size_mismatch,
        "images": images.url if isinstance(images, RemoteFolder) else str(images.resolve()),
        "annotations": None if annotations is None else _digest(annotations, [annotations]),
        **backend.provenance,
    }
    summary = JobSummary(masks, records=len(masks.instances))
    with Journal(_beside(output, ".partial.jsonl"), fingerprint, resume=resume) as journal:
        done = 0
        for work in _refined(masks, backend, policies, journal):
            if not work.in_journal and not work.may_pass:
                journal.append({"first": work.numbers[0], "photograph": work.stamp, "records": work.entries})
            take(masks, work.entries, summary)
            done += len(work.numbers)
            if progress is not None:
                progress(done, summary.records)
        summary.errors.sort(key=lambda error: int(error["index"]))
        # First, so that an output is never there without the list of what is missing in it.
        write_lines(_beside(output, ".errors.jsonl"), summary.errors)
        masks.save(output)
    journal.remove()
    return summary


def _open(
    results: Path, images: Path | RemoteFolder, output: Path, format: str, annotations: Path | None, policies: Policies
) -> MaskFile:
    if isinstance(images, Path) and not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    if not output.parent.is_dir():
        raise JobError(f"--output {output}: the folder {output.parent} does not exist; create it first", field="output")
    if output.exists() and results.exists() and output.samefile(results):
        raise JobError("--output is the input file; choose another name", field="output")
    if annotations is not None and output.exists() and annotations.exists() and output.samefile(annotations):
        raise JobError("--output is the --annotations file; choose another name", field="output")
    masks = open_masks(results, images, format=format, annotations=annotations, policies=policies)
    if masks.writes_folder and output.is_dir() and any(output.iterdir()):
        raise JobError(f"--output {output} is a folder with files in it; choose another name", field="output")
    return masks


def _digest(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 of the names and contents of files; of a single file, of its content alone."""
    found = hashlib.sha256()
    for file in files:
        if file != root:
            found.update(os.fsencode(os.path.relpath(file, root)) + b"\0")
        with file.open("rb") as source:
            found.update(hashlib.file_digest(source, "sha256").digest())
    return found.hexdigest()


def _refined(masks: MaskFile, backend: Backend, policies: Policies, journal: Journal) -> Iterator[_Work]:
    """The images in order, each with what became of its instances."""
    waiting: deque[_Work] = deque()
    doubtful = 0

    def items() -> Iterator[tuple[Any, list[Rle]]]:
        for numbers in _looking_ahead(masks, journal):
            stamp = masks.stamp(numbers[0])
            entry = journal.done.get(numbers[0])
            # Of another photograph than that of today it says nothing; and what failed may do better now.
            if entry is not None and entry["photograph"] == stamp and not any("error" in r for r in entry["records"]):
                waiting.append(_Work(numbers, entry["records"], in_journal=True))
                continue
            work = _prepared(masks, numbers, backend, policies)
            work.stamp = stamp
            waiting.append(work)
            if work.wanted:
                yield work.image, work.coarse
                work.image = None

    with closing(backend.refine_many(items(), return_exceptions=True)) as results:
        for result in results:
            while not waiting[0].wanted:
                yield waiting.popleft()
            work = waiting.popleft()
            work.may_pass = isinstance(result, MaskmendError) and result.code in _MAY_PASS
            doubtful = doubtful + 1 if work.may_pass else 0
            work.entries += _entries(masks, work, result, backend, end=doubtful >= _IN_A_ROW)
            yield work
    while waiting:
        yield waiting.popleft()


def _looking_ahead(masks: MaskFile, journal: Journal) -> Iterator[list[int]]:
    """Numbers of the instances of each image, when the photographs of the next ones are expected."""
    ahead: deque[list[int]] = deque()
    for _, numbers in masks.by_image():
        masks.expect(numbers[0], whole=numbers[0] not in journal.done)
        ahead.append(numbers)
        if len(ahead) > _LOOK_AHEAD:
            yield ahead.popleft()
    yield from ahead


def _prepared(masks: MaskFile, numbers: list[int], backend: Backend, policies: Policies) -> _Work:
    """Open the photograph and read the masks; what cannot be read is left alone, with the reason."""
    wanted = [n for n in numbers if masks.instances[n].refinable]
    work = _Work(numbers, [{"index": n, "crowd": True} for n in numbers if not masks.instances[n].refinable])
    if not wanted:
        return work
    try:
        photograph = masks.photograph(wanted[0])
        work.image, height, width = backend.open(photograph, policies.exif_policy)
    except StorageError as error:
        raise JobError(f"{error}; once that is mended, run again with --resume", field="images") from error
    except MaskmendError as error:
        work.entries += [failure(masks, n, error) for n in wanted]
        return work
    for n in wanted:
        try:
            mask = masks.mask(n, height, width)
            work.coarse.append(fitted(mask, height, width, policies, "segmentation"))
            work.wanted.append(n)
        except MaskmendError as error:
            work.entries.append(failure(masks, n, error))
    if len(work.wanted) < len(wanted) and not isinstance(work.image, np.ndarray):
        # Of a photograph that is damaged nothing else is said; a backend may have looked at its header only.
        try:
            load_image(photograph, exif_policy=policies.exif_policy)
        except MaskmendError as error:
            return _Work(
                numbers, work.entries[: len(numbers) - len(wanted)] + [failure(masks, n, error) for n in wanted]
            )
    return work


def _entries(
    masks: MaskFile, work: _Work, result: RefineResult | MaskmendError, backend: Backend, *, end: bool
) -> list[Record]:
    if isinstance(result, MaskmendError):
        if end or result.code in _ENDS_THE_JOB:
            raise JobError(f"{result}; once that is mended, run again with --resume", field="server") from result
        return [failure(masks, n, result) for n in work.wanted]
    if result.provenance != backend.provenance:
        changed = sorted(k for k, v in result.provenance.items() if backend.provenance.get(k) != v)
        raise JobError(
            f"the server's {', '.join(changed)[:200] or 'provenance'} changed while the job ran; run it anew, so that one "
            "set of weights makes all masks",
            field="server",
        )
    return [
        success(n, coarse, instance)
        for n, coarse, instance in zip(work.wanted, work.coarse, result.instances, strict=True)
    ]


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.name + suffix)

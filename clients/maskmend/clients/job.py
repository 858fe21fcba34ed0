"""A job: every instance of a mask file through a refiner, in order, image by image."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from maskmend.clients.backends import Backend
from maskmend.clients.formats import open_masks
from maskmend.clients.formats.base import MaskFile, Policies, fitted
from maskmend.clients.journal import Journal
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError

Record = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all records."""
_ENDS_THE_JOB = {"connection_failed", "unexpected_answer", "unauthorized", "overloaded", "rate_limited", "unavailable"}
"""Errors of a server that the next image would meet too."""


@dataclass
class JobSummary:
    """What became of the records.

    Attributes:
        records: in the file.
        refined: went through the refiner, whether or not a pixel changed.
        changed: of these, how many came out different.
        abstained: of these, how many the guard kept as they were.
        crowds: crowd regions and whatever else is not to be refined, passed through untouched.
        errors: one entry per record that could not be refined: index, id, image_id, code, message.
        instances: per refined record: index, image_id, changed_pixels, confidence, score, undone, abstained,
            max_displacement_px, and where it changed `coarse`, the mask as it came, as COCO RLE.
        masks: the mask file, with refined masks in it.
    """

    records: int = 0
    refined: int = 0
    changed: int = 0
    abstained: int = 0
    crowds: int = 0
    errors: list[Record] = field(default_factory=list)
    instances: list[Record] = field(default_factory=list)
    masks: MaskFile | None = None


@dataclass
class _Work:
    """One image on its way: what is known of its instances already, and those that are to be refined."""

    numbers: list[int]
    entries: list[Record]
    image: Any = None
    wanted: list[int] = field(default_factory=list)
    coarse: list[Rle] = field(default_factory=list)
    in_journal: bool = False


def run_job(
    results: Path,
    images: Path,
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
        images: folder of the photographs.
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
    fingerprint = {
        "input": _digest(results),
        "format": masks.name,
        "exif_policy": policies.exif_policy,
        "size_mismatch": policies.size_mismatch,
        **backend.provenance,
    }
    summary = JobSummary(records=len(masks.instances), masks=masks)
    with Journal(_beside(output, ".partial.jsonl"), fingerprint, resume=resume) as journal:
        done = 0
        for numbers, entries, is_new in _refined(masks, backend, policies, journal):
            if is_new:
                journal.append({"first": numbers[0], "records": entries})
            _take(masks, entries, summary)
            done += len(numbers)
            if progress is not None:
                progress(done, summary.records)
        masks.save(output)
        _write_errors(_beside(output, ".errors.jsonl"), summary)
    journal.remove()
    return summary


def _open(
    results: Path, images: Path, output: Path, format: str, annotations: Path | None, policies: Policies
) -> MaskFile:
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    if not output.parent.is_dir():
        raise JobError(f"--output {output}: the folder {output.parent} does not exist; create it first", field="output")
    if output.exists() and results.exists() and output.samefile(results):
        raise JobError("--output is the input file; choose another name", field="output")
    masks = open_masks(results, images, format=format, annotations=annotations, policies=policies)
    if masks.writes_folder and output.is_dir() and any(output.iterdir()):
        raise JobError(f"--output {output} is a folder with files in it; choose another name", field="output")
    return masks


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            found.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()


def _refined(
    masks: MaskFile, backend: Backend, policies: Policies, journal: Journal
) -> Iterator[tuple[list[int], list[Record], bool]]:
    """Of each image, in order: its record numbers, what became of each, and whether that is news to the journal."""
    waiting: deque[_Work] = deque()

    def items() -> Iterator[tuple[Any, list[Rle]]]:
        for _, numbers in masks.by_image():
            entry = journal.done.get(numbers[0])
            if entry is not None:
                waiting.append(_Work(numbers, entry["records"], in_journal=True))
                continue
            work = _prepared(masks, numbers, backend, policies)
            waiting.append(work)
            if work.wanted:
                yield work.image, work.coarse
                work.image = None

    for result in backend.refine_many(items(), return_exceptions=True):
        while not waiting[0].wanted:
            yield _finished(waiting.popleft())
        work = waiting.popleft()
        work.entries += _entries(masks, work, result)
        yield _finished(work)
    while waiting:
        yield _finished(waiting.popleft())


def _finished(work: _Work) -> tuple[list[int], list[Record], bool]:
    return work.numbers, work.entries, not work.in_journal


def _prepared(masks: MaskFile, numbers: list[int], backend: Backend, policies: Policies) -> _Work:
    """Open the photograph and read the masks; what cannot be read is left alone, with the reason."""
    wanted = [n for n in numbers if masks.instances[n].refinable]
    work = _Work(numbers, [{"index": n, "crowd": True} for n in numbers if not masks.instances[n].refinable])
    if not wanted:
        return work
    try:
        work.image, height, width = backend.open(masks.photograph(wanted[0]), policies.exif_policy)
    except MaskmendError as error:
        work.entries += [_failure(masks, n, error) for n in wanted]
        return work
    for n in wanted:
        try:
            mask = masks.mask(n, height, width)
            work.coarse.append(fitted(mask, height, width, policies, "segmentation"))
            work.wanted.append(n)
        except MaskmendError as error:
            work.entries.append(_failure(masks, n, error))
    return work


def _entries(masks: MaskFile, work: _Work, result: RefineResult | MaskmendError) -> list[Record]:
    if isinstance(result, MaskmendError):
        if result.code in _ENDS_THE_JOB:
            raise JobError(f"{result}; once that is mended, run again with --resume", field="server") from result
        return [_failure(masks, n, result) for n in work.wanted]
    return [
        _success(n, coarse, instance)
        for n, coarse, instance in zip(work.wanted, work.coarse, result.instances, strict=True)
    ]


def _success(number: int, coarse: Rle, instance: RefinedInstance) -> Record:
    entry: Record = {
        "index": number,
        "changed_pixels": instance.changed_pixels,
        "confidence": round(instance.confidence, 4),
        "score": round(instance.score, 4),
        "undone": instance.undone,
        "abstained": instance.abstained,
        "max_displacement_px": round(instance.max_displacement_px, 3),
    }
    if instance.changed_pixels:
        entry |= {"coarse": coarse.to_coco(), "refined": instance.rle}
    return entry


def _failure(masks: MaskFile, number: int, error: MaskmendError) -> Record:
    fields = masks.instances[number].fields
    return {
        "index": number,
        "error": {
            "index": number,
            "id": fields.get("id"),
            "image_id": fields.get("image_id", masks.instances[number].image),
            "code": error.code,
            "message": str(error)[:1000],
        },
    }


def _take(masks: MaskFile, entries: list[Record], summary: JobSummary) -> None:
    """Put one image's refined masks into the file, and count them."""
    for entry in entries:
        number = entry["index"]
        instance = masks.instances[number]
        if "error" in entry:
            summary.errors.append(entry["error"])
        elif "crowd" in entry:
            summary.crowds += 1
        else:
            summary.refined += 1
            summary.abstained += entry["abstained"] is not None
            kept = {key: value for key, value in entry.items() if key != "refined"}
            summary.instances.append({**kept, "image_id": instance.fields.get("image_id", instance.image)})
            if "refined" in entry:
                summary.changed += 1
                masks.replace(number, Rle.from_coco(entry["refined"]))


def _write_errors(path: Path, summary: JobSummary) -> None:
    if not summary.errors:
        path.unlink(missing_ok=True)
        return
    lines = [orjson.dumps(error) for error in sorted(summary.errors, key=lambda error: int(error["index"]))]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.name + suffix)

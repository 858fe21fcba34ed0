"""A job: every record of a COCO file through the engine, in order, one image at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from maskmend.clients.coco import CocoFile, ImageFolder, Record, photographs, read_coco, write_json
from maskmend.clients.journal import Journal
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import ImageError, JobError, MaskError, MaskmendError
from maskmend.patcher.images import ExifPolicy, load_image
from maskmend.service import Engine, InstanceResult

Progress = Callable[[int, int], None]
"""Called with the numbers of finished and of all records."""


@dataclass
class JobSummary:
    """What became of the records.

    Attributes:
        records: in the file.
        refined: went through the refiner, whether or not a pixel changed.
        changed: of these, how many came out different.
        abstained: of these, how many the guard kept as they were.
        crowds: crowd regions, passed through untouched.
        errors: one entry per record that could not be refined: index, id, image_id, code, message.
        instances: per refined record: index, image_id, changed_pixels, confidence, score, undone,
            abstained, patches.
    """

    records: int = 0
    refined: int = 0
    changed: int = 0
    abstained: int = 0
    crowds: int = 0
    errors: list[Record] = field(default_factory=list)
    instances: list[Record] = field(default_factory=list)


def run_job(
    results: Path,
    images: Path,
    output: Path,
    engine: Engine,
    *,
    annotations: Path | None = None,
    exif_policy: ExifPolicy = "apply",
    resume: bool = False,
    progress: Progress | None = None,
) -> JobSummary:
    """Refine a COCO result list or instances file.

    Args:
        results: the file.
        images: folder of the photographs.
        output: where the refined file goes; `OUTPUT.errors.jsonl` beside it when some records could not be refined.
        engine: see `Engine`.
        annotations: COCO file whose `images` name the photographs of a result list.
        exif_policy: whether EXIF rotation is applied; the masks must be of the size that results.
        resume: go on with the journal of a job that was interrupted.
        progress: called after each image.

    Returns:
        What became of the records.

    Raises:
        JobError: the job cannot be run at all; nothing is written.
    """
    coco, source_hash = _open(results, images, output)
    folder = photographs(images, coco, annotations)
    fingerprint = {"input": source_hash, "exif_policy": exif_policy, **engine.provenance}
    summary = JobSummary(records=len(coco.records))
    done = 0
    with Journal(_beside(output, ".partial.jsonl"), fingerprint, resume=resume) as journal:
        for image_id, numbers in coco.by_image():
            entry = journal.done.get(image_id)
            if entry is None:
                entry = {"image_id": image_id, "records": _refine_image(coco, numbers, folder, engine, exif_policy)}
                journal.append(entry)
            _take(coco, entry["records"], summary)
            done += len(numbers)
            if progress is not None:
                progress(done, summary.records)
        with engine.stages.measure("encode"):
            write_json(output, coco.document)
        _write_errors(_beside(output, ".errors.jsonl"), summary)
    journal.remove()
    return summary


def _open(results: Path, images: Path, output: Path) -> tuple[CocoFile, str]:
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    if not output.parent.is_dir():
        raise JobError(f"--output {output}: the folder {output.parent} does not exist; create it first", field="output")
    if output.exists() and output.samefile(results):
        raise JobError("--output is the input file; choose another name", field="output")
    coco = read_coco(results)
    return coco, hashlib.sha256(results.read_bytes()).hexdigest()


def _refine_image(
    coco: CocoFile, numbers: list[int], folder: ImageFolder, engine: Engine, exif_policy: ExifPolicy
) -> list[Record]:
    """One journal entry per record of the image: what to write into it, or why it is left alone."""
    wanted = [n for n in numbers if not coco.records[n].get("iscrowd")]
    crowds: list[Record] = [{"index": n, "crowd": True} for n in numbers if coco.records[n].get("iscrowd")]
    if not wanted:
        return crowds
    try:
        with engine.stages.measure("decode"):
            image = load_image(folder.find(coco.records[wanted[0]]), exif_policy=exif_policy)
    except MaskmendError as error:
        return crowds + [_failure(coco, n, error) for n in wanted]
    entries, masks, places = crowds, [], []
    for n in wanted:
        try:
            with engine.stages.measure("decode"):
                masks.append(_mask(coco.records[n], image.shape[0], image.shape[1]))
            places.append(n)
        except MaskmendError as error:
            entries.append(_failure(coco, n, error))
    for n, coarse, result in zip(places, masks, engine.refine_image(image, masks), strict=True):
        with engine.stages.measure("encode"):
            entries.append(_success(coco.records[n], n, coarse, result))
    return entries


def _mask(record: Record, height: int, width: int) -> Rle:
    segmentation = record.get("segmentation")
    if segmentation is None:
        raise MaskError("segmentation is missing; only records with a mask can be refined", field="segmentation")
    try:
        return as_rle(segmentation, height=height, width=width, field="segmentation")
    except MaskError as error:
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if size in ([width, height], (width, height)) and height != width:
            raise ImageError(
                f"segmentation is {height}x{width} px (width x height) but the image is {width}x{height}; the image may "
                "carry an EXIF rotation: try --exif-policy ignore, or --exif-policy apply",
                field="segmentation.size",
            ) from error
        raise


def _success(record: Record, number: int, coarse: Rle, result: InstanceResult) -> Record:
    entry: Record = {
        "index": number,
        "changed_pixels": result.changed_pixels,
        "confidence": round(result.confidence, 4),
        "score": round(result.score, 4),
        "undone": result.undone,
        "abstained": result.abstained,
        "patches": result.patches,
    }
    if result.changed_pixels:
        update: Record = {"segmentation": result.mask.to_coco()}
        if "bbox" in record:
            update["bbox"] = [float(value) for value in result.mask.bbox]
        if "area" in record:
            update["area"] = result.mask.area
        entry["update"] = update
    return entry


def _failure(coco: CocoFile, number: int, error: MaskmendError) -> Record:
    record = coco.records[number]
    return {
        "index": number,
        "error": {
            "index": number,
            "id": record.get("id"),
            "image_id": record.get("image_id"),
            "code": error.code,
            "message": str(error)[:1000],
        },
    }


def _take(coco: CocoFile, entries: list[Record], summary: JobSummary) -> None:
    """Write one image's finished entries into the document and count them."""
    for entry in entries:
        record = coco.records[entry["index"]]
        if "error" in entry:
            summary.errors.append(entry["error"])
        elif "crowd" in entry:
            summary.crowds += 1
        else:
            summary.refined += 1
            summary.changed += "update" in entry
            summary.abstained += entry["abstained"] is not None
            kept = {key: value for key, value in entry.items() if key != "update"}
            summary.instances.append({**kept, "image_id": record.get("image_id")})
            if "update" in entry:
                summary.instances[-1]["coarse"] = record["segmentation"]
                record.update(entry["update"])


def _write_errors(path: Path, summary: JobSummary) -> None:
    if not summary.errors:
        path.unlink(missing_ok=True)
        return
    lines = [orjson.dumps(error) for error in sorted(summary.errors, key=lambda error: int(error["index"]))]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.name + suffix)

"""What a job notes of each instance, and what becomes of the notes."""

from __future__ import annotations

from typing import Any

from maskmend.clients.formats.base import Instance, MaskFile
from maskmend.clients.inside import printable
from maskmend.clients.job_summary import JobSummary, Record
from maskmend.clients.results import RefinedInstance
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskmendError


def success(number: int, coarse: Rle, instance: RefinedInstance) -> Record:
    """What the journal keeps of an instance that went through the refiner."""
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


def failure(masks: MaskFile, number: int, error: MaskmendError) -> Record:
    """What the journal keeps of an instance that could not be refined."""
    instance = masks.instances[number]
    return {
        "index": number,
        "error": {
            "index": number,
            "id": instance.fields.get("id"),
            "image_id": _image_id(instance),
            "code": error.code,
            "message": str(error)[:1000],
        },
    }


def _image_id(instance: Instance) -> Any:
    """The image of an instance as COCO numbers it, or the name that its format has."""
    return instance.fields.get("image_id", printable(instance.image))


def take(masks: MaskFile, entries: list[Record], summary: JobSummary) -> None:
    """Put one image's refined masks into the file, and count them."""
    for entry in entries:
        number = entry["index"]
        if "error" in entry:
            summary.errors.append(entry["error"])
        elif "crowd" in entry:
            summary.crowds += 1
        else:
            try:
                if "refined" in entry:
                    masks.replace(number, Rle.from_coco(entry["refined"]))
            except MaskmendError as error:
                # Not every format holds every mask: a polygon cannot be empty.
                summary.errors.append(failure(masks, number, error)["error"])
                continue
            summary.refined += 1
            summary.changed += "refined" in entry
            summary.abstained += entry["abstained"] is not None
            kept = {key: value for key, value in entry.items() if key != "refined"}
            summary.instances.append({**kept, "image_id": _image_id(masks.instances[number])})

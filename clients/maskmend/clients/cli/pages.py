"""Pages that commands write: the report of a job, and the demo's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmend.clients.coco import ImageFolder, photographs, read_coco
from maskmend.clients.report import Shown, shown_instance, write_html
from maskmend.patcher.images import ExifPolicy, load_image

if TYPE_CHECKING:
    from maskmend.clients.job import JobSummary


def write_job_report(
    folder: Path,
    output: Path,
    images: Path,
    annotations: Path | None,
    summary: JobSummary,
    provenance: dict[str, str | int | float],
    exif_policy: str,
    count: int,
) -> None:
    """Write `FOLDER/index.html`: what the job did, and its `count` most changed instances."""
    coco = read_coco(output)
    folder_of_images = photographs(images, coco, annotations)
    ranked = sorted(summary.instances, key=lambda i: (-int(i["changed_pixels"]), int(i["index"])))
    policy: ExifPolicy = "apply" if exif_policy == "apply" else "ignore"
    items = [
        _shown(instance, coco.records[instance["index"]], folder_of_images, policy)
        for instance in ranked[:count]
        if instance["changed_pixels"]
    ]
    facts = [
        ("records", str(summary.records)),
        ("refined", str(summary.refined)),
        ("changed", str(summary.changed)),
        ("kept by the guard", str(summary.abstained)),
        ("kept because of an error", str(len(summary.errors))),
        *((key.replace("_", " "), str(value)) for key, value in provenance.items()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_html(folder / "index.html", f"maskmend: {output.name}", facts, items)


def _shown(instance: dict[str, Any], record: dict[str, Any], folder: ImageFolder, exif_policy: ExifPolicy) -> Shown:
    path = folder.find(record)
    return shown_instance(
        load_image(path, exif_policy=exif_policy),
        instance["coarse"],
        record["segmentation"],
        f"{path.name}, record {instance['index']}",
        f"{instance['changed_pixels']} px changed, confidence {instance['confidence']:.2f}",
    )

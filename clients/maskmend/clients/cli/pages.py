"""The page that `refine --report` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmend.clients.coco import read_coco
from maskmend.clients.formats.base import MaskFile, Policies, fitted
from maskmend.clients.report.items import SIDE, About, Item
from maskmend.clients.report.pairs import category_names, open_source
from maskmend.clients.report.truth import Truth, totals_table
from maskmend.clients.report.write import write_report
from maskmend.patcher import Rle, as_rle
from maskmend.patcher.errors import MaskmendError, OptionError
from maskmend.patcher.images import ExifPolicy

if TYPE_CHECKING:
    from maskmend.clients.job import JobSummary

_RESIZED = Policies(size_mismatch="resize")


def write_job_report(
    folder: Path,
    output: Path,
    summary: JobSummary,
    provenance: dict[str, str | int | float],
    exif_policy: ExifPolicy,
    count: int,
    *,
    annotations: Path | None = None,
    coarse: Path | None = None,
    truth: Path | None = None,
    side: int = SIDE,
) -> Path:
    """Write `FOLDER/index.html`: what the job did, and its `count` most changed instances.

    Args:
        folder: of the page; made where it does not exist.
        output: the refined file.
        summary: of the job.
        provenance: what refined the masks.
        exif_policy: `apply` or `ignore`.
        count: instances shown, at most.
        annotations: COCO file whose `categories` name those of a COCO result list.
        coarse: the file that was refined; with `truth`, average precision is worked out for both.
        truth: COCO instances file of the ground truth.
        side: longest side of a photograph's crop in px.

    Returns:
        The page's path.

    Raises:
        JobError: a file cannot be used, or the page cannot be written.
    """
    refined = summary.masks
    true, note = None, ""
    totals: list[list[str]] = []
    if truth is not None:
        true = Truth(open_source(truth, None, format="coco").masks)
        if coarse is not None and refined.name == "coco":
            totals, note = totals_table(truth, [coarse, output], ("coarse", "refined"))
    about = About(
        title=f"maskmend: {output.name}",
        counts=_counts(summary),
        facts=[(key.replace("_", " "), str(value)) for key, value in provenance.items()],
        errors=summary.errors,
        totals=totals,
        note=note,
        labels=category_names(annotations, truth),
    )
    return write_report(folder, _groups(summary), about, truth=true, limit=count, side=side, exif_policy=exif_policy)


def check_report(report: Path | None, truth: Path | None) -> None:
    """Whatever is wrong with the report is said before hours of work, not after them.

    Raises:
        OptionError: the folder cannot be made, or the truth is of no use.
    """
    if report is None:
        if truth is not None:
            raise OptionError("--gt is for the report; give --report DIR too, or use maskmend evaluate", field="gt")
        return
    try:
        report.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--report {report} cannot be made a folder: {error.strerror}", field="report") from error
    if truth is not None and read_coco(truth, field="gt").is_results:
        raise OptionError(f"--gt {truth} is a result list; give a COCO instances file", field="gt")


def told(write: Callable[[], Path]) -> str:
    """Write the report and say where; or why not, for the job itself is done."""
    try:
        return f"report: {write()}"
    except MaskmendError as error:
        return f"the report could not be written: {error}"


def _counts(summary: JobSummary) -> list[tuple[str, int, str]]:
    undone: Counter[str] = Counter()
    for instance in summary.instances:
        undone.update(instance.get("undone") or {})
    told = ", ".join(f"{reason} {count} px" for reason, count in undone.most_common())
    crowds = [("crowd regions", summary.crowds, "passed through untouched")] if summary.crowds else []
    return [
        ("records", summary.records, ""),
        ("refined", summary.refined, "went through the refiner"),
        ("changed", summary.changed, f"undone in part: {told}" if told else ""),
        ("kept by the guard", summary.abstained, ""),
        *crowds,
        ("kept because of an error", len(summary.errors), ""),
    ]


def _groups(summary: JobSummary) -> Iterator[list[Item]]:
    refined = summary.masks
    by_number = {int(instance["index"]): instance for instance in summary.instances}
    for _, numbers in refined.by_image():
        group = [_item(refined, by_number[number]) for number in numbers if number in by_number]
        if group:
            yield group


def _item(refined: MaskFile, entry: dict[str, Any]) -> Item:
    number, coarse = int(entry["index"]), entry.get("coarse")

    def masks(height: int, width: int) -> tuple[Rle, Rle]:
        # The job has let masks of another size through only where it was told to resize them.
        after = fitted(refined.mask(number, height, width), height, width, _RESIZED, "segmentation")
        # What did not change is not kept twice.
        before = after if coarse is None else as_rle(coarse, height=height, width=width, field="coarse")
        return before, after

    return Item(
        number,
        refined.instances[number],
        lambda: refined.photograph(number),
        masks,
        confidence=entry.get("confidence"),
        score=entry.get("score"),
        abstained=entry.get("abstained"),
    )

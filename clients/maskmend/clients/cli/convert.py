"""`maskmend convert`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from maskmend.clients.cli.conventions import KEPT, one_of
from maskmend.clients.cli.progress import JobProgress, console, say_errors
from maskmend.clients.format_names import FORMATS

if TYPE_CHECKING:
    from maskmend.clients.convert import ConversionSummary
    from maskmend.clients.formats.base import OverlapPolicy, SizePolicy
    from maskmend.patcher.images import ExifPolicy


def convert(
    source: Path = typer.Argument(..., help="File or folder of masks."),
    images: Path = typer.Option(..., "--images", help="Folder of the photographs; of each the size is read."),
    to: str = typer.Option(..., "--to", help=f"Format to write: {', '.join(FORMATS)}."),
    output: Path = typer.Option(..., "--output", "-o", help="File or folder to write."),
    source_format: str = typer.Option("auto", "--from", help="Format of the source; auto looks at it."),
    annotations: Path = typer.Option(
        None, "--annotations", help="COCO file that names the photographs and categories of a COCO result list."
    ),
    overlaps: str = typer.Option(
        "error",
        "--overlaps",
        help="Where the target has one instance per pixel and two share one: error, or first, last or smallest takes it.",
    ),
    size_mismatch: str = typer.Option(
        "error", "--size-mismatch", help="A mask of another size than its photograph: error, or resize."
    ),
    exif_policy: str = typer.Option("apply", "--exif-policy", help="apply or ignore the EXIF rotation of photographs."),
    tolerance: float = typer.Option(
        None,
        "--tolerance",
        help="Farthest that a polygon may lie from the mask's outline, in px; 0 for exact outlines, or for masks instead "
        "of polygons where the format has both. The format's own if not given.",
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an output of the same format."),
) -> None:
    """Convert masks from one format to another.

    Boxes, points and stuff are not converted, nor crowds where the target has none. Labels are lost in png and index-png;
    yolo gets one polygon per instance, parts and holes joined by cuts.

    Exit codes: 0 all converted; 2 unusable input, nothing written; 3 some instances left out, see OUTPUT.errors.jsonl.

    Examples:
        maskmend convert instances.json --images photos --to yolo --output dataset --tolerance 0.5

        maskmend convert VOC2012 --images VOC2012/JPEGImages --to coco --output voc.json

        maskmend convert results.json --images photos --to index-png --output masks --overlaps smallest
    """
    from maskmend.clients.convert import run_conversion
    from maskmend.clients.formats import mask_format
    from maskmend.clients.formats.base import Policies
    from maskmend.patcher.simplify import check_tolerance

    one_of("to", to, FORMATS)
    one_of("overlaps", overlaps, ("error", "first", "last", "smallest"))
    one_of("size-mismatch", size_mismatch, ("error", "resize"))
    one_of("exif-policy", exif_policy, ("apply", "ignore"))
    policies = Policies(
        exif_policy=cast("ExifPolicy", exif_policy),
        size_mismatch=cast("SizePolicy", size_mismatch),
        overlaps=cast("OverlapPolicy", overlaps),
        tolerance=mask_format(to).default_tolerance if tolerance is None else check_tolerance(tolerance),
    )
    began = time.monotonic()
    with JobProgress("converting", "instances read") as progress:
        summary = run_conversion(
            source,
            images,
            output,
            to,
            source_format=source_format,
            annotations=annotations,
            policies=policies,
            overwrite=overwrite,
            progress=progress,
        )
    _say(summary, time.monotonic() - began, output)
    if summary.errors:
        raise typer.Exit(KEPT)


def _say(summary: ConversionSummary, seconds: float, output: Path) -> None:
    passed = f", {summary.passed} without a mask to convert" if summary.passed else ""
    console.print(
        f"{output}: {summary.written} of {summary.instances} instances converted{passed} in {seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    say_errors(len(summary.errors), "instances left out", output)

"""`maskmend view`."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from maskmend.patcher.errors import JobError, OptionError

console = Console(stderr=True)


def view(
    before: Path = typer.Argument(..., help="File of masks before, of any format that `refine` reads."),
    after: Path = typer.Argument(..., help="File of masks after."),
    images: Path = typer.Option(..., "--images", help="Folder of the photographs."),
    gt: Path = typer.Option(None, "--gt", help="COCO instances file of the ground truth."),
    output: Path = typer.Option(Path("report"), "--output", "-o", help="Folder to write index.html into."),
    limit: int = typer.Option(5000, "--limit", help="Instances to show: the most changed ones."),
    side: int = typer.Option(512, "--side", help="Longest side of a photograph's crop, in px."),
    annotations: Path = typer.Option(
        None, "--annotations", help="COCO file that names photographs and categories of a COCO result list."
    ),
    format: str = typer.Option("auto", "--format", help="Format of both files; auto looks at each."),
    exif_policy: str = typer.Option("apply", "--exif-policy", help="apply or ignore the EXIF rotation of photographs."),
    open_page: bool = typer.Option(False, "--open", help="Open the page in the browser."),
) -> None:
    """Compare two files of the same instances: one page with figures, a gallery, and each instance before and after.

    Records are matched by `id` where every record of both files has one of its own, else by `annotation_id` likewise, else
    by their order within image and category. Images are the same where their photographs are. The page is one file that
    needs no server and no network.

    Exit codes: 0 written; 2 unusable input, or two files that do not fit.

    Examples:
        maskmend view results.json refined.json --images val2017 --open

        maskmend view a.json b.json --images photos --gt truth.json --output compare --limit 500
    """
    from maskmend.clients.formats import format_of
    from maskmend.clients.formats.coco import CocoMasks
    from maskmend.clients.report.items import About
    from maskmend.clients.report.pairs import category_names, match, open_source
    from maskmend.clients.report.truth import Truth, totals_table
    from maskmend.clients.report.write import write_report

    if limit < 1:
        raise OptionError(f"--limit is {limit}; use 1 or more", field="limit")
    if not 64 <= side <= 4096:
        raise OptionError(f"--side is {side}; use 64 to 4096", field="side")
    if exif_policy not in ("apply", "ignore"):
        raise OptionError(f"--exif-policy is {exif_policy!r}; use apply or ignore", field="exif_policy")
    if not images.is_dir():
        raise JobError(f"--images {images} is not a folder", field="images")
    named = [annotations if format_of(path, format) is CocoMasks else None for path in (before, after)]
    if annotations is not None and named == [None, None]:
        raise OptionError(
            "--annotations is for COCO result lists, and neither file is one of COCO's", field="annotations"
        )
    sources = [
        open_source(path, images, format=format, annotations=names, exif=exif_policy)
        for path, names in zip((before, after), named, strict=True)
    ]
    pairs = match(*sources)
    truth, note = None, ""
    totals: list[list[str]] = []
    if gt is not None:
        truth = Truth(open_source(gt, None, format="coco").masks)
        if all(source.masks.name == "coco" for source in sources):
            totals, note = totals_table(gt, [before, after], ("before", "after"))
        else:
            note = "Average precision is worked out for COCO files only."
    compared = len(pairs.partners) - pairs.left_out
    about = About(
        title=f"{before.name} and {after.name}",
        sides=("before", "after"),
        counts=[("records", len(pairs.partners), pairs.how), ("compared", compared, "")],
        facts=[
            ("before", before.name),
            ("after", after.name),
            *([("ground truth", gt.name)] if gt is not None else []),
        ],
        totals=totals,
        note=note,
        labels=category_names(annotations, gt),
    )
    page = write_report(
        output,
        pairs.groups(),
        about,
        truth=truth,
        limit=limit,
        side=side,
        exif_policy="ignore" if exif_policy == "ignore" else "apply",
    )
    console.print(f"{compared} instances compared, {pairs.how}: {page}", highlight=False, soft_wrap=True, markup=False)
    if open_page:
        typer.launch(page.resolve().as_uri())

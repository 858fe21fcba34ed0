"""`maskmend refine`."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from maskmend.clients.cli import KEPT
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from maskmend.clients.job import JobSummary
    from maskmend.service import StageTimes

console = Console(stderr=True)
SHOWN_IN_REPORT = 24


def _from_file(context: typer.Context, value: Path | None) -> Path | None:
    """Take defaults from a TOML or JSON file; what is given on the command line wins."""
    if value is None:
        return None
    try:
        text = value.read_text()
        values: dict[str, Any] = json.loads(text) if value.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise OptionError(f"--config {value} cannot be read as TOML or JSON: {error}", field="config") from error
    known = {parameter.name for parameter in context.command.params} - {"config", "results"}
    unknown = sorted(set(values) - {str(name) for name in known})
    if unknown:
        raise OptionError(
            f"--config {value}: unknown key {unknown[0]!r}; use {', '.join(sorted(map(str, known)))}", field=unknown[0]
        )
    context.default_map = {**(context.default_map or {}), **values}
    return value


def refine(
    context: typer.Context,
    results: Path = typer.Argument(..., help="COCO result list or instances file."),
    images: Path = typer.Option(..., "--images", help="Folder of the photographs."),
    output: Path = typer.Option(..., "--output", "-o", help="Refined file to write."),
    config: Path = typer.Option(
        None, "--config", callback=_from_file, is_eager=True, help="TOML or JSON file of these options."
    ),
    annotations: Path = typer.Option(None, "--annotations", help="COCO file whose `images` name the photographs."),
    refiner: str = typer.Option("bpr", "--refiner", help="Refiner."),
    weights: str = typer.Option(
        "bpr-small", "--weights", help="Name or path of the weights; see `maskmend models list`."
    ),
    runtime: str = typer.Option("auto", "--runtime", help="auto, openvino, onnx or torch."),
    precision: str = typer.Option("fp32", "--precision", help="fp32, or bf16 with openvino."),
    nms: float = typer.Option(0.25, "--nms", help="Overlap of patches: 0.15 fewest, 0.55 best quality."),
    passes: int = typer.Option(3, "--passes", help="Refine again where the edge moved far, 1 to 5 times in all."),
    guard: bool = typer.Option(
        True, "--guard/--no-guard", help="Keep masks that are already right, and doubtful changes out."
    ),
    caution: float = typer.Option(
        CAUTION, "--caution", help="0 to 1: how likely an improvement must be for the guard to let it through."
    ),
    reach: int = typer.Option(REACH, "--reach", help="Farthest that the guard lets an edge move, in px."),
    topology: bool = typer.Option(
        True, "--topology/--no-topology", help="Have the guard keep masks in one piece: no specks, pinholes, cuts."
    ),
    arbitrate: bool = typer.Option(
        True,
        "--arbitrate/--no-arbitrate",
        help="Let no two instances take a pixel that their coarse masks did not share.",
    ),
    batch_size: int = typer.Option(
        32, "--batch-size", help="Patches per call of the network; does not change the result."
    ),
    threads: int = typer.Option(None, "--threads", help="Threads of the network; all cores if not given."),
    exif_policy: str = typer.Option("apply", "--exif-policy", help="apply or ignore the EXIF rotation of photographs."),
    report: Path = typer.Option(None, "--report", help="Folder for an HTML page of the most changed instances."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted job."),
    profile: bool = typer.Option(False, "--profile", help="Print how long each stage took."),
    engine: str = typer.Option("local", "--engine", help="local; others come with later releases."),
    server: str = typer.Option(None, "--server", help="Refine on a server; comes with a later release."),
) -> None:
    """Refine the masks of a COCO file.

    The same records come out in the same order, every other field kept. A photograph is found by `file_name`; for a bare
    result list, by an instances.json beside the images or their folder, or by its image_id (000000012345.jpg, 12345.png).
    `--annotations` names a file that knows better.

    Exit codes: 0 all refined or kept on purpose; 2 unusable input, nothing written; 3 some records kept unchanged, see
    OUTPUT.errors.jsonl.

    Examples:
        maskmend refine results.json --images val2017 --output refined.json

        maskmend refine instances.json --images photos -o out.json --report report --nms 0.55
    """
    from maskmend.clients.job import run_job
    from maskmend.models import load_refiner
    from maskmend.service import Engine, EngineOptions

    if engine != "local":
        raise OptionError(f"--engine {engine!r} is not available in this release; use local", field="engine")
    if server is not None:
        raise OptionError("--server is not available in this release; leave it out to refine here", field="server")
    if threads is not None and threads < 1:
        raise OptionError(f"--threads is {threads}; use 1 or more", field="threads")
    if exif_policy not in ("apply", "ignore"):
        raise OptionError(f"--exif-policy is {exif_policy!r}; use apply or ignore", field="exif_policy")
    network = load_refiner(refiner, weights=weights, runtime=runtime, precision=precision, threads=threads)
    options = EngineOptions(nms, passes, guard, caution, reach, topology, arbitrate)
    local = Engine(network, options, batch_size=batch_size)
    began = time.monotonic()
    with _Progress() as progress:
        summary = run_job(
            results,
            images,
            output,
            local,
            annotations=annotations,
            exif_policy="apply" if exif_policy == "apply" else "ignore",
            resume=resume,
            progress=progress,
        )
    seconds = time.monotonic() - began
    _say(summary, seconds, output)
    if profile:
        _say_profile(local.stages)
    if report is not None:
        from maskmend.clients.cli.pages import write_job_report

        write_job_report(report, output, images, annotations, summary, local.provenance, exif_policy, SHOWN_IN_REPORT)
        console.print(f"report: {report / 'index.html'}", highlight=False)
    if summary.errors:
        raise typer.Exit(KEPT)


class _Progress:
    """A bar on a terminal; otherwise a line every five seconds."""

    def __enter__(self) -> _Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("refining"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar.start()
        self._task = self._bar.add_task("refining", total=None)
        self._said = time.monotonic()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` records are finished."""
        self._bar.update(self._task, completed=done, total=total)
        if not console.is_terminal and (time.monotonic() - self._said > 5 or done == total):
            self._said = time.monotonic()
            console.print(f"refined {done} of {total} records", highlight=False)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _say(summary: JobSummary, seconds: float, output: Path) -> None:
    crowds = f", {summary.crowds} crowd regions passed through" if summary.crowds else ""
    console.print(
        f"{output}: {summary.refined} of {summary.records} records refined ({summary.changed} changed, "
        f"{summary.abstained} kept by the guard{crowds}) in {seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    if summary.errors:
        console.print(
            f"{len(summary.errors)} records kept unchanged because of an error; see {output}.errors.jsonl",
            highlight=False,
            soft_wrap=True,
        )


def _say_profile(stages: StageTimes) -> None:
    from rich.table import Table

    table = Table("stage", "seconds", "share", title="busy time")
    for stage, seconds in stages.seconds.items():
        table.add_row(stage, f"{seconds:.3f}", f"{100 * stages.share(stage):.1f} %")
    table.add_row("total", f"{stages.total:.3f}", "100 %")
    console.print(table)

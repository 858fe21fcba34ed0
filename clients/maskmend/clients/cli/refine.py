"""`maskmend refine`."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskmend.clients.cli import KEPT, REFINER_HELP, one_of
from maskmend.clients.cli.progress import JobProgress, console, say, say_profile
from maskmend.clients.format_names import FORMATS
from maskmend.patcher.defaults import CAUTION, REACH
from maskmend.patcher.errors import MaskmendError, OptionError

if TYPE_CHECKING:
    from maskmend.clients.backends import Backend

_LOCAL_ONLY = ("runtime", "precision", "batch_size", "threads")
_SERVER_ONLY = ("api_key", "timeout", "concurrency", "ca_file")


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
    results: Path = typer.Argument(..., help="File or folder of masks: COCO, or another format."),
    images: Path = typer.Option(..., "--images", help="Folder of the photographs."),
    output: Path = typer.Option(..., "--output", "-o", help="Refined file to write."),
    config: Path = typer.Option(
        None, "--config", callback=_from_file, is_eager=True, help="TOML or JSON file of these options."
    ),
    annotations: Path = typer.Option(None, "--annotations", help="COCO file whose `images` name the photographs."),
    refiner: str = typer.Option(None, "--refiner", help=REFINER_HELP),
    weights: str = typer.Option(
        None,
        "--weights",
        help="Name or path of the weights, see `maskmend models list` \\[the refiner's]; at a server one of its names.",
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
    tiles: bool = typer.Option(
        True,
        "--tiles/--no-tiles",
        help="See a large instance in parts and not made smaller; means nothing to bpr.",
    ),
    batch_size: int = typer.Option(
        32, "--batch-size", help="Patches per call of the network; does not change the result."
    ),
    threads: int = typer.Option(None, "--threads", help="Threads of the network; all cores if not given."),
    exif_policy: str = typer.Option("apply", "--exif-policy", help="apply or ignore the EXIF rotation of photographs."),
    report: Path = typer.Option(None, "--report", help="Folder for an HTML page of before and after."),
    truth: Path = typer.Option(None, "--gt", help="COCO instances file of the ground truth, for the report."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted job."),
    profile: bool = typer.Option(False, "--profile", help="Print how long each stage took."),
    engine: str = typer.Option("local", "--engine", help="local; others come with later releases."),
    format: str = typer.Option(
        "auto", "--format", help=f"Of the file or folder; auto looks at it. One of {', '.join(FORMATS)}."
    ),
    size_mismatch: str = typer.Option(
        "error", "--size-mismatch", help="A mask of another size than its photograph: error, or resize."
    ),
    overlaps: str = typer.Option(
        "error",
        "--overlaps",
        help="Who takes a pixel, in formats of one instance per pixel: error, first, last or smallest.",
    ),
    tolerance: float = typer.Option(
        None, "--tolerance", help="How far in px a written polygon may lie from the mask's outline; 0 is exact."
    ),
    server: str = typer.Option(
        None, "--server", help="Refine at a server: http://, https://, grpc:// or grpcs://, host and port."
    ),
    api_key: str = typer.Option(None, "--api-key", envvar="MASKMEND_API_KEY", help="Shown to the server."),
    timeout: float = typer.Option(60.0, "--timeout", help="Seconds for each image at the server, all tries together."),
    concurrency: int = typer.Option(4, "--concurrency", help="Images at the server at a time."),
    ca_file: Path = typer.Option(None, "--ca-file", help="PEM file of authorities for the server's certificate."),
) -> None:
    """Refine the masks of a file or folder: COCO, or any other format of `maskmend convert --help`.

    The same records come out in the same order, every other field kept. A photograph is found by `file_name`; for a bare
    COCO result list, by an instances.json beside the images or their folder, or by its image_id (000000012345.jpg,
    12345.png). `--annotations` names a file that knows better.

    Exit codes: 0 all refined or kept on purpose; 2 unusable input, nothing written; 3 some records kept unchanged, see
    OUTPUT.errors.jsonl.

    Examples:
        maskmend refine results.json --images val2017 --output refined.json

        maskmend refine instances.json --images photos -o out.json --report report --nms 0.55

        maskmend refine labels --format yolo --images photos -o refined-labels

        maskmend refine results.json --images photos -o out.json --server grpc://gpu-box:8001
    """
    from maskmend.clients.formats import format_of
    from maskmend.clients.formats.base import Policies
    from maskmend.clients.job import run_job
    from maskmend.patcher.simplify import check_tolerance

    if engine != "local":
        raise OptionError(f"--engine {engine!r} is not available in this release; use local", field="engine")
    policies: dict[str, Any] = {
        "exif_policy": one_of("exif-policy", exif_policy, ("apply", "ignore")),
        "size_mismatch": one_of("size-mismatch", size_mismatch, ("error", "resize")),
        "overlaps": one_of("overlaps", overlaps, ("error", "first", "last", "smallest")),
    }
    if tolerance is not None:
        check_tolerance(tolerance)
    shared: dict[str, Any] = {
        "refiner": refiner,
        "nms": nms,
        "passes": passes,
        "guard": guard,
        "caution": caution,
        "reach": reach,
        "topology": topology,
        "arbitrate": arbitrate,
        "tiles": tiles,
        "exif_policy": exif_policy,
    }
    backend: Backend
    if server is None:
        _refuse(context, _SERVER_ONLY, "is for --server; leave it out")
        backend = _local(shared, weights, runtime, precision, batch_size, threads)
    else:
        _refuse(context, _LOCAL_ONLY, "is decided by the server; leave it out")
        backend = _at_server(server, shared, weights, api_key, timeout, concurrency, ca_file)
    kind = format_of(results, format)
    _check_report(report, truth)
    began = time.monotonic()
    with JobProgress() as progress:
        summary = run_job(
            results,
            images,
            output,
            backend,
            format=kind.name,
            annotations=annotations,
            policies=Policies(**policies, tolerance=kind.default_tolerance if tolerance is None else tolerance),
            resume=resume,
            progress=progress,
        )
    seconds = time.monotonic() - began
    say(summary, seconds, output)
    if profile:
        say_profile(backend.stages)
    if report is not None:
        from maskmend.clients.cli.pages import write_job_report
        from maskmend.clients.report.items import LIMIT

        known: dict[str, Any] = {"annotations": annotations, "coarse": results, "truth": truth}
        exif = policies["exif_policy"]
        _write_report(lambda: write_job_report(report, output, summary, backend.provenance, exif, LIMIT, **known))
    if summary.errors:
        raise typer.Exit(KEPT)


def _check_report(report: Path | None, truth: Path | None) -> None:
    """Whatever is wrong with the report is said before hours of work, not after them."""
    from maskmend.clients.coco import read_coco

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


def _write_report(write: Callable[[], Path]) -> None:
    """Write the report; if that fails, say so, for the job itself is done."""
    try:
        told = f"report: {write()}"
    except MaskmendError as error:
        told = f"the report could not be written: {error}"
    console.print(told, highlight=False, soft_wrap=True)


def _local(
    shared: dict[str, Any], weights: str | None, runtime: str, precision: str, batch_size: int, threads: int | None
) -> Backend:
    from maskmend.clients.backends import LocalBackend
    from maskmend.clients.refiner import Refiner

    if threads is not None and threads < 1:
        raise OptionError(f"--threads is {threads}; use 1 or more", field="threads")
    own: dict[str, Any] = {
        "weights": weights,
        "runtime": runtime,
        "precision": precision,
        "batch_size": batch_size,
        "threads": threads,
    }
    return LocalBackend(Refiner(**shared, **own))


def _at_server(
    url: str,
    shared: dict[str, Any],
    weights: str | None,
    api_key: str | None,
    timeout: float,
    concurrency: int,
    ca_file: Path | None,
) -> Backend:
    from maskmend.clients.backends import ServerBackend
    from maskmend.clients.client import Client

    client = Client(
        url,
        **shared,
        weights=weights,
        api_key=api_key,
        timeout=timeout,
        concurrency=concurrency,
        verify=ca_file or True,
    )
    return ServerBackend(client)


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP"):
            raise OptionError(f"--{name.replace('_', '-')} {why}", field=name)

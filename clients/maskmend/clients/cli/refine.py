"""`maskmend refine`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskmend.clients.cli.conventions import KEPT, REFINER_HELP, one_of
from maskmend.clients.cli.given import from_file, is_given, refuse
from maskmend.clients.cli.progress import JobProgress, console, say, say_lost, say_profile
from maskmend.clients.format_names import FORMATS
from maskmend.patcher.defaults import CAUTION, REACH

if TYPE_CHECKING:
    from maskmend.clients.backends import Backend

_LOCAL_ONLY = ("runtime", "precision", "device", "triton_url", "batch_size", "threads")
_SERVER_ONLY = ("api_key", "timeout", "concurrency", "ca_file")
_RAY_ONLY = ("ray_address", "workers", "gpus_per_worker")


def refine(
    context: typer.Context,
    results: str = typer.Argument(..., help="File or folder of masks: COCO, or another format; or a COCO file's URL."),
    images: str = typer.Option(..., "--images", help="Folder of the photographs, or its URL."),
    output: str = typer.Option(..., "--output", "-o", help="Refined file to write, or its URL."),
    config: Path = typer.Option(
        None, "--config", callback=from_file, is_eager=True, help="TOML or JSON file of these options."
    ),
    annotations: str = typer.Option(
        None, "--annotations", help="COCO file whose `images` name the photographs, or its URL."
    ),
    refiner: str = typer.Option(None, "--refiner", help=REFINER_HELP),
    weights: str = typer.Option(
        None,
        "--weights",
        help="Name or path of the weights, see `maskmend models list` \\[the refiner's]; at a server one of its names.",
    ),
    runtime: str = typer.Option("auto", "--runtime", help="auto, openvino, onnx, torch, tensorrt or triton."),
    precision: str = typer.Option(
        "fp32",
        "--precision",
        help="fp32; bf16 or int8 with openvino; auto: the fastest that is as good; others on a GPU, or as a Triton has it.",
    ),
    device: str = typer.Option(None, "--device", help="cpu, cuda or cuda:1, for torch and tensorrt \\[cpu]."),
    triton_url: str = typer.Option(
        None,
        "--triton-url",
        envvar="MASKMEND_TRITON_URL",
        help="Servers of the triton runtime: grpc://, grpcs://, http:// or https://, host and port; several with commas.",
    ),
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
    patches: str = typer.Option(
        "dense", "--patches", help="dense; or adaptive: three fifths of the patches for masks about as good, for bpr."
    ),
    batch_size: int = typer.Option(
        32, "--batch-size", help="Patches per call of the network; does not change the result."
    ),
    threads: int = typer.Option(
        None, "--threads", help="Threads of the network; all cores if not given, with ray 1 for each worker."
    ),
    exif_policy: str = typer.Option("apply", "--exif-policy", help="apply or ignore the EXIF rotation of photographs."),
    report: Path = typer.Option(None, "--report", help="Folder for an HTML page of before and after."),
    truth: Path = typer.Option(None, "--gt", help="COCO instances file of the ground truth, for the report."),
    resume: bool = typer.Option(False, "--resume", help="Go on with an interrupted job."),
    profile: bool = typer.Option(False, "--profile", help="Print how long each stage took."),
    journal: Path = typer.Option(
        Path(), "--journal", help="Folder for what --resume needs, where OUTPUT is a URL \\[the current one]."
    ),
    engine: str = typer.Option("local", "--engine", help="local, or ray: workers on this machine or a Ray cluster."),
    ray_address: str = typer.Option(
        None, "--ray-address", help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; without it one starts here."
    ),
    workers: int = typer.Option(
        None, "--workers", help="Workers of ray, each with the network; as many as there is room for if not given."
    ),
    gpus_per_worker: float = typer.Option(0.0, "--gpus-per-worker", help="GPUs of each worker of ray; may be a part."),
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

        maskmend refine results.json --images photos -o out.json --precision auto

        maskmend refine results.json --images photos -o out.json --server grpc://gpu-box:8001

        maskmend refine results.json --images photos -o out.json --runtime triton --triton-url grpc://127.0.0.1:8001

        maskmend refine results.json --images photos -o out.json --engine ray --workers 4

        maskmend refine s3://masks/in.json --images s3://photos/val -o s3://masks/out.json --engine ray
    """
    from maskmend.clients.cli.refine_backends import at_server, local, on_ray
    from maskmend.clients.formats import format_of
    from maskmend.clients.formats.base import Policies
    from maskmend.clients.job import run_job
    from maskmend.clients.places import Places
    from maskmend.patcher.simplify import check_tolerance

    one_of("engine", engine, ("local", "ray"))
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
        "patches": one_of("patches", patches, ("dense", "adaptive")),
        "exif_policy": exif_policy,
    }
    if report is not None or truth is not None:
        from maskmend.clients.cli.pages import check_report

        check_report(report, truth)
    with ExitStack() as stack:
        places = stack.enter_context(Places(results, images, output, annotations, journal))
        kind = format_of(places.results, format)
        backend: Backend
        if server is not None:
            refuse(context, _LOCAL_ONLY, "is decided by the server; leave it out")
            chosen = ("engine", *_RAY_ONLY) if engine == "ray" else _RAY_ONLY
            refuse(context, chosen, "is for refining without --server; leave one of the two out")
            backend = at_server(server, shared, weights, api_key, timeout, concurrency, ca_file)
        else:
            refuse(context, _SERVER_ONLY, "is for --server; leave it out")
            own = {"weights": weights, "runtime": runtime, "precision": precision, "batch_size": batch_size}
            # A variable that is set for other commands means nothing to other runtimes.
            is_asked = runtime == "triton" or is_given(context, "triton_url")
            own |= {"device": device, "triton_url": triton_url if is_asked else None}
            if engine == "ray":
                backend = on_ray(stack, {**shared, **own}, ray_address, workers, threads, gpus_per_worker)
            else:
                refuse(context, _RAY_ONLY, "is for --engine ray; leave it out")
                backend = local(shared, own, threads)
        began = time.monotonic()
        with JobProgress() as progress:
            summary = run_job(
                places.results,
                places.images,
                places.output,
                backend,
                format=kind.name,
                annotations=places.annotations,
                policies=Policies(**policies, tolerance=kind.default_tolerance if tolerance is None else tolerance),
                resume=resume,
                progress=progress,
            )
        seconds = time.monotonic() - began
        places.deliver()
        say(summary, time.monotonic() - began, output)
        say_lost(backend)
        if profile:
            say_profile(backend.stages, seconds)
        if report is not None:
            from maskmend.clients.cli.pages import told, write_job_report
            from maskmend.clients.report.items import LIMIT

            known: dict[str, Any] = {"annotations": places.annotations, "coarse": places.results, "truth": truth}
            made = (report, places.output, summary, backend.provenance, policies["exif_policy"], LIMIT)
            console.print(told(lambda: write_job_report(*made, **known)), highlight=False, soft_wrap=True)
    if summary.errors:
        raise typer.Exit(KEPT)

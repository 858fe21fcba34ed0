"""`maskmend export`."""

from __future__ import annotations

from pathlib import Path

import typer

from maskmend.clients.cli.export_formats import write_format
from maskmend.clients.cli.given import refuse
from maskmend.patcher.errors import OptionError

_FORMAT_ONLY = ("precision", "output", "name", "calibration", "images", "device")
_TRITON_ONLY = ("backend", "instances", "max_batch", "gpu")


def export(
    context: typer.Context,
    weights: str = typer.Argument(..., help="Name or path of the weights, see `maskmend models list`."),
    triton_repository: Path = typer.Option(
        None, "--triton-repository", help="Write a model repository for NVIDIA Triton into this folder."
    ),
    backend: str = typer.Option(
        "onnxruntime", "--backend", help="What runs the network in Triton: onnxruntime, openvino, tensorrt or python."
    ),
    instances: int = typer.Option(1, "--instances", help="Copies of the network in Triton that run at the same time."),
    max_batch: int = typer.Option(
        None, "--max-batch", help="Most patches that Triton runs together \\[8 on a CPU, 64 on a GPU]."
    ),
    gpu: bool = typer.Option(False, "--gpu/--no-gpu", help="Have Triton run it on every GPU it sees."),
    form: str = typer.Option(None, "--format", help="Write a file instead: onnx, openvino, tensorrt or aoti."),
    precision: str = typer.Option(
        "fp32", "--precision", help="Of the file: fp32, fp16, bf16 (not openvino) or int8 (not aoti)."
    ),
    output: Path = typer.Option(None, "--output", "-o", help="Folder for the file, its manifest and its card."),
    name: str = typer.Option(None, "--name", help="Of the written weights \\[WEIGHTS-FORMAT-PRECISION]."),
    calibration: Path = typer.Option(
        None, "--calibration", help="COCO instances file of true masks, to fit int8 to and to judge it by."
    ),
    images: Path = typer.Option(None, "--images", help="Folder of the photographs of --calibration."),
    device: str = typer.Option(None, "--device", help="cuda or cuda:N for tensorrt; cpu or cuda for aoti."),
) -> None:
    """Write weights in the form that something else than maskmend runs.

    `--triton-repository` writes NAME/config.pbtxt and NAME/1 with the network, which `tritonserver --model-repository`
    serves and `--runtime triton` uses. The tensorrt backend takes weights that were exported with `--format tensorrt`.

    `--format` writes the network in another form and precision, compares it with the original, and says how far it is
    from it. Of int8 the engine judges too: it refines photographs that were not calibrated with, and where mean IoU or F@1
    falls by more than 0.002 nothing is written.

    Exit codes: 0 written; 2 unusable input, nothing written; 4 int8 refines worse than the original, nothing written.

    Examples:
        maskmend export bpr-small --format openvino --precision fp16 --output exported

        maskmend export bpr-small --format onnx --precision int8 --calibration instances.json --images photos -o exported

        maskmend export bpr-small --triton-repository repository --backend python --instances 2

        maskmend export bpr-base --triton-repository repository --backend onnxruntime --gpu --max-batch 64
    """
    if (triton_repository is None) == (form is None):
        raise OptionError(
            "say what to write, and one thing at a time: --format onnx --output DIR, or --triton-repository DIR",
            field="export",
        )
    if form is not None:
        refuse(context, _TRITON_ONLY, "is for --triton-repository; leave it out")
        write_format(weights, form, precision, output, name=name, calibration=calibration, images=images, device=device)
        return
    refuse(context, _FORMAT_ONLY, "is for --format; leave it out, or export first and name what that writes")
    _triton(weights, triton_repository, backend, instances, max_batch, gpu)


def _triton(weights: str, folder: Path, backend: str, instances: int, max_batch: int | None, gpu: bool) -> None:
    from maskmend.models import resolve_weights
    from maskmend.models.triton_repository import RepositoryOptions, write_repository

    if max_batch is None:
        max_batch = 64 if gpu else 8
    options = RepositoryOptions(backend, instances, max_batch, gpu)
    found = resolve_weights(weights)
    written = write_repository(found, folder, options)
    name = found.manifest.name
    typer.echo(f"{written}: {name} for the {backend} backend, at most {max_batch} patches together")
    typer.echo(f"serve it with: tritonserver --model-repository {folder}")
    typer.echo("use it with: --runtime triton --triton-url grpc://HOST:8001" + _named(weights, name))


def _named(given: str, name: str) -> str:
    return "" if name == "bpr-small" else f" --weights {given}"

"""`maskmend models ...` and `maskmend train`."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from maskmend.patcher.errors import OptionError, RuntimeUnavailableError

console = Console()
app = typer.Typer(help="Weights: list, describe, check, import.", no_args_is_help=True, rich_markup_mode="markdown")


@app.command("list")
def list_models() -> None:
    """List the shipped weights.

    Example:
        maskmend models list
    """
    from rich.table import Table

    from maskmend.models import list_weights

    table = Table("weights", "refiner", "architecture", "parameters", "GMAC a patch", "licence")
    for weights in list_weights():
        m = weights.manifest
        table.add_row(m.name, m.refiner, m.architecture, f"{m.parameters:,}", f"{m.gmac:.3f}", m.license)
    console.print(table)


@app.command("info")
def info(name: str = typer.Argument(..., help="Name or path of the weights.")) -> None:
    """Print the manifest and the model card of weights.

    Example:
        maskmend models info bpr-small
    """
    from maskmend.models import resolve_weights

    weights = resolve_weights(name)
    typer.echo(weights.manifest.model_dump_json(indent=2))
    if weights.card_path.is_file():
        typer.echo(weights.card_path.read_text())


@app.command("verify")
def verify(name: str = typer.Argument(None, help="Name or path; every shipped set if left out.")) -> None:
    """Compare weights with the checksums of their manifest, and run one patch through each installed runtime.

    Example:
        maskmend models verify
    """
    from maskmend.models import list_weights, load_refiner, resolve_weights
    from maskmend.models.runtimes import RUNTIMES

    for weights in [resolve_weights(name)] if name else list_weights():
        weights.verify()
        ran = []
        for runtime in RUNTIMES:
            try:
                load_refiner(
                    weights.manifest.refiner, weights=weights.folder / f"{weights.manifest.name}.json", runtime=runtime
                )
                ran.append(runtime)
            except RuntimeUnavailableError:
                continue
        typer.echo(f"{weights.manifest.name}: SHA-256 right; runs on {', '.join(ran) or 'no installed runtime'}")
        form = weights.in_precision("int8")
        if form is not None:
            form.verify()
            if "openvino" in ran:
                place = weights.folder / f"{weights.manifest.name}.json"
                load_refiner(weights=place, runtime="openvino", precision="int8")
            typer.echo(f"{weights.manifest.name} in int8: SHA-256 right" + "; runs on openvino" * ("openvino" in ran))


@app.command("import")
def import_model(
    checkpoint: Path = typer.Argument(..., help="Official BPR checkpoint, .pth."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the four files."),
    name: str = typer.Option(None, "--name", help="Name of the weights; the file's stem if not given."),
) -> None:
    """Turn an official BPR checkpoint (HRNet W18-Small or W48) into safetensors, ONNX and a model card.

    The file is read without running any code in it: a checkpoint that needs more than tensors and plain values is
    refused. Needs the train extra.

    Example:
        maskmend models import bpr_hrnet18s.pth --output weights --name bpr-official-w18
    """
    _need_torch("models import")
    from maskmend.models.importer import import_checkpoint

    weights = import_checkpoint(checkpoint, output, name if name is not None else checkpoint.stem)
    typer.echo(f"{weights.manifest.name}: {weights.manifest.architecture}, {weights.manifest.parameters:,} parameters")
    typer.echo(f"use it with --weights {weights.folder / weights.manifest.name}.json")


def train(
    config: str = typer.Option(..., "--config", help="YAML file, or the name of a shipped configuration."),
    data: Path = typer.Option(..., "--data", help="Folder with coco-cc/ and nuclei/."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder of the run."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the run's checkpoint."),
    export_only: bool = typer.Option(False, "--export-only", help="Only write the weights of the checkpoint."),
    steps: int = typer.Option(None, "--steps", help="Instead of the configuration's."),
    seed: int = typer.Option(None, "--seed", help="Instead of the configuration's."),
) -> None:
    """Train a network and write its weights, model card and curves. Needs the train extra.

    Examples:
        maskmend train --config bpr-small --data data --output runs/bpr-small

        maskmend train --config bpr-small --data data --output runs/try --steps 200
    """
    _need_torch("train")
    from maskmend.models.training.train import main

    given = {"steps": steps, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    folder = main(config, data=data, output=output, resume=resume, export_only=export_only, overrides=overrides)
    typer.echo(f"weights: {folder}")


def _need_torch(command: str) -> None:
    import importlib.util

    missing = [name for name in ("torch", "safetensors", "onnx", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        raise OptionError(
            f"{command} needs {', '.join(missing)}; pip install -c constraints.txt 'maskmend[train,onnx]'",
            field="extras",
        )

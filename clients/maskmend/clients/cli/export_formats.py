"""What `maskmend export --format` does; the command itself is in `export`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from maskmend.clients.export_gate import Judgement
    from maskmend.models.gate import Gate
    from maskmend.models.zoo import Weights

REFUSED = 4
"""Exit code for an int8 network that refines worse than the original: nothing was written."""


def write_format(
    weights: str,
    form: str,
    precision: str,
    output: Path | None,
    *,
    name: str | None = None,
    calibration: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
) -> None:
    """Export, say how near the result is, and how to use it.

    Raises:
        MaskmendError: see `export_weights`, `read_scenes`.
        typer.Exit: with `REFUSED`, by the accuracy gate.
    """
    from maskmend.clients.export_gate import AccuracyError
    from maskmend.models import resolve_weights
    from maskmend.models.exporters import check_kind, export_weights

    check_kind(form, precision)
    if output is None:
        raise OptionError("--output is missing; name the folder to write into", field="output")
    if device is not None and form not in ("tensorrt", "aoti"):
        raise OptionError("--device is for tensorrt and aoti; leave it out", field="device")
    _check_calibration(precision, calibration, images)
    found = resolve_weights(weights)
    given: dict[str, Any] = {}
    judged: list[Judgement] = []
    if calibration is not None and images is not None:
        given = _calibrated(found, calibration, images, device, judged)
    try:
        made = export_weights(found, output, form=form, precision=precision, name=name, device=device, **given)
    except AccuracyError as error:
        typer.echo(f"maskmend: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    for kind in made.weights.manifest.sha256:
        typer.echo(f"written: {made.weights.file(kind)}")
    typer.echo(f"against float32, on {made.runtime}: {made.parity}")
    for judgement in judged:
        typer.echo(f"accuracy: {judgement}")
    if made.runtime == "aoti":
        typer.echo(
            "load it with torch._inductor.aoti_load_package, or from C++; it is code, and maskmend does not run it"
        )
    else:
        typer.echo(f"use it with: --runtime {made.runtime} --weights {output / made.weights.manifest.name}.json")


def _check_calibration(precision: str, calibration: Path | None, images: Path | None) -> None:
    if precision == "int8":
        if calibration is None or images is None:
            raise OptionError(
                "int8 is fitted to real photographs; give --calibration GT.json and --images DIR", field="calibration"
            )
    elif calibration is not None or images is not None:
        raise OptionError("--calibration and --images are for --precision int8; leave them out", field="calibration")


def _calibrated(
    found: Weights, truth: Path, images: Path, device: str | None, judged: list[Judgement]
) -> dict[str, Any]:
    """Patches and judge for `export_weights`; what is judged ends up in a list."""
    from maskmend.clients.export_gate import check, judge, patches_of, read_scenes
    from maskmend.models import load_refiner

    fitted, held_out = read_scenes(truth, images)
    # ONNX Runtime says what is nearest to the graph as written.
    runtime = "onnx" if importlib.util.find_spec("onnxruntime") else "auto"
    original = load_refiner(weights=found.folder / f"{found.manifest.name}.json", runtime=runtime)
    typer.echo(f"calibrating on {len(fitted)} photographs, judging on {len(held_out)} ...", err=True)

    def accept(fresh: Weights, runtime: str) -> tuple[Gate, ...]:
        place = fresh.folder / f"{fresh.manifest.name}.json"
        export = load_refiner(weights=place, runtime=runtime, device=device if runtime == "tensorrt" else None)
        judged.append(judge(original, export, held_out))
        check(judged[-1])
        return (judged[-1].record(f"held-out half of {truth.name}"),)

    return {"patches": patches_of(original, fitted), "accept": accept}

"""One command from a configuration to shipped weights: train, keep the averaged network, export, write the card."""

from __future__ import annotations

import csv
import platform
from pathlib import Path
from typing import Any

from maskmend.models.training.config import TrainingConfig, read_config
from maskmend.patcher.errors import OptionError

CONFIGS = Path(__file__).parent / "configs"


def main(
    config: str | Path,
    *,
    data: Path,
    output: Path,
    resume: bool = False,
    export_only: bool = False,
    overrides: dict[str, Any] | None = None,
) -> Path:
    """Train and write `NAME.onnx`, `NAME.safetensors`, `NAME.json` and `NAME.md` into `output / "weights"`.

    Args:
        config: path of a YAML file, or the name of one shipped in `training/configs`.
        data: folder that holds `coco-cc` and `nuclei`, each `images/` and `instances.json`.
        output: folder of the run: checkpoint, curves and their plot, weights.
        resume: go on from the checkpoint in `output`.
        export_only: skip training and write the weights of the checkpoint as it is.
        overrides: configuration values that replace those of the file, such as `{"steps": 200}`.

    Returns:
        The folder of the weights.

    Raises:
        OptionError: the configuration is missing or wrong.
        JobError: the data folder is incomplete.
    """
    from maskmend.models.export import write_weights
    from maskmend.models.training.loop import Trainer
    from maskmend.models.training.patches import INSTANCE, PATCH

    settings = read_config(_config_path(config), overrides)
    trainer = Trainer(settings, data, output, resume=resume or export_only)
    network = trainer.average if export_only else trainer.run()
    plot_curves(output)
    folder = output / "weights"
    write_weights(
        network,
        folder,
        name=settings.name,
        architecture=settings.architecture,
        arguments=settings.arguments,
        input_size=settings.input_size,
        padding=settings.padding,
        refiner=settings.refiner,
        patch=PATCH if settings.crop == "patch" else INSTANCE // int(network.cell),
        license=settings.license,
        source=f"maskmend train, configuration {settings.name}, seed {settings.seed}, {trainer.step} steps",
        card=model_card(settings, output, trainer.step),
    )
    return folder


def _config_path(config: str | Path) -> Path:
    for candidate in (Path(config), CONFIGS / f"{config}.yaml"):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
    raise OptionError(f"config {str(config)!r} is neither a file nor one of: {names}", field="config")


def plot_curves(folder: Path) -> None:
    """Draw `curves.png` from `curves.csv`: band accuracy of each coarse kind, coarse against refined, over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_curves(folder)
    if not rows:
        return
    kinds = [key.removesuffix("_refined") for key in rows[0] if key.endswith("_refined")]
    figure, axes = pyplot.subplots(figsize=(8, 5))
    steps = [row["step"] for row in rows]
    for number, kind in enumerate(kinds):
        axes.plot(steps, [row[f"{kind}_refined"] for row in rows], color=f"C{number}", label=kind)
        axes.axhline(rows[-1][f"{kind}_coarse"], color=f"C{number}", linestyle=":", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("accuracy within 5 px of the true boundary")
    axes.set_title("Composed validation scenes; dotted: coarse masks")
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "curves.png", dpi=110)
    pyplot.close(figure)


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Rows of `curves.csv`, all numbers; empty when nothing was validated yet."""
    file = folder / "curves.csv"
    if not file.is_file():
        return []
    with file.open(newline="") as source:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(source)]


_CROPS = {"patch": "patches", "instance": "instances"}
_WHAT = {
    "patch": (
        "Boundary patch refiner of maskmend: sees a 64x64 px patch of an image and of its coarse mask, with\n"
        "{padding} px of context around it, and says which pixels of the patch belong to the object."
    ),
    "instance": (
        "Instance refiner of maskmend: sees an object with a margin, or a tile of a large one, as 224x224 px of an\n"
        "image and of its coarse mask, and says which of these pixels belong to the object."
    ),
}


def model_card(config: TrainingConfig, folder: Path, steps: int) -> str:
    """Markdown text of the model card: what it is for, what it was trained on, what it measured."""
    import torch

    rows = read_curves(folder)
    table = ""
    if rows:
        last = rows[-1]
        kinds = [key.removesuffix("_refined") for key in last if key.endswith("_refined")]
        table = "\n".join(
            f"| {kind} | {last[f'{kind}_coarse']:.4f} | {last[f'{kind}_refined']:.4f} |" for kind in kinds
        )
    grown = f"; begun as `{config.grow}`, widened" if config.grow else ""
    if config.trunk:
        grown += f"; trunk begun as that of `{config.trunk}`, kept for {config.frozen} steps"
    return f"""# {config.name}

{_WHAT[config.crop].format(padding=config.padding)}

| | |
| --- | --- |
| architecture | `{config.architecture}` {config.arguments} |
| input | {config.input_size}x{config.input_size}, RGB normalised, coarse mask -1/+1 |
| training | {steps} steps of {config.batch} {_CROPS[config.crop]}, AdamW {config.learning_rate}, seed {config.seed}{grown} |
| licence of the weights | {config.license} |
| made with | torch {torch.__version__.split("+")[0]}, Python {platform.python_version()}, CPU |

## Rebuild

```
maskmend train --config {config.name} --data DATA --output runs/{config.name}
```

`DATA` holds `coco-cc` (photographs of COCO 2017 under CC BY 2.0, CC BY-SA 2.0 or no known restrictions, with COCO's
CC BY 4.0 annotations) and `nuclei` (Data Science Bowl 2018 stage 1, CC0). One image in five, by a hash of its id, is
kept for validation and never used in training, not even as a texture.

## Intended use

Sharpening instance masks whose boundary is within about 12 px of the true one, in photographs. It has no idea of
classes and no view beyond its context: a mask that spills far over a neighbour is not repaired, and hair, smoke or glass
have no single true edge for it to find. Alone it also changes masks that are already right: use it with the guard.

## Accuracy within 5 px of the true boundary, composed validation scenes

| coarse masks | before | after |
| --- | --- | --- |
{table}

Figures on whole instances, with the guard, on other data, and pictures of failures: docs/quality.md.
"""

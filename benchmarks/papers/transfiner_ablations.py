"""What each part of Mask Transfiner is worth (its Tables 2, 4, 5 and 8), every row trained equally long.

    python benchmarks/papers/transfiner_ablations.py --data DATA --work runs/ablations

One set of crops for all rows, in the same order and turned and recoloured alike; the trunk is that of `--trunk` and stays
as it is, all else starts at random with the same seed. Measured on the composed validation crops of the training log,
without a guard. A row that is done is not trained again.

Not the paper's experiment: that trains each row to the end, inside a detector. These rows say how quickly a form learns, and
what it can do after that little.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskmend.models.training.config import TrainingConfig, read_config
from maskmend.models.training.grow import take_trunk
from maskmend.models.training.loop import augment, learning_rate, validation_patches
from maskmend.models.training.patches import UNSURE, Patches, PatchMix, stream
from maskmend.models.training.sources import Sources
from maskmend.models.training.tasks import BAND, boundary_band, instance_tensors, task_of
from maskmend.models.training.train import CONFIGS
from maskmend.models.transfiner import Transfiner

BASE = "all cues, three layers, joint, incoherent"


@dataclass(frozen=True)
class Row:
    """One form of the network; `trained` names the row whose weights it uses, where they can be the same."""

    table: str
    label: str
    arguments: dict[str, Any] = field(default_factory=dict)
    trained: str | None = None


ROWS = (
    Row("base", BASE),
    Row("2, regions", "spread over the whole crop", {"regions": "full"}),
    Row("2, regions", "edge of the coarse mask", {"regions": "boundary"}),
    Row("4, cues", "feature", {"cues": ("feature",)}),
    Row("4, cues", "feature, mask", {"cues": ("feature", "mask")}),
    Row("4, cues", "feature, mask, position", {"cues": ("feature", "mask", "position")}),
    Row("5, depth", "no layer: each node on its own", {"depth": 0}),
    Row("5, depth", "one layer", {"depth": 1}),
    Row("5, depth", "two layers", {"depth": 2}),
    Row("8, sequence", "each level on its own", {"joint": False}),
    Row("8, propagation", "leaves alone", {"propagation": "leaves"}, trained=BASE),
    Row("8, propagation", "bilinear between levels", {"upsample": "bilinear"}, trained=BASE),
)


def training_crops(config: TrainingConfig, data: Path, work: Path, count: int) -> Patches:
    """The first `count` crops of the configuration's stream, kept in a file."""
    file = work / f"crops-{count}.npy"
    if not file.is_file():
        mix = PatchMix(config.composed, config.exact, config.kinds, crop="instance")
        scenes = (crop for scene in stream(Sources(data, "train"), mix, config.seed, 0, 1) for crop in scene)
        np.save(file, np.stack(list(islice(scenes, count))))
    crops: Patches = np.load(file, mmap_mode="r")
    return crops


def validation_crops(data: Path, work: Path, scenes: int) -> dict[str, Patches]:
    """As the training loop has them, kept in a file."""
    file = work / f"validation-{scenes}.npz"
    if not file.is_file():
        np.savez(file, **validation_patches(Sources(data, "val"), scenes, crop="instance"))
    with np.load(file) as found:
        return dict(found)


def train(network: Transfiner, crops: Patches, config: TrainingConfig, trunk: str) -> float:
    """Train all but the trunk, in place; seconds."""
    take_trunk(network, trunk)
    learned = [p for name, p in network.named_parameters() if not name.startswith("trunk.")]
    network.trunk.requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(learned, config.learning_rate, weight_decay=config.weight_decay)
    task, rng, began = task_of(config), np.random.default_rng(config.seed), time.monotonic()
    for step in range(config.steps):
        batch = augment(np.asarray(crops[np.sort(rng.integers(len(crops), size=config.batch))]), rng)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        network.train()
        network.trunk.eval()
        value = task.loss(network, batch)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
    return time.monotonic() - began


@torch.no_grad()
def measure(network: Transfiner, crops: Patches) -> dict[str, float]:
    """Mean IoU of the crops, and accuracy within 5 px of their true boundary, of coarse and refined masks."""
    network.eval()
    ious: list[list[float]] = [[], []]
    right, total = np.zeros(2), 0
    for start in range(0, len(crops), 16):
        inputs, target, coarse = instance_tensors(crops[start : start + 16])
        sure, true = target != UNSURE, target == 1
        band = boundary_band(target, BAND) & sure
        total += int(band.sum())
        for side, mask in enumerate((coarse == 1, network(inputs) > 0)):
            both, either = ((part & sure).flatten(1).sum(1) for part in (mask & true, mask | true))
            ious[side] += (both / either.clamp_min(1)).tolist()
            right[side] += int(((mask == true) & band).sum())
    names = ("coarse", "refined")
    found = {f"{name}_iou": float(np.mean(values)) for name, values in zip(names, ious, strict=True)}
    return found | {f"{name}_band": float(value / total) for name, value in zip(names, right, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trunk", default="bpr-small")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crops", type=int, default=2400)
    parser.add_argument("--scenes", type=int, default=24, help="composed validation scenes per kind")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    changes = {"steps": arguments.steps, "warmup": min(50, arguments.steps), "decay": 0.5}
    config = read_config(CONFIGS / "transfiner-small.yaml", changes)
    validation = validation_crops(arguments.data, arguments.work, arguments.scenes)
    done = arguments.work / f"rows-{arguments.trunk}-{arguments.steps}.json"
    results: dict[str, Any] = json.loads(done.read_text()) if done.is_file() else {}
    for row in ROWS:
        if row.label in results:
            continue
        torch.manual_seed(config.seed)
        network = Transfiner(**row.arguments)
        state = arguments.work / f"{arguments.trunk}-{arguments.steps}-base.pt"
        seconds = 0.0
        if row.trained is not None:
            network.load_state_dict(torch.load(state, weights_only=True))
        else:
            crops = training_crops(config, arguments.data, arguments.work, arguments.crops)
            seconds = train(network, crops, config, arguments.trunk)
        if row.label == BASE:
            torch.save(network.state_dict(), state)
        kinds = {kind: measure(network, crops) for kind, crops in validation.items()}
        results[row.label] = {"seconds": round(seconds, 1), "kinds": kinds}
        done.write_text(json.dumps(results, indent=1))
        print(f"{row.label}: {seconds:.0f} s", flush=True)
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """Markdown: band accuracy per kind and on average, mean IoU, seconds of training."""
    kinds = list(results[BASE]["kinds"])
    lines = [f"| table | | {' | '.join(kinds)} | mean | mean IoU | s |", f"| --- | --- |{' --- |' * (len(kinds) + 3)}"]

    def line(name: str, label: str, side: str, result: dict[str, Any], seconds: str) -> str:
        band = [result["kinds"][kind][f"{side}_band"] for kind in kinds]
        iou = np.mean([result["kinds"][kind][f"{side}_iou"] for kind in kinds])
        cells = [f"{value:.4f}" for value in (*band, np.mean(band), iou)]
        return f"| {name} | {label} | {' | '.join(cells)} | {seconds} |"

    lines.append(line("", "coarse masks", "coarse", results[BASE], ""))
    for row in ROWS:
        if row.label in results:
            seconds = "the same" if row.trained else f"{results[row.label]['seconds']:.0f}"
            lines.append(line(row.table, row.label, "refined", results[row.label], seconds))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

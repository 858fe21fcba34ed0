"""What the parts of a patch are worth (BPR, Tables 2, 3 and 5), every row a network of its own, trained equally long.

    python benchmarks/papers/trained_patches.py --data DATA --work runs/patches \
        --gt DATA/davis/instances.json --images DATA/davis/images --all --every 8 --limit 22

Every row trains `light_unet` from the same random start on the same crops, in the same order, turned and recoloured alike:
the training data of `bpr-small`, cut wide enough for every row, of which each takes the middle. Rows have their number of
crops in common, not of seconds: so papers count, a slower machine gets the same networks, and inputs of one size cost the
same anyway. Then the engine runs them, in one pass and without the guard, on coarse masks made as `maskmend degrade` does.

- Table 2, mask patch: without it the network's fourth channel is held at 0, half way between background and object, in
  training and after it. All else is alike.
- Table 3, patch and padding: side of what is judged, and of the context around it that is seen and not judged, in px of the
  image. Read in two ways: all scaled to the same 64 px of input, which costs the same; and as it is, pixel for pixel.
- Table 5, input: side in px that a patch of 64 px is scaled to. 256 px, sixteen times the work of 64, only with `--costly`.

A row that is done is not trained again, so that data sets can be measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from cases import Cases, add_options, check, read_cases
from oracles import shown
from patches import timed

from maskmend.models import load_refiner
from maskmend.models.architectures import build_network
from maskmend.models.export import MarginNetwork, write_weights
from maskmend.models.training.config import TrainingConfig, read_config
from maskmend.models.training.loop import augment, learning_rate
from maskmend.models.training.patches import PATCH, Patches, PatchMix, stream
from maskmend.models.training.sources import Sources
from maskmend.models.training.tasks import MEAN, STD, loss
from maskmend.models.training.train import CONFIGS
from maskmend.patcher import MaskmendError, Rle
from maskmend.patcher.errors import JobError

NETWORK = "light_unet"
AROUND = 16
"""Context in px of the crops that are kept."""
SIDE = PATCH + 2 * AROUND
NMS = 0.25


@dataclass(frozen=True)
class Row:
    """One network, in some tables of the paper.

    It judges `patch` px and sees `padding` px around them too, scaled to `input_size` px, with the coarse mask or without.
    """

    name: str
    tables: tuple[int, ...]
    patch: int = PATCH
    padding: int = 0
    input_size: int = PATCH
    mask: bool = True
    costly: bool = False

    @property
    def side(self) -> int:
        """Of what it sees."""
        return self.patch + 2 * self.padding


ROWS = (
    Row("base", (2, 3, 5)),
    Row("rgb-alone", (2,), mask=False),
    Row("patch-32", (3,), patch=32),
    Row("patch-96", (3,), patch=96),
    Row("padding-8", (3,), padding=8),
    Row("padding-16", (3,), padding=16),
    Row("patch-32-as-it-is", (3,), patch=32, input_size=32),
    Row("patch-96-as-it-is", (3,), patch=96, input_size=96),
    Row("padding-8-as-it-is", (3,), padding=8, input_size=80),
    Row("padding-16-as-it-is", (3,), padding=16, input_size=96),
    Row("input-32", (5,), input_size=32),
    Row("input-128", (5,), input_size=128),
    Row("input-256", (5,), input_size=256, costly=True),
)
PAPER: dict[str, float] = {}  # AP on Cityscapes by row: none is at hand
DEFINITIONS = {
    2: "Table 2, mask patch: without it the fourth channel is 0 everywhere",
    3: "Table 3, patch and padding in px of the image, scaled to an input of so many px",
    5: "Table 5, input: px that a patch of 64 px is scaled to",
}


def training_crops(config: TrainingConfig, data: Path, work: Path, count: int) -> Patches:
    """The first `count` crops of the configuration's stream with `AROUND` px of context, kept in a file."""
    file = work / f"crops-{count}.npy"
    if not file.is_file():
        mix = PatchMix(config.composed, config.exact, config.kinds, padding=AROUND)
        scenes = (crop for scene in stream(Sources(data, "train"), mix, config.seed, 0, 1) for crop in scene)
        crops = np.empty((count, SIDE, SIDE, 5), np.uint8)
        for number, crop in enumerate(islice(scenes, count)):
            crops[number] = crop
        temporary = file.with_suffix(".tmp.npy")
        np.save(temporary, crops)
        temporary.replace(file)
    kept: Patches = np.load(file, mmap_mode="r")
    if kept.shape != (count, SIDE, SIDE, 5) or kept.dtype != np.uint8:
        raise JobError(f"{file.name} in --work does not hold {count} crops of {SIDE} px; remove it", field="work")
    return kept


def batches(row: Row, crops: Patches, config: TrainingConfig) -> Iterator[Patches]:
    """What the row sees, step by step: the same crops for every row, uint8 [N, S, S, 5]."""
    rng = np.random.default_rng(config.seed)
    around = (SIDE - row.side) // 2
    middle = slice(around, around + row.side)
    for _ in range(config.steps):
        chosen = np.sort(rng.integers(len(crops), size=config.batch))
        yield augment(np.asarray(crops[chosen, middle, middle]), rng)


def tensors(row: Row, patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
    """What the network sees, as `extract_patches` has it, and what it is measured against.

    Args:
        row: gives the sizes.
        patches: uint8 [N, S, S, 5], S = `row.side`.

    Returns:
        Input float32 [N, 4, input_size, input_size], and of the patch without its context the target (0, 1, 2 for unsure)
        and the coarse mask, both uint8 [N, 1, patch, patch].
    """
    data = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2)
    size = (row.input_size, row.input_size)
    image = functional.interpolate((data[:, :3].float() - MEAN) / STD, size, mode="bilinear", align_corners=False)
    coarse = functional.interpolate(data[:, 3:4].float() * 2 - 1, size, mode="nearest")
    if not row.mask:
        coarse = torch.zeros_like(coarse)
    inputs = torch.cat([image, coarse], 1).contiguous(memory_format=torch.channels_last)
    within = slice(row.padding, row.padding + row.patch)
    inner = data[:, :, within, within].contiguous()
    return inputs, inner[:, 4:5], inner[:, 3:4]


def start(row: Row, seed: int) -> nn.Module:
    """The network before its first step, the same for all rows; without the mask its weights of that channel are 0.

    They stay so, as nothing comes in there in training. So it does not matter that the engine's patches have a mask.
    """
    torch.manual_seed(seed)
    network = build_network(NETWORK)
    if not row.mask:
        with torch.no_grad():
            next(network.parameters())[:, 3:].zero_()
    return network.to(memory_format=torch.channels_last)


def train(row: Row, crops: Patches, config: TrainingConfig) -> tuple[nn.Module, float]:
    """Train one row; the network and seconds of processor time."""
    network = start(row, config.seed)
    margins = MarginNetwork(network, row.patch, row.padding).train()
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    began = time.process_time()
    for step, batch in enumerate(batches(row, crops, config)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        inputs, target, coarse = tensors(row, batch)
        value = loss(margins(inputs).unsqueeze(1), target, coarse, config)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return network, time.process_time() - began


def trained(row: Row, given: argparse.Namespace, config: TrainingConfig) -> float:
    """Train and export a row, or find it done; seconds of processor time that its training took."""
    folder = weights_folder(given)
    file = folder / "seconds.json"
    done: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}
    if row.name not in done:
        network, seconds = train(row, training_crops(config, given.data, given.work, given.crops), config)
        write_weights(
            network,
            folder,
            name=row.name,
            architecture=NETWORK,
            arguments={},
            input_size=row.input_size,
            patch=row.patch,
            padding=row.padding,
            license="Apache-2.0",
            source=f"briefly trained, {config.steps} steps of {config.batch} crops",
            card="",
        )
        done[row.name] = round(seconds, 1)
        file.write_text(json.dumps(done, indent=1))
        print(f"{row.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return done[row.name]


def weights_folder(given: argparse.Namespace) -> Path:
    """Where the rows of these numbers live."""
    folder: Path = given.work / f"steps-{given.steps}-crops-{given.crops}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measure(rows: list[Row], folder: Path, cases: Cases) -> dict[str, dict[str, float]]:
    """Figures by name of the row, and of the coarse masks under `coarse`."""
    refined: dict[str, list[Rle]] = {}
    found: dict[str, dict[str, float]] = {"coarse": {}}
    for row in rows:
        network = load_refiner("bpr", weights=folder / f"{row.name}.json", runtime="openvino", threads=1)
        refined[row.name], seconds = timed(network, cases, NMS)
        count = sum(len(network.boxes(case.coarse, NMS)) for case in cases.cases)
        found[row.name] = {"per_instance": count / len(cases.cases), "cpu_ms": 1e3 * seconds}
    for name, scores in cases.score(refined).items():
        found[name] |= {key: getattr(scores, key) for key in ("ap", "mean_iou", "f1px", "boundary_ap")}
    return found


def print_tables(results: dict[str, dict[str, Any]], rows: list[Row], wanted: list[int]) -> None:
    """Print a table of ours for each of the paper's, in Markdown."""
    columns = ["kind", "patch", "padding", "input", "mask patch", "paper's AP", "AP", "mean IoU", "F@1", "boundary AP"]
    columns += ["patches per instance", "CPU ms per instance", "training, CPU s"]
    for table in wanted:
        print(f"{DEFINITIONS[table]}\n\n| {' | '.join(columns)} |")
        print("| --- " * len(columns) + "|")
        for kind, result in results.items():
            print(_line(kind, ["coarse", "", "", "", ""], result["rows"]["coarse"]))
            for row in rows:
                if table in row.tables:
                    paper = shown(PAPER.get(row.name), ".1f") or "not at hand"
                    shape = [str(row.patch), str(row.padding), str(row.input_size), "yes" if row.mask else "no", paper]
                    print(_line(kind, shape, result["rows"][row.name]))
        print()


def _line(kind: str, shape: list[str], figures: dict[str, float]) -> str:
    cells = [f"{100 * figures['ap']:.1f}", *(f"{figures[key]:.4f}" for key in ("mean_iou", "f1px", "boundary_ap"))]
    forms = (("per_instance", ".2f"), ("cpu_ms", ".1f"), ("training_s", ".0f"))
    return f"| {' | '.join([kind, *shape, *cells, *(shown(figures.get(key), form) for key, form in forms)])} |"


def main(arguments: list[str] | None = None) -> int:
    """Train what is not trained yet, and print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, kinds=["warp", "rcnn28"], limit=14)
    parser.add_argument("--data", type=Path, required=True, help="training data: a folder with coco-cc and nuclei")
    parser.add_argument("--work", type=Path, required=True, help="folder for crops and weights")
    parser.add_argument("--tables", type=int, nargs="+", default=[2, 3, 5], choices=[2, 3, 5], help="of the paper")
    parser.add_argument("--steps", type=int, default=600, help="of training, of 32 crops each")
    parser.add_argument("--crops", type=int, default=9600, help="different ones that steps draw from")
    parser.add_argument("--costly", action="store_true", help="the input of 256 px too")
    parser.add_argument("--train-only", action="store_true", help="measure nothing yet")
    given = parser.parse_args(arguments)
    check(parser, given)
    if min(given.steps, given.crops) < 1:
        parser.error("--steps and --crops must be 1 or more")
    torch.set_num_threads(1)
    changes = {"steps": given.steps, "warmup": max(1, given.steps // 6), "decay": 0.5}
    rows = [row for row in ROWS if set(row.tables) & set(given.tables) and (given.costly or not row.costly)]
    results: dict[str, dict[str, Any]] = {}
    try:
        config = read_config(CONFIGS / "bpr-small.yaml", changes)
        seconds = {row.name: trained(row, given, config) for row in rows}
        for kind in [] if given.train_only else given.kinds:
            with tempfile.TemporaryDirectory() as work:
                cases = read_cases(given, kind, Path(work))
                figures = measure(rows, weights_folder(given), cases)
            for name, value in seconds.items():
                figures[name]["training_s"] = value
            results[kind] = {"instances": len(cases.cases), "rows": figures}
    except MaskmendError as error:
        parser.error(str(error))
    if given.train_only:
        return 0
    if given.json:
        print(json.dumps({"definitions": DEFINITIONS, "paper": PAPER, "kinds": results}, indent=1))
    else:
        print_tables(results, rows, given.tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())

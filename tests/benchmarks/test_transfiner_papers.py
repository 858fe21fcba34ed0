"""The experiments on Mask Transfiner's parts: what they measure, on little data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_scripts import BENCHMARKS, loader

torch = pytest.importorskip("torch", reason="networks need the train extra")

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "samples"


ablations = loader("papers")("transfiner_ablations")


class Idle(torch.nn.Module):
    """Says what the coarse mask says."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, 3:]


def crops(count: int = 3) -> np.ndarray:
    """Coarse masks that are the truth moved by 6 px; the last of them is right."""
    rng = np.random.default_rng(0)
    made = rng.integers(0, 256, (count, 224, 224, 5), np.uint8)
    made[..., 3:] = 0
    made[:, 60:160, 60:160, 4] = 1
    made[:, 66:166, 60:160, 3] = 1
    made[-1, :, :, 3] = made[-1, :, :, 4]
    return made


def test_a_network_that_changes_nothing_is_as_good_as_the_coarse_masks() -> None:
    found = ablations.measure(Idle(), crops())
    assert found["refined_iou"] == found["coarse_iou"]
    assert found["refined_band"] == found["coarse_band"]
    both, either = 94 * 100, 106 * 100
    assert found["coarse_iou"] == pytest.approx((2 * both / either + 1) / 3)


def test_unsure_pixels_are_not_counted() -> None:
    made = crops()
    made[:, 160:166, 60:160, 4] = 2
    found = ablations.measure(Idle(), made)
    assert found["coarse_iou"] == pytest.approx((2 * 94 / 100 + 1) / 3)


def test_training_leaves_the_trunk_alone_and_is_the_same_for_the_same_seed() -> None:
    config = ablations.read_config(ablations.CONFIGS / "transfiner-small.yaml", {"steps": 2, "batch": 2, "warmup": 1})
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        network = ablations.Transfiner(depth=1, k=(40, 60, 80))
        ablations.train(network, crops(), config, "bpr-small")
        states.append({key: value.clone() for key, value in network.state_dict().items()})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    fresh = ablations.Transfiner(depth=1, k=(40, 60, 80))
    ablations.take_trunk(fresh, "bpr-small")
    for key, value in fresh.trunk.state_dict().items():
        assert torch.equal(value, states[0][f"trunk.{key}"])
    assert not torch.equal(fresh.decoder[-1].weight, states[0]["decoder.3.weight"])


def test_the_table_has_every_row_that_is_there() -> None:
    kinds = {"warp": {"coarse_iou": 0.5, "refined_iou": 0.75, "coarse_band": 0.25, "refined_band": 0.5}}
    rows = ablations.table({row.label: {"seconds": 7.0, "kinds": kinds} for row in ablations.ROWS}).splitlines()
    assert len(rows) == 2 + 1 + len(ablations.ROWS)
    assert rows[2] == "|  | coarse masks | 0.2500 | 0.2500 | 0.5000 |  |"
    assert rows[3] == f"| base | {ablations.BASE} | 0.5000 | 0.5000 | 0.7500 | 7 |"


def test_nodes_and_cost_are_counted_on_the_sample() -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "papers" / "transfiner_cost.py"),
        "--gt",
        str(SAMPLES / "instances.json"),
    ]
    command += ["--images", str(SAMPLES / "images"), "--coarse", str(SAMPLES / "coarse.json"), "--limit", "4"]
    done = subprocess.run([*command, "--plain"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    levels = {cells[0].strip(): cells for cells in lines if cells[0].strip() in ("28", "56", "112")}
    for side, slots in (("28", 96), ("56", 224), ("112", 448)):
        assert int(levels[side][1]) == slots
        assert 0 < float(levels[side][2]) <= slots
    assert "4 instances" in done.stdout

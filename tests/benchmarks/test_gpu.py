"""The script that measures a GPU: it runs, and where there is no GPU it says so and claims nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the GPU path needs PyTorch")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0
    assert "nothing is measured" in done.stdout
    assert not (tmp_path / "figures.json").exists()


def test_the_same_steps_on_the_cpu(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--quick", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["device"].startswith("CPU")
    (parity,) = figures["parity"]
    assert parity["largest_logit_difference"] < 1e-4
    assert parity["mask_pixels_apart"] <= 2
    assert [row["batch"] for row in figures["speed"]] == [1, 2]
    assert all(row["patches_per_s"] > 0 and 0 < row["share_of_peak"] < 5 for row in figures["speed"])
    assert figures["image"][0]["one_pass_patches"] > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
def test_on_a_gpu(tmp_path: Path) -> None:
    done = run("--most", "64", "--repeats", "3", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["machine"]["capability"]

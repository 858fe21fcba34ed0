"""The same input gives the same bytes: again, on another number of threads, whatever the hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="the openvino runtime is not installed")

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
PHOTOGRAPH = "000000401416.jpg"


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of one photograph of the sample."""
    records = [
        record
        for record in json.loads((SAMPLES / "coarse.json").read_text())
        if record["file_name"].endswith(PHOTOGRAPH)
    ]
    assert len(records) > 3
    file = tmp_path_factory.mktemp("one-photograph") / "coarse.json"
    file.write_text(json.dumps(records))
    return file


def refined(coarse: Path, output: Path, *more: str, seed: str = "0") -> bytes:
    """What a fresh process writes."""
    command = [
        sys.executable,
        "-m",
        "maskmend.clients.cli",
        "refine",
        coarse,
        "--images",
        SAMPLES / "images",
        "-o",
        output,
    ]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([*map(str, command), *more], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


@pytest.mark.parametrize("refiner", ["bpr", "transfiner"])
def test_threads_runs_and_hash_seeds_change_nothing(coarse: Path, tmp_path: Path, refiner: str) -> None:
    one = refined(coarse, tmp_path / "one.json", "--refiner", refiner, "--threads", "1")
    two = refined(coarse, tmp_path / "two.json", "--refiner", refiner, "--threads", "2", seed="12345")
    assert one == two
    before = [record["segmentation"] for record in json.loads(coarse.read_text())]
    assert before != [record["segmentation"] for record in json.loads(one)], "nothing was refined"

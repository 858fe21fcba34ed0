"""The script that sets adaptive patches beside suppression: scores as `maskmend evaluate`'s, tables of a made-up run."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the scripts of benchmarks/quality share the training code")

from maskmend.patcher import Rle
from maskmend.patcher.metrics import instance_metrics

FOLDER = Path(__file__).parents[2] / "benchmarks" / "quality"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("quality_patches", FOLDER / "patches.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def test_scores_in_a_crop_are_those_of_the_frame(script) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        rows, columns = np.indices((60, 90))
        y, x, r = rng.uniform(0, 60), rng.uniform(0, 90), rng.uniform(4, 40)
        truth = (rows - y) ** 2 + (columns - x) ** 2 < r**2
        mask = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
        wanted = instance_metrics(mask, truth)
        found = script.scores(Rle.from_dense(mask), Rle.from_dense(truth))
        assert found == (wanted["iou"], wanted["f1px"])


def test_a_table_of_an_earlier_run_is_drawn_and_compared(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for kind, more in (("warp", 0.0), ("yolo", 0.1)):
        for way, patches, f1px in (("nms=0.25", 10, 0.8), ("nms=0.15", 7, 0.7), ("adaptive", 6, 0.79)):
            row = {"set": "davis", "kind": kind, "way": way, "instances": 3, "patches": patches, "iou": 0.9 + more / 2}
            row |= {"f1px": f1px + more, "harmed": 1.5, "improved": 40.0, "coarse_iou": 0.8, "coarse_f1px": 0.5}
            rows.append(row)
    file = tmp_path / "patches.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(sys, "argv", ["patches.py", "--work", str(tmp_path), "--table", str(file)])
    script.main()
    printed = capsys.readouterr().out
    assert "| davis | mean | adaptive | 6.00 | 60 % | 0.9250 | 0.8400 | -0.0100 | 40.0 | 1.5 |" in printed
    assert "| davis | yolo | adaptive | 6.00 | 60 % | 0.9500 | 0.8900 | -0.0100 | 40.0 | 1.5 |" in printed
    assert (tmp_path / "patches.png").stat().st_size > 1000

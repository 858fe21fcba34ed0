from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from maskmend.patcher import MaskError, Rle


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_codecs_survive_hostile_input():
    outcome = load(Path(__file__).parents[1] / "fuzz_codecs.py").fuzz(4000, seed=1)
    # Both ways out must really have been taken, or nothing was tested.
    assert outcome["accepted"] > 300
    assert outcome["refused"] > 1000


def test_the_benchmark_runs_and_its_two_ways_agree():
    pytest.importorskip("pycocotools")
    result = load(Path(__file__).parents[2] / "benchmarks" / "geometry.py").run(seed=3, repeats=1)
    assert result["instances"] == 10
    assert len(result["stages"]) == 5
    assert all(row["ratio"] > 0 for row in result["stages"].values())
    assert {"boxes", "crops", "hold, fade", "reassemble", "guard", "arbitrate", "encode", "total"} <= set(
        result["pass"]
    )
    assert result["pass"]["total"] > result["pass"]["guard"] > 0


def test_random_digits_decode_to_the_whole_frame_or_not_at_all():
    rng = np.random.default_rng(6)
    accepted = 0
    for _ in range(2000):
        counts = bytes(rng.integers(48, 54, rng.integers(1, 7)).astype(np.uint8))
        try:
            rle = Rle.from_coco({"size": [4, 2], "counts": counts})
        except MaskError:
            continue
        assert rle.to_dense().shape == (4, 2)
        accepted += 1
    assert accepted > 0

"""The size of SharpMask's refinement beside the paper's limit."""

from __future__ import annotations

import json

import pytest
from benchmark_scripts import loader

torch = pytest.importorskip("torch", reason="networks need the train extra")

size = loader("papers")("sharpmask_size")


def test_every_row_is_below_the_paper_s_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert size.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert len(found) == 5
    assert all(0 < row["refinement"] < 3_000_000 for row in found.values())
    wide, ours = (found[f"k = 32, constant{rest}"] for rest in (", skip features as wide as a ResNet-50's", ""))
    assert wide["skip"] == [1024, 512, 256, 64]
    assert wide["refinement"] > ours["refinement"] > found["k = 32, halving"]["refinement"]


def test_the_count_is_that_of_the_paper_s_layers() -> None:
    # Skip features of c channels by two 3x3 convolutions to k, joined with k of the mask, to k of the next module.
    skips, k = (1024, 512, 256, 64), (32, 16, 8, 4)
    wanted = 1024 * k[0] + k[0]
    for channels, here, after in zip(skips, k, (*k[1:], k[-1]), strict=True):
        wanted += 9 * channels * 64 + 64 + 9 * 64 * here + here + 9 * 2 * here * after + after
    wanted += 9 * k[-1] + 1
    assert size.count({"channels": 32, "schedule": "halving", **size.RESNET50})["refinement"] == wanted


def test_a_network_above_the_limit_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "PAPER", 200_000)
    assert size.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 5
    assert {line.count("|") for line in lines} == {5}
    assert lines[2].startswith("| shipped configuration | 48, 96, 48, 24 | 209,785 | < 200,000 |")

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(gt: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "papers" / "incoherence.py"), "--gt", str(gt), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def written(folder: Path) -> Path:
    """A square of 112 px, so that the box at twice its size needs no resizing, and a crowd that does not count."""
    square = [60, 60, 172, 60, 172, 172, 60, 172]
    record = {"image_id": 1, "category_id": 1, "bbox": [60, 60, 112, 112], "area": 112 * 112}
    crowd = {"size": [240, 240], "counts": [100, 300, 57200]}
    records = [
        {**record, "id": 1, "iscrowd": 0, "segmentation": [square]},
        {**record, "id": 2, "iscrowd": 1, "segmentation": crowd},
    ]
    images = [{"id": 1, "width": 240, "height": 240, "file_name": "a.jpg"}]
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": records, "categories": [{"id": 1, "name": "a"}]}))
    return file


def test_a_square_is_counted_by_hand(tmp_path: Path) -> None:
    file = written(tmp_path)
    done = run(file, "--json", "--expand", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["instances"] == 1
    # Its edges fall on the even grid at every size: Eq. 1 sees none. The bilinear rule marks one ring of cells inside
    # and one outside: of a square of n cells that is 4 n - 4 and 4 n + 4.
    assert [level["nodes"]["max"] for level in found["methods"]["nearest"]["levels"]] == [0, 0, 0]
    for level, cells in zip(found["methods"]["bilinear"]["levels"], (14, 28, 56), strict=True):
        assert level["nodes"]["max"] == 8 * cells
        share = 100 * 8 * cells / level["side"] ** 2
        assert level["share_of_square"] == pytest.approx({"median": share, "mean": share})
        assert level["share_of_box"] == pytest.approx(4 * share)
    assert found["methods"]["bilinear"]["coverage"] == 100
    # In its own box the square is everywhere.
    inside = json.loads(run(file, "--json").stdout)
    assert inside["methods"]["bilinear"]["levels"][2]["nodes"]["max"] == 0


def test_the_sample() -> None:
    sample = REPOSITORY / "samples" / "instances.json"
    done = run(sample)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("89 instances")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:16]]
    assert [row[1] for row in rows] == ["28", "56", "112"] * 4
    by_drawing: dict[str, Any] = json.loads(run(sample, "--draw", "--json").stdout)["methods"]
    for rule, first in (("nearest", 0), ("nearest-children", 3), ("bilinear", 6), ("sampled", 9)):
        for row, level in zip(rows[first : first + 3], by_drawing[rule]["levels"], strict=True):
            # Two ways of making the square: not the same, but of one size.
            assert float(row[3]) == pytest.approx(level["share_of_square"]["mean"], rel=0.3)
    # A child that is constant, but unlike its parent, is no node by Eq. 1 and stays wrong.
    left = {rule: by_drawing[rule]["left_over"] for rule in by_drawing}
    assert left["bilinear"]["nearest, all"] < left["sampled"]["nearest, all"] < left["nearest"]["nearest, all"] < 100
    assert left["nearest-children"]["nearest, all"] < left["nearest"]["nearest, all"] / 2
    assert left["bilinear"]["nearest, all"] < left["bilinear"]["nearest, finest"]


@pytest.mark.parametrize(
    "options", [["--expand", "0.5"], ["--finest", "30"], ["--levels", "0"], ["--finest", "100000"]]
)
def test_unusable_options(options: list[str]) -> None:
    done = run(REPOSITORY / "samples" / "instances.json", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr

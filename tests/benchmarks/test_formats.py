from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_table_of_formats_says_that_exact_ones_lose_nothing() -> None:
    samples = REPOSITORY / "samples"
    command = [
        REPOSITORY / "benchmarks" / "formats.py",
        "--gt",
        samples / "instances.json",
        "--images",
        samples / "images",
    ]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    table = {(row[0], row[1]): row for row in rows}
    for name in ("voc", "index-png", "png", "yolo", "coco"):
        assert table[name, "0"][2:5] == ["89", "89", "1.0000"]
    scores = [float(table["yolo", tolerance][4]) for tolerance in ("0", "0.5", "1", "2")]
    assert scores == sorted(scores, reverse=True)
    assert scores[1] > 0.98

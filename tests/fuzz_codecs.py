"""Throws hostile run lengths and polygons at the codecs. Anything but an `Rle` or a `MaskError` is a failure.

Run: python tests/fuzz_codecs.py [CALLS] [SEED]
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import Any

import numpy as np

from maskmend.patcher import MaskError, Rle, as_rle, polygons_to_rle

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, 10**400, -(10**400), 0.0, -0.0, 0.5, 1e18, 1e308, 5e-324,
    math.nan, math.inf, -math.inf, "", "1", "b'1'", "\0", "é", "\ud800", b"", b"\xff", [], {}, (), object(), 1j,
    np.int64(3), np.float32(2.5), np.nan, np.zeros(3), np.array(7), range(5),
)  # fmt: skip


def odd(rng: np.random.Generator) -> Any:
    return ODD_VALUES[rng.integers(len(ODD_VALUES))]


def some_text(rng: np.random.Generator) -> tuple[Any, Any]:
    """Size and counts near enough to the real thing to get deep into the decoder."""
    mask = rng.random((int(rng.integers(1, 20)), int(rng.integers(1, 20)))) < rng.random()
    text = bytearray(Rle.from_dense(mask).to_coco()["counts"].encode())
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(len(text) + 1))
        kind = rng.integers(5)
        if kind == 0:
            text[at:at] = bytes(rng.integers(0, 256, rng.integers(1, 9)).astype(np.uint8))
        elif kind == 1:
            text[at:at] = bytes(rng.integers(48, 112, rng.integers(1, 9)).astype(np.uint8))
        elif kind == 2:
            del text[at : at + int(rng.integers(1, 4))]
        elif kind == 3:
            text[at:at] = b"o" * int(rng.integers(1, 40))
        else:
            text = bytearray(b"b'" + text + b"'")
    return list(mask.shape), bytes(text) if rng.random() < 0.5 else text.decode("latin-1")


def some_runs(rng: np.random.Generator) -> Any:
    runs: list[Any] = rng.integers(0, 50, rng.integers(0, 30)).tolist()
    for _ in range(rng.integers(0, 3)):
        runs.insert(int(rng.integers(len(runs) + 1)), odd(rng))
    if rng.random() < 0.3 and all(type(run) is int and abs(run) < 2**31 for run in runs):
        return np.array(runs, rng.choice(["i4", "u4", "i8", "f8", "u1"])) if not runs or min(runs) >= 0 else runs
    return tuple(runs) if rng.random() < 0.2 else runs


def some_record(rng: np.random.Generator) -> Any:
    size: Any = rng.integers(1, 30, 2).tolist()
    source = rng.random()
    if source < 0.55:
        size, counts = some_text(rng)
    elif source < 0.9:
        counts = some_runs(rng)
        size = [max(sum(run for run in counts if isinstance(run, int) and 0 <= run < 1000), 1), 1]
    else:
        counts = odd(rng)
    kind = rng.random()
    if kind < 0.1:
        size = [odd(rng), odd(rng)]
    elif kind < 0.15:
        size = [int(side) for side in rng.integers(1, 70_000, 2)]
    elif kind < 0.2:
        size = odd(rng)
    record = {"size": size, "counts": counts}
    if rng.random() < 0.03:
        record.pop("size" if rng.random() < 0.5 else "counts")
    return odd(rng) if rng.random() < 0.02 else record


def some_polygons(rng: np.random.Generator) -> Any:
    polygons: list[Any] = []
    for _ in range(rng.integers(0, 4)):
        spread = 10.0 ** rng.uniform(0, 7)
        part: list[Any] = (rng.normal(0, spread, rng.integers(0, 14))).tolist()
        if rng.random() < 0.3:
            part = [round(value) for value in part]
        if rng.random() < 0.2 and part:
            part[int(rng.integers(len(part)))] = odd(rng)
        polygons.append(part if rng.random() < 0.95 else odd(rng))
    return odd(rng) if rng.random() < 0.02 else polygons


def call(rng: np.random.Generator) -> str:
    """One call; what came of it."""
    kind = rng.integers(3)
    try:
        if kind == 0:
            rle = Rle.from_coco(some_record(rng))
        elif kind == 1:
            rle = as_rle(some_record(rng), height=odd(rng) if rng.random() < 0.05 else None)
        else:
            size = rng.integers(1, 400, 2).tolist() if rng.random() < 0.9 else [odd(rng), odd(rng)]
            rle = polygons_to_rle(some_polygons(rng), *size)
    except MaskError as error:
        if len(str(error)) > 400:
            raise AssertionError("a refusal of more than 400 characters") from error
        return "refused"
    if int(rle.counts.sum(dtype=np.int64)) != rle.height * rle.width or Rle.from_coco(rle.to_coco()) != rle:
        raise AssertionError("accepted runs that do not survive a round trip")
    x, y, w, h = rle.bbox
    if not (0 <= x <= x + w <= rle.width and 0 <= y <= y + h <= rle.height and 0 <= rle.area <= w * h):
        raise AssertionError("bounding box outside the frame")
    return "accepted"


def fuzz(calls: int, seed: int = 0) -> Counter[str]:
    """Make `calls` calls and count what came of them; any failure is raised."""
    outcome: Counter[str] = Counter()
    for number in range(calls):
        outcome[call(np.random.default_rng((seed, number)))] += 1
    return outcome


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    start = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(f"{total} calls:", dict(fuzz(total, start)))

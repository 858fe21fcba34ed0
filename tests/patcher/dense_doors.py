"""The guard's kernels, asked by whole maps and answering with whole maps: for tests that know nothing of bit columns."""

from __future__ import annotations

import numpy as np

from maskmend.patcher import _near, _pieces, field, topology
from maskmend.patcher.changes import Changes, Regions, measure_changes
from maskmend.patcher.columns import Columns


def columns_of(mask: np.ndarray) -> Columns:
    return Columns.of_dense(np.asarray(mask, np.uint8))


def tidy(after: np.ndarray, before: np.ndarray, distance: np.ndarray | None = None) -> np.ndarray:
    """`distance` is that of `before`, and no longer asked for; so below."""
    return np.asarray(topology.tidy(columns_of(after), columns_of(before)))


def without_cuts(after: np.ndarray, before: np.ndarray, distance: np.ndarray | None = None) -> np.ndarray:
    new, old = columns_of(after), columns_of(before)
    parts = _pieces.joined(new.bits, new.height, True)
    _pieces.join_cuts(new.bits, *parts, old.bits, new.height, topology.PINHOLE, topology.THIN)
    return np.asarray(new)


def without_fragments(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    new, old = columns_of(after), columns_of(before)
    parts = _pieces.joined(new.bits, new.height, True)
    _pieces.drop_fragments(new.bits, *parts, old.bits, new.height, topology.PINHOLE)
    return np.asarray(new)


def without_pinholes(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    new, old = columns_of(after), columns_of(before)
    _pieces.fill_pinholes(new.bits, old.bits, new.height, topology.PINHOLE)
    return np.asarray(new)


def find_changes(
    before: np.ndarray,
    after: np.ndarray,
    distance: np.ndarray,
    mean: np.ndarray,
    spread: np.ndarray,
    image: np.ndarray,
) -> Changes:
    """The image is that of the masks alone; mean and spread are of the pixels that differ, row by row."""
    old, new = columns_of(before), columns_of(after)
    regions = Regions.of(Columns(old.bits ^ new.bits, old.height))
    said = field.ProbabilityField(np.asarray(mean, np.float32), np.asarray(spread, np.float32))
    return measure_changes(old, new, regions, said, np.ascontiguousarray(image), 0, 0)


def edge_distance(bits: np.ndarray, height: int, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write into out [h, w] the distances of single pixels: each as a region of its own."""
    runs = np.stack([columns, rows, rows + 1], 1).astype(np.int32)
    out[rows, columns] = _near.deepest(bits, height, runs, np.arange(1, len(rows) + 1, dtype=np.int32), len(rows))


def places_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `np.nonzero`."""
    regions = Regions.of(columns_of(mask))
    return np.repeat(np.arange(len(mask)), np.diff(regions.starts)), regions.columns


def field_at(
    votes: list[tuple[np.ndarray, np.ndarray]],
    places: tuple[np.ndarray, np.ndarray],
    region: tuple[int, int, int, int],
) -> field.ProbabilityField:
    rows, columns = places
    starts = np.searchsorted(rows, np.arange(region[3] - region[1] + 1))
    return field.field_at(votes, starts, columns, *region[:2])

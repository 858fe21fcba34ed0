"""What a refinement changed: connected regions, and the evidence for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _changed, _near, _outline
from maskmend.patcher.columns import Columns
from maskmend.patcher.field import ProbabilityField

_FLAT = 2.0
"""Grey levels per px that count as no edge at all: noise and compression."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Connected regions (8-neighbours) of pixels, numbered from 1 in the order that OpenCV numbers them in.

    Attributes:
        shape: (h, w) of the part of the frame that was looked at, in px.
        count: of regions.
        runs: int32 [R, 3], column, first row and row behind the last one of the pixels, column by column.
        numbers: int32 [R], region that a run is of.
        starts: int64 [h + 1]; in the order of rows, pixels starts[r] to starts[r + 1] - 1 are of row r.
        columns: int64 [N], of the pixels, row by row.
        numbers_by_row: int32 [N], region that a pixel is of.
    """

    shape: tuple[int, int]
    count: int
    runs: NDArray[np.int32]
    numbers: NDArray[np.int32]
    starts: NDArray[np.int64]
    columns: NDArray[np.int64]
    numbers_by_row: NDArray[np.int32]

    @classmethod
    def of(cls, pixels: Columns) -> Regions:
        """Those of the foreground of a mask."""
        runs, numbers, count = _changed.regions_of(pixels.bits, pixels.height)
        shape = (pixels.height, pixels.bits.shape[0])
        return cls(shape, int(count), runs, numbers, *_changed.pixels_of(runs, numbers, pixels.height))

    def labels(self) -> NDArray[np.int32]:
        """int32 [h, w], number of the region, 0 where none is. For fitting and tests; the guard needs no maps."""
        out = np.zeros(self.shape, np.int32)
        _changed.paint(self.runs, self.numbers, out)
        return out

    def flipped(self, mask: Columns, chosen: NDArray[np.bool_]) -> Columns:
        """A mask with the pixels of the chosen regions, bool [count], turned over."""
        bits = mask.bits.copy()
        _changed.flip(bits, self.runs, self.numbers, chosen)
        return Columns(bits, mask.height)

    def present(self, mask: Columns) -> NDArray[np.bool_]:
        """Which regions have a pixel in a mask, bool [count]."""
        return _changed.present(mask.bits, self.runs, self.numbers, self.count)


@dataclass(frozen=True, slots=True)
class Changes:
    """Connected regions (8-neighbours) in which two masks differ.

    Attributes:
        regions: where. Arrays below have one entry per region, region 1 first.
        size: pixels.
        depth: largest distance in px from the old edge.
        certainty: mean of 2q - 1, q being the probability of the change; -1 to 1.
        spread: mean standard deviation between overlapping patches.
        growth: +1 for a change that adds to the mask, -1 for one that takes from it, between where a region does both.
        support: logarithm of how much stronger the image's edge is along the new outline than along the old one.
    """

    regions: Regions
    size: NDArray[np.int64]
    depth: NDArray[np.float64]
    certainty: NDArray[np.float64]
    spread: NDArray[np.float64]
    growth: NDArray[np.float64]
    support: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.int32]:
        """As of `Regions.labels`."""
        return self.regions.labels()


def measure_changes(
    before: Columns,
    after: Columns,
    regions: Regions,
    field: ProbabilityField,
    image: NDArray[np.uint8],
    x0: int,
    y0: int,
) -> Changes:
    """Measure the regions in which two masks differ.

    Args:
        before: a part of the mask as it was.
        after: the same part of it now.
        regions: of the pixels in which they differ.
        field: float32 [N] each, what the patches say at these pixels, row by row; see `field_at`.
        image: uint8 [H, W, 3], RGB, C-ordered.
        x0: column of the image that the part begins at, in px.
        y0: row of it.
    """
    height, runs, numbers = before.height, regions.runs, regions.numbers
    sums, edges = np.zeros((2, 4, regions.count))
    _changed.measure(
        before.bits, regions.starts, regions.columns, regions.numbers_by_row, field.mean, field.spread, sums
    )
    _outline.along_outlines(before.bits, after.bits, height, runs, numbers, image, x0, y0, edges)
    pixels, growth, certainty, spread = sums
    old, new = (edges[n] / np.maximum(edges[n + 1], 1) for n in (0, 2))
    return Changes(
        regions=regions,
        size=pixels.astype(np.int64),
        depth=_near.deepest(before.bits, height, runs, numbers, regions.count),
        certainty=certainty / pixels,
        spread=spread / pixels,
        growth=growth / pixels,
        support=np.log((new + _FLAT) / (old + _FLAT)),
    )

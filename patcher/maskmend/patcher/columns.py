"""A region of a mask as bit columns: what the guard and the arbitration work on, an eighth of a byte per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _bits
from maskmend.patcher.rle import Rle, region_bits


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A region of a mask. NumPy takes it for the uint8 array [h, w] of 0 and 1 that it stands for, and makes that then.

    Attributes:
        bits: uint64 [w, words], see `_bits`; 0 below the region.
        height: rows of the region.
    """

    bits: _bits.Bits
    height: int

    @classmethod
    def of(cls, mask: Rle, region: tuple[int, int, int, int]) -> Columns:
        """The region (x0, y0, x1, y1), in px of the frame, of a mask."""
        x0, y0, x1, y1 = region
        return cls(region_bits(mask, x0, y0, x1 - x0, y1 - y0), y1 - y0)

    @classmethod
    def of_dense(cls, mask: NDArray[np.uint8]) -> Columns:
        """All of a dense mask, uint8 [h, w]; every value but 0 is foreground."""
        height, width = mask.shape
        bits = _bits.empty_bits(width, height)
        _bits.draw_dense(bits, np.ascontiguousarray(mask), 0, 0, height)
        return cls(bits, height)

    def to_rle(self, height: int, width: int, x0: int, y0: int) -> Rle:
        """A mask of `height` x `width` px whose foreground is that of this region, which begins at (x0, y0) of it."""
        return Rle(height, width, _bits.read_runs(self.bits, height, width, x0, y0, self.height))

    def count(self) -> int:
        """Foreground pixels."""
        return int(_bits.count(self.bits))

    def edge_length(self) -> int:
        """Background pixels of the region next to the mask (8-neighbours): the length of its edge in px."""
        return int(_bits.count_around(self.bits, self.height))

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        dense = np.empty((self.height, self.bits.shape[0]), np.uint8)
        _bits.undraw(self.bits, dense, 0, 0, self.height)
        return dense if dtype is None else dense.astype(dtype)  # type: ignore[call-overload]

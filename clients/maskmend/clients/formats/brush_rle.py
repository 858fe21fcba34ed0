"""Label Studio's brush masks: run lengths of an RGBA picture, packed bit by bit (the form of `@thi.ng/rle-pack`).

The bits are, in order, highest first: 32 for the number of values, 5 for the bits of a value less one, and four times 4
for the bits of a run's length less one. Then come runs: one bit that says whether a single value is repeated, two that
say which of the four lengths is used, the length less one, and the value, or as many values as the length says. Values
are the channels of pixels along the rows. A pixel is foreground where its alpha is not 0, as Label Studio draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maskmend.clients.formats.rowwise import from_row_runs, row_runs
from maskmend.patcher import Rle
from maskmend.patcher._jit import compiled
from maskmend.patcher.errors import MaskError
from maskmend.patcher.rle import check_size

_HEADER: Final = 32 + 5 + 4 * 4
_SIZES: Final = (3, 4, 8, 16)
"""Bits of the lengths that are written; those of Label Studio itself."""
_FINE, _CUT_OFF, _TOO_LONG = range(3)


def read_brush(rle: object, height: int, width: int, *, field: str = "rle") -> Rle:
    """Read a brush mask. What it takes is in proportion to the bytes given and the frame, which is checked first.

    Args:
        rle: list of bytes, 0 to 255, as `value.rle` has them.
        height: rows of the picture, `original_height`.
        width: columns of the picture, `original_width`.
        field: how error messages name it.

    Raises:
        MaskError: not a list of bytes, cut off, or of another number of pixels; a frame beyond the limits.
    """
    check_size(height, width, "original_width and original_height")
    data = _bytes(rle, field)
    if 8 * len(data) < _HEADER:
        raise MaskError(f"{field} has {len(data)} bytes, less than its header; send all of it", field=field)
    values = int(_bits(data, 0, 32))
    if values != 4 * height * width:
        raise MaskError(
            f"{field} holds {values} values, but a picture of {width}x{height} px has {4 * height * width}; check "
            "original_width and original_height",
            field=field,
        )
    sizes = np.array([_bits(data, 37 + 4 * n, 4) + 1 for n in range(4)], np.int64)
    runs, status = _read_runs(data, values, int(_bits(data, 32, 5)) + 1, sizes)
    if status != _FINE:
        reason = (
            "ends in the middle of a run; it was cut short" if status == _CUT_OFF else "has runs beyond its own size"
        )
        raise MaskError(f"{field} ({len(data)} bytes) {reason}", field=field)
    return from_row_runs((runs[:, 0].copy(), runs[:, 1].copy()), (0, 0, width, height), height, width, field)


def write_brush(mask: Rle) -> list[int]:
    """A mask as a list of bytes: white, opaque foreground. Bit for bit what Label Studio's own encoder makes of it."""
    pixels = mask.height * mask.width
    starts, ends = row_runs(mask, (0, 0, mask.width, mask.height))
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = 0, starts, ends, pixels
    lengths = 4 * np.diff(edges)
    shades = np.zeros(len(lengths), np.int64)
    shades[1::2] = 255
    lengths, shades = lengths[lengths > 0], shades[lengths > 0]
    # What is longer than 16 bits can say becomes several runs, the last with what is left.
    longest = 1 << _SIZES[-1]
    pieces = -(-lengths // longest)
    shades = np.repeat(shades, pieces)
    last = np.cumsum(pieces) - 1
    parts = np.full(len(shades), longest, np.int64)
    parts[last] = lengths - (pieces - 1) * longest
    which = np.searchsorted(1 << np.array(_SIZES), parts)
    used = np.array(_SIZES)[which]
    words = ((0b100 | which) << (used + 8)) | ((parts - 1) << 8) | shades
    head = f"{4 * pixels:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    bits = np.concatenate([np.frombuffer(head.encode(), np.uint8) - ord("0"), _unpacked(words, used + 11)])
    # Its encoder rounds up to whole bytes, and adds one where nothing is left to round.
    packed = np.packbits(np.append(bits, np.zeros(8 - len(bits) % 8, np.uint8)))
    written: list[int] = packed.tolist()
    return written


def _bytes(rle: object, field: str) -> NDArray[np.uint8]:
    if isinstance(rle, (str, bytes)) or not isinstance(rle, Sequence):
        raise MaskError(f"{field} is {type(rle).__name__}; send a list of bytes, 0 to 255", field=field)
    try:
        return np.frombuffer(bytes(rle), np.uint8)
    except (TypeError, ValueError):
        raise MaskError(f"{field} holds something other than whole numbers from 0 to 255", field=field) from None


def _unpacked(words: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The last so many bits of each word, highest first, one after the other: uint8 of 0 and 1."""
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) - np.repeat(ends, lengths)
    bits: NDArray[np.uint8] = ((np.repeat(words, lengths) >> (-1 - places)) & 1).astype(np.uint8)
    return bits


@compiled
def _bits(data: NDArray[np.uint8], at: int, count: int) -> int:
    """So many bits from a place on, at most 32, as a number."""
    value = np.int64(0)
    for n in range(at, at + count):
        value = (value << 1) | ((np.int64(data[n >> 3]) >> (7 - (n & 7))) & 1)
    return value  # type: ignore[return-value]


@compiled
def _read_runs(
    data: NDArray[np.uint8], values: int, word: int, sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Pixels whose alpha is not 0, as runs [begin, end) along the rows, int64 [R, 2]; and whether all went well."""
    end = 8 * len(data)
    runs = np.empty((256, 2), np.int64)
    used = 0
    at = 53
    done = 0
    while done < values:
        if at + 3 > end:
            return runs[:used].copy(), 1
        repeated = _bits(data, at, 1)
        size = sizes[_bits(data, at + 1, 2)]
        at += 3
        if at + size > end:
            return runs[:used].copy(), 1
        stop = done + 1 + _bits(data, at, size)
        at += size
        if stop > values:
            return runs[:used].copy(), 2
        while done < stop:
            if at + word > end:
                return runs[:used].copy(), 1
            shade = _bits(data, at, word)
            at += word
            until = stop if repeated else done + 1
            # Of values done to until, those that are alpha belong to pixels first to last.
            first, last = done >> 2, until >> 2
            done = until
            if shade == 0 or last <= first:
                continue
            if used > 0 and runs[used - 1, 1] == first:
                runs[used - 1, 1] = last
                continue
            if used == len(runs):
                more = np.empty((2 * used, 2), np.int64)
                more[:used] = runs
                runs = more
            runs[used, 0], runs[used, 1] = first, last
            used += 1
    return runs[:used].copy(), 0

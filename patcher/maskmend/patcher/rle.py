"""Run-length masks, read from and written as COCO RLE without any foreign decoder.

Untrusted bytes meet the limits here before anything is allocated: memory taken is in proportion to the text given,
never to the size it claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher import _bits, _codec
from maskmend.patcher.errors import MaskError, OptionError

MAX_SIDE: Final = 65_535
MAX_PIXELS: Final = 2**28

_REASONS: Final = {
    _codec.BAD_CHARACTER: "holds a character outside '0' to 'o'; send COCO's compressed counts unchanged",
    _codec.UNTERMINATED: "ends in the middle of a number; the text was cut short",
    _codec.OVERFLOW: "holds a number longer than any mask; send COCO's compressed counts unchanged",
    _codec.NEGATIVE: "holds a negative run; run lengths are 0 or more",
    _codec.TOO_LONG: "has runs that sum to more than height x width; check that size is [height, width]",
    _codec.TOO_SHORT: "has runs that sum to less than height x width; check that size is [height, width]",
}


@dataclass(frozen=True, slots=True, eq=False)
class Rle:
    """A binary mask as run lengths.

    Attributes:
        height: rows of the frame, 1 to 65535.
        width: columns of the frame, 1 to 65535; height x width is at most 2**28.
        counts: uint32 [R], read-only. Lengths of runs down the columns, background first; only the first may be 0.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]

    def __post_init__(self) -> None:
        check_size(self.height, self.width, "size")
        given = self.counts
        if not isinstance(given, np.ndarray) or given.ndim != 1 or given.dtype.kind not in "iu":
            raise MaskError("counts must be an integer array with one axis; use Rle.from_coco", field="counts")
        # A copy, because kernels trust the runs: nobody may change them once they are checked.
        counts = given.astype(np.uint32)
        if not _codec.is_canonical(counts, self.height * self.width):
            raise MaskError("counts are not canonical runs of height x width pixels; use Rle.from_coco", field="counts")
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rle):
            return NotImplemented
        same = self.height == other.height and self.width == other.width
        return same and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.height, self.width, self.counts.tobytes()))

    @classmethod
    def from_coco(cls, obj: object, *, field: str = "segmentation") -> Rle:
        """Read a COCO RLE.

        Args:
            obj: mapping with ``size`` ([height, width]) and ``counts``: compressed (str or bytes) or a list or integer
                array of run lengths. Empty runs inside are legal and are merged.
            field: how error messages name the input.

        Raises:
            MaskError: not such a mapping, beyond the limits, or the runs do not fill the frame exactly.
        """
        if not isinstance(obj, Mapping):
            raise MaskError(f"{field} is {type(obj).__name__}; send a COCO RLE with size and counts", field=field)
        try:
            size, counts = obj["size"], obj["counts"]
        except KeyError as error:
            raise MaskError(f"{field} has no {error.args[0]}; send size and counts", field=field) from None
        height, width = _read_size(size, f"{field}.size")
        where = f"{field}.counts"
        if isinstance(counts, (str, bytes)):
            runs, status = _codec.parse_counts(_characters(counts, where), height * width)
        else:
            runs, status = _codec.canonical_counts(_numbers(counts, where), height * width)
        if status != _codec.FINE:
            reason = _REASONS[status]
            if isinstance(counts, (str, bytes)) and counts[:2] in ("b'", 'b"', b"b'", b'b"'):
                reason = "is Python's way of printing bytes (b'...'); decode with counts.decode('ascii') before writing"
            raise MaskError(f"{where} ({len(counts)} long, frame {height} x {width}) {reason}", field=where)
        return rle_of_runs(height, width, runs)

    @classmethod
    def from_dense(cls, mask: NDArray[np.generic], *, field: str = "mask") -> Rle:
        """Read a dense mask, bool or uint8 [H, W]; every value but 0 is foreground.

        Raises:
            MaskError: another shape or dtype, or beyond the limits.
        """
        pixels = dense_pixels(mask, field)
        height, width = pixels.shape
        x0, y0, w, h = map(int, _bits.dense_box(pixels))
        bits = _bits.empty_bits(w, h)
        _bits.draw_dense(bits, pixels, x0, y0, h)
        return rle_of_runs(height, width, _bits.read_runs(bits, height, width, x0, y0, h))

    @classmethod
    def from_crop(cls, crop: NDArray[np.generic], height: int, width: int, x0: int, y0: int) -> Rle:
        """A mask whose foreground is that of a crop.

        Args:
            crop: bool or uint8 [h, w]; every value but 0 is foreground.
            height: rows of the frame.
            width: columns of the frame.
            x0: column of the frame that the crop begins at.
            y0: row of the frame that the crop begins at.

        Raises:
            MaskError: the crop is of another dtype, or does not lie within the frame.
        """
        if not crop.size:
            return cls(height, width, np.array([height * width], np.uint32))
        pixels = dense_pixels(crop, "crop")
        h, w = pixels.shape
        if not (0 <= x0 <= width - w and 0 <= y0 <= height - h):
            raise MaskError(f"crop of {w}x{h} px at ({x0}, {y0}) leaves the frame of {width}x{height} px", field="crop")
        bits = _bits.empty_bits(w, h)
        _bits.draw_dense(bits, pixels, 0, 0, h)
        return cls(height, width, _bits.read_runs(bits, height, width, x0, y0, h))

    def to_coco(self) -> dict[str, Any]:
        """COCO RLE ``{"size": [height, width], "counts": str}``, bit for bit what COCO's own tools write."""
        text = _codec.format_counts(self.counts).tobytes().decode("ascii")
        return {"size": [self.height, self.width], "counts": text}

    def to_dense(self) -> NDArray[np.bool_]:
        """The whole frame, bool [H, W]. For tests and drawing; the hot path works on regions."""
        return self.crop(0, 0, self.width, self.height).view(np.bool_)

    def crop(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
        """The rectangle [x0, x1) x [y0, y1) as 0 and 1, uint8 [y1 - y0, x1 - x0]; 0 outside the frame.

        Raises:
            OptionError: the rectangle is empty the wrong way round, or larger than the limits of a mask.
        """
        width, height = int(x1) - int(x0), int(y1) - int(y0)
        if min(width, height) < 0 or width * height > MAX_PIXELS or max(map(abs, (x0, y0, x1, y1))) > 2**31:
            raise OptionError("crop must have x0 <= x1 and y0 <= y1 and at most 2**28 px", field="crop")
        out = np.zeros((height, width), np.uint8)
        # Only what the crop shares with the object is worth looking at.
        bx, by, bw, bh = self.bbox
        left, top = max(int(x0), bx), max(int(y0), by)
        w, h = min(int(x1), bx + bw) - left, min(int(y1), by + bh) - top
        if w > 0 and h > 0:
            bits = region_bits(self, left, top, w, h)
            _bits.undraw(bits, out, left - int(x0), top - int(y0), h)
        return out

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(_codec.foreground(self.counts))

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """Smallest box (x, y, width, height) in px around the foreground; (0, 0, 0, 0) when there is none."""
        return tuple(map(int, _codec.bounding_box(self.counts, self.height)))  # type: ignore[return-value]


def rle_of_runs(height: int, width: int, counts: NDArray[np.uint32]) -> Rle:
    """A mask of canonical runs, uint32 [R], that a kernel just made for a frame within the limits: unchecked, not copied."""
    counts.flags.writeable = False
    made = object.__new__(Rle)
    made.__setstate__((height, width, counts))  # type: ignore[attr-defined]
    return made


def as_rle(mask: object, *, height: int | None = None, width: int | None = None, field: str = "mask") -> Rle:
    """Read a mask of any kind.

    Args:
        mask: `Rle`; dense array bool or uint8 [H, W]; COCO RLE mapping; or a list of COCO polygons (flat lists of x and
            y in px), which needs `height` and `width`.
        height: rows the mask must have; None accepts any.
        width: columns the mask must have; None accepts any.
        field: how error messages name the input.

    Raises:
        MaskError: none of these, not readable, or of another size than asked for.
    """
    if isinstance(mask, Rle):
        rle = mask
    elif isinstance(mask, np.ndarray):
        rle = Rle.from_dense(mask, field=field)
    elif isinstance(mask, Mapping):
        rle = Rle.from_coco(mask, field=field)
    elif isinstance(mask, (list, tuple)):
        if height is None or width is None:
            raise MaskError(f"{field} is a list of polygons; give the frame's height and width too", field=field)
        from maskmend.patcher.polygons import polygons_to_rle  # polygons.py needs Rle

        return polygons_to_rle(mask, height, width, field=field)
    else:
        raise MaskError(f"{field} is {type(mask).__name__}; send an RLE, polygons or an array [H, W]", field=field)
    if not all(side is None or is_whole(side) for side in (height, width)):
        raise MaskError("height and width must be integers", field="size")
    if (height is not None and rle.height != height) or (width is not None and rle.width != width):
        wanted = f"{_shown(height)} x {_shown(width)}"
        raise MaskError(
            f"{field} is {rle.height} x {rle.width} (height x width) but must be {wanted}; "
            "send the mask in the image's own pixels",
            field=field,
        )
    return rle


def check_size(height: int, width: int, field: str) -> None:
    """Refuse a frame beyond the limits.

    Raises:
        MaskError: a side is not an integer, below 1 or above 65535, or there are more than 2**28 pixels.
    """
    if not (is_whole(height) and is_whole(width)):
        raise MaskError(f"{field} must be two integers, [height, width]", field=field)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and int(height) * int(width) <= MAX_PIXELS):
        shown = f"{_shown(height)} x {_shown(width)}"
        raise MaskError(f"{field} is {shown}; sides are 1 to {MAX_SIDE} px, at most {MAX_PIXELS} px", field=field)


def dense_pixels(mask: NDArray[np.generic], field: str) -> NDArray[np.uint8]:
    """A dense mask as C-ordered uint8 [H, W], without a copy where it already is one.

    Raises:
        MaskError: not bool or uint8 [H, W], or beyond the limits.
    """
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise MaskError(f"{field} is {mask.dtype} with {mask.ndim} axes; send bool or uint8 [H, W]", field=field)
    check_size(mask.shape[0], mask.shape[1], field)
    return np.ascontiguousarray(mask).view(np.uint8)


def region_bits(mask: Rle, x0: int, y0: int, width: int, height: int) -> _bits.Bits:
    """The region (x0, y0, width, height) of a mask as bit columns, uint64 [width, words]."""
    bits = _bits.empty_bits(width, height)
    _bits.draw_runs(bits, mask.counts, mask.height, x0, y0, width, height)
    return bits


def is_whole(value: object) -> bool:
    """Whether a value is an integer and not a bool."""
    # Nearly all are plain integers, and this is asked several times for every mask.
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, bool))


def _shown(side: int | None) -> str:
    if side is None:
        return "any"
    return str(side) if abs(side) < 10**9 else "(huge)"


def _read_size(size: object, field: str) -> tuple[int, int]:
    if isinstance(size, np.ndarray):
        size = size.tolist()
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not (is_whole(size[0]) and is_whole(size[1])):
        raise MaskError(f"{field} must be two integers, [height, width]", field=field)
    height, width = int(size[0]), int(size[1])
    check_size(height, width, field)
    return height, width


def _characters(counts: str | bytes, field: str) -> NDArray[np.uint8]:
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise MaskError(f"{field} holds non-ASCII characters; send COCO's compressed counts", field=field) from None
    return np.frombuffer(counts, np.uint8)


def _numbers(counts: object, field: str) -> NDArray[np.int64]:
    if isinstance(counts, np.ndarray):
        if counts.ndim != 1 or counts.dtype.kind not in "iu":
            raise MaskError(f"{field} is a {counts.dtype} array; send integers with one axis", field=field)
        if counts.dtype == np.uint64:
            counts = np.minimum(counts, np.uint64(2**62))
        return np.ascontiguousarray(counts, dtype=np.int64)
    if not isinstance(counts, Sequence) or isinstance(counts, (bytearray, memoryview)):
        raise MaskError(f"{field} is {type(counts).__name__}; send a string or a list of integers", field=field)
    for kind in set(map(type, counts)):
        if not issubclass(kind, (int, np.integer)) or issubclass(kind, bool):
            raise MaskError(f"{field} holds {kind.__name__}; run lengths are integers", field=field)
    try:
        return np.array(counts, dtype=np.int64)
    except (OverflowError, ValueError):
        raise MaskError(f"{field} holds a number longer than any mask", field=field) from None

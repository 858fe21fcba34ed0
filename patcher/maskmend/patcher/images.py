"""Images in, as RGB. Sizes are read from the header and checked before any decoder runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

# OpenCV reads its own limit once, when it is first imported; ours is lower and checked before.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))

import cv2
import numpy as np
from numpy.typing import NDArray

from maskmend.patcher._headers import read_header
from maskmend.patcher.errors import ImageError

MAX_PIXELS = 2**28
MAX_BYTES = 2**29
_NO_MEMORY = -4
"""What OpenCV calls a failed allocation."""
ExifPolicy = Literal["apply", "ignore"]
_UNDO: dict[int, Callable[[Any], Any]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
}
"""What takes a TIFF's orientation back: OpenCV applies it whatever it is told."""


def load_image(
    source: Any, *, exif_policy: ExifPolicy = "apply", max_pixels: int = MAX_PIXELS, field: str = "image"
) -> NDArray[np.uint8]:
    """Load an image as RGB.

    Gray is repeated over the three channels, alpha is dropped, palettes are resolved, 16-bit values are divided by 257,
    CMYK is converted as OpenCV does.

    Args:
        source: path, encoded bytes (PNG, JPEG, WebP, BMP, TIFF), uint8 [H, W, 3] RGB or [H, W] array, or a PIL image.
        exif_policy: `apply` turns the picture as its EXIF orientation says, `ignore` leaves the stored pixels as they are.
            PIL images and arrays are taken as they are.
        max_pixels: largest height * width.
        field: what to call the image in error messages.

    Returns:
        uint8 [H, W, 3], C-contiguous.

    Raises:
        ImageError: not an image, truncated, animated, of an unknown format, or larger than the limits.
        MemoryError: there is not enough for its pixels.
    """
    if exif_policy not in ("apply", "ignore"):
        raise ImageError(f"exif_policy is {exif_policy!r}; use 'apply' or 'ignore'", field="exif_policy")
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, field)
    if isinstance(source, (str, Path)):
        return _decode(read_image_file(Path(source), field), exif_policy, max_pixels, field)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), exif_policy, max_pixels, field)
    if hasattr(source, "convert") and hasattr(source, "size"):
        check_image_size(int(source.size[1]), int(source.size[0]), max_pixels, field)
        return np.ascontiguousarray(source.convert("RGB"), dtype=np.uint8)
    raise ImageError(f"{field} is a {type(source).__name__}; give a path, bytes, an array or a PIL image", field=field)


def read_image_file(path: Path, field: str = "image") -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: it cannot be read, or is larger than 512 MiB.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(f"{field} {path.name[:100]} has {size} bytes; at most {MAX_BYTES} are read", field=field)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{field} {path.name[:100]} cannot be read: {error.strerror}", field=field) from error


def _from_array(array: NDArray[Any], max_pixels: int, field: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ImageError(
            f"{field} is an array {array.dtype} {array.shape}; uint8 [H, W, 3] RGB or [H, W] gray is needed",
            field=field,
        )
    check_image_size(array.shape[0], array.shape[1], max_pixels, field)
    if array.ndim == 2:
        array = array[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def check_image_size(height: int, width: int, max_pixels: int, field: str) -> None:
    """Refuse an image beyond the limits.

    Raises:
        ImageError: a side is below 1 or above 65535 px, or the area is larger than `max_pixels`.
    """
    if height < 1 or width < 1 or height > 65_535 or width > 65_535 or height * width > max_pixels:
        raise ImageError(
            f"{field} is {width}x{height} px; each side must be 1 to 65535 px and the area at most {max_pixels} px",
            field=field,
        )


def _decode(data: bytes, exif_policy: ExifPolicy, max_pixels: int, field: str) -> NDArray[np.uint8]:
    header = read_header(data, field)
    check_image_size(header.height, header.width, max_pixels, field)
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if exif_policy == "ignore" else 0)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == _NO_MEMORY:
            raise MemoryError(f"no memory for {field} of {header.width}x{header.height} px") from error
        raise ImageError(f"{field} cannot be decoded as {header.format}", field=field) from error
    if bgr is None:
        raise ImageError(f"{field} cannot be decoded as {header.format}; it may be truncated", field=field)
    if {bgr.shape[0], bgr.shape[1]} != {header.height, header.width}:
        raise ImageError(f"{field} decodes to another size than its {header.format} header says", field=field)
    if exif_policy == "ignore" and header.orientation in _UNDO:
        bgr = _UNDO[header.orientation](bgr)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

"""Bodies that come compressed, unpacked within the limits."""

from __future__ import annotations

import zlib

from maskmend.service.errors import BadRequestError, MediaTypeError, TooLargeError

_GZIP = 31
"""zlib's way of saying: a gzip header, and the largest window."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body without its content encoding.

    Args:
        body: as it came.
        encoding: `identity` or `gzip`.
        most: bytes it may have unpacked.

    Raises:
        MediaTypeError: another encoding.
        TooLargeError: it is larger; not more than the limit is ever unpacked.
        BadRequestError: it is damaged.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name != "gzip":
        raise MediaTypeError("content-encoding must be gzip, or left out", field="content-encoding")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        out = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise BadRequestError("the body is not gzip as its content-encoding says", field="content-encoding") from None
    if len(out) > most:
        raise TooLargeError(f"the body is larger than {most} bytes once unpacked", field="body")
    if not unpacker.eof:
        raise BadRequestError("the gzip body is cut off", field="content-encoding")
    return out

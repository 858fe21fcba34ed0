"""Bytes as text and back."""

from __future__ import annotations

import base64
import binascii

from maskmend.service.errors import InvalidRequestError


def to_base64(data: bytes) -> str:
    """Base64 of bytes."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, field: str) -> bytes:
    """Bytes of base64 text without anything else in it.

    Raises:
        InvalidRequestError: it is not, or it is empty.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(
            f"{field} is not base64; send it without line breaks or a data: prefix", field=field
        ) from None
    if not data:
        raise InvalidRequestError(f"{field} is empty", field=field)
    return data

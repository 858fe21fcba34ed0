"""Which images train and which validate: a fixed hash of the image id decides, so every machine agrees."""

from __future__ import annotations

import hashlib


def is_validation(image_id: int | str) -> bool:
    """Tell whether an image belongs to the validation side (about one in five)."""
    return int(hashlib.sha256(str(image_id).encode()).hexdigest(), 16) % 5 == 0

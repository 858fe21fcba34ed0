"""A worker of the ray engine that notes in a file which image it begins, and takes its time over it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from maskmend.clients.ray_crew import Worker
from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import MaskmendError


def counting(log: Path, seconds: float = 0.0, deadly: str = "") -> type[Worker]:
    """The class; it dies over the image whose digest is `deadly`.

    Made in a function, with all that it calls, so that it is sent to the workers whole: they cannot import from the tests.
    """

    def digest(image: bytes) -> str:
        return hashlib.sha256(image).hexdigest()[:16]

    class Counting(Worker):
        def refine(self, image: bytes, masks: list[dict[str, Any]]) -> RefineResult | MaskmendError:
            # One short write at the end of a file is whole, whoever else writes.
            with log.open("a") as file:
                file.write(f"{os.getpid()} {digest(image)}\n")
            time.sleep(seconds)
            if digest(image) == deadly:
                os._exit(1)
            return super().refine(image, masks)

    return Counting


def digest_of(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()[:16]


def begun(log: Path) -> list[str]:
    """Digests of the images that were begun, in the order of their beginning."""
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []

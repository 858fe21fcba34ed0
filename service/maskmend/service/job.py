"""What a request asks for, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskmend.service.inputs import IndexMask, MaskFile, Masks
from maskmend.service.schema import RefineOptions

LARGE_BYTES = 4_000_000
LARGE_MASKS = 64


@dataclass(slots=True)
class Job:
    """A request: encoded image (or array, or where it is still to be fetched), masks, options, and its name in logs.

    `ended` is called in the event loop when the work on it has ended, whoever still reads the answer.
    """

    image: bytes | NDArray[np.uint8]
    masks: Masks
    options: RefineOptions
    request_id: str
    protocol: str = "http"
    image_url: str | None = None
    traceparent: str | None = None
    ended: Callable[[], None] = field(default=lambda: None)

    def take(self) -> tuple[bytes | NDArray[np.uint8], Masks]:
        """Image (bytes of a file, or uint8 [H, W, 3] RGB) and masks, forgotten here: answers may be read for long after."""
        taken = self.image, self.masks
        self.image, self.masks = b"", ()
        return taken

    @property
    def large(self) -> bool:
        """Whether it is one of those that must not take all places."""
        size = self.image.nbytes if isinstance(self.image, np.ndarray) else len(self.image)
        if isinstance(self.masks, IndexMask):
            return size + len(self.masks.data) > LARGE_BYTES
        size += sum(len(mask.data) for mask in self.masks if isinstance(mask, MaskFile))
        return size > LARGE_BYTES or len(self.masks) > LARGE_MASKS

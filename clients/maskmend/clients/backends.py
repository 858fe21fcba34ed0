"""Where a job has its masks refined: in this process, or at a server."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from maskmend.clients.client import Client
from maskmend.clients.refiner import Refiner
from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import MaskmendError
from maskmend.patcher.image_size import image_size
from maskmend.patcher.images import ExifPolicy, load_image, read_image_file
from maskmend.service import StageTimes

Provenance = dict[str, str | int | float]


class Backend(Protocol):
    """What a job needs of whatever refines."""

    @property
    def provenance(self) -> Provenance:
        """Everything that decides the result."""

    @property
    def stages(self) -> StageTimes:
        """Busy seconds by stage, as far as they are known here."""

    def open(self, photograph: Path, exif_policy: ExifPolicy) -> tuple[Any, int, int]:
        """A photograph as `refine_many` takes it best, its height and its width in px.

        Raises:
            ImageError: it cannot be read.
        """

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Generator[RefineResult | MaskmendError, None, None]:
        """See `Refiner.refine_many`."""


class LocalBackend:
    """Refines here."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner = refiner
        self.refine_many = refiner.refine_many

    @property
    def provenance(self) -> Provenance:
        """See `Backend`."""
        return self._refiner.provenance

    @property
    def stages(self) -> StageTimes:
        """See `Backend`."""
        return self._refiner.stages

    def open(self, photograph: Path, exif_policy: ExifPolicy) -> tuple[Any, int, int]:
        """See `Backend`: decoded, since that is to be done here anyway."""
        with self.stages.measure("decode"):
            image = load_image(photograph, exif_policy=exif_policy)
        return image, image.shape[0], image.shape[1]


class ServerBackend:
    """Refines at a server, several images at a time.

    Raises:
        MaskmendError: the server cannot be reached, or does not let us in.
    """

    def __init__(self, client: Client) -> None:
        self.refine_many = client.refine_many
        self.stages = StageTimes()
        # A picture of a few pixels tells whether all is well, and with what the server refines.
        mask = np.zeros((16, 16), bool)
        mask[4:12, 4:12] = True
        self._provenance = client.refine(np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2), mask).provenance

    @property
    def provenance(self) -> Provenance:
        """See `Backend`."""
        return dict(self._provenance)

    def open(self, photograph: Path, exif_policy: ExifPolicy) -> tuple[Any, int, int]:
        """See `Backend`: the file as it is; only its header is read here."""
        with self.stages.measure("decode"):
            data = read_image_file(photograph)
            height, width = image_size(data, exif_policy=exif_policy)
            return data, height, width

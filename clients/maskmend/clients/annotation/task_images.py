"""The photograph of a Label Studio task: from a local folder, else from Label Studio itself."""

from __future__ import annotations

from pathlib import Path

from maskmend.clients.annotation.host_files import HostFiles
from maskmend.clients.formats.locate import find_photograph, reference_names
from maskmend.patcher.errors import ImageError
from maskmend.patcher.images import read_image_file
from maskmend.service.errors import ForbiddenError


class TaskImages:
    """Loads photographs.

    Args:
        folder: looked in first; None for none.
        host: asked for what is not there; None for none.
    """

    def __init__(self, folder: Path | None, host: HostFiles | None) -> None:
        self._folder, self._host = folder, host

    def load(self, reference: str) -> bytes:
        """The encoded photograph.

        Args:
            reference: URL or path, as the task's `data` has it.

        Raises:
            ImageError: the task names none, or it is nowhere to be found.
            MaskmendError: see `HostFiles.fetch`.
        """
        if not reference:
            raise ImageError("the task's data names no image", field="data")
        if self._folder is not None:
            try:
                return read_image_file(find_photograph(self._folder, reference_names(reference), "data"), "data")
            except ImageError:
                if self._host is None:
                    raise ImageError("the task's image is not in the images folder", field="data") from None
        if self._host is None:
            raise ForbiddenError(
                "this backend was given no images: start it with --images or --label-studio-url", field="data"
            )
        return self._host.fetch(reference)

"""What refines for an annotation tool: this process, or a server of ours."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Protocol

from maskmend.clients.results import RefineResult


class Refines(Protocol):
    """`Refiner`, `Client`, or anything with the same method."""

    def refine(self, image: Any, masks: Any) -> RefineResult:
        """See `Refiner.refine`."""


def refiner(server: str | None, api_key: str | None, **options: Any) -> Refines:
    """A refiner.

    Args:
        server: URL of a maskmend server; None refines in this process.
        api_key: of the server.
        options: of `Refiner`, for this process.

    Raises:
        MaskmendError: see `Refiner` and `Client`.
    """
    if server is not None:
        from maskmend.clients import Client

        remote: Refines = Client(server, api_key=api_key)
        return remote
    from maskmend.clients import Refiner

    return Refiner(**options)


def model_version(refines: Refines) -> str:
    """Version and weights, as annotation tools show them beside what was refined."""
    provenance = getattr(refines, "provenance", None)
    weights = provenance.get("weights") if isinstance(provenance, Mapping) else None
    return f"maskmend-{version('maskmend')}" + (f"-{weights}" if weights else "")

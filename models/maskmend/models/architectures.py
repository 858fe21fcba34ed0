"""Networks by name. Importing this module does not import torch; building one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = ("boundary_unet", "hrnet_w18_small", "hrnet_w48")


def build_network(architecture: str, **arguments: Any) -> nn.Module:
    """Build a network with random weights.

    Raises:
        OptionError: unknown name or arguments.
    """
    if architecture == "boundary_unet":
        from maskmend.models.boundary_unet import BoundaryUnet

        return BoundaryUnet(**arguments)
    if architecture in ("hrnet_w18_small", "hrnet_w48"):
        from maskmend.models.hrnet import CONFIGS, Hrnet

        return Hrnet(CONFIGS[architecture])
    raise OptionError(f"architecture is {architecture!r}; use one of {', '.join(ARCHITECTURES)}", field="architecture")

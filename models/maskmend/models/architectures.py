"""Networks by name. Importing this module does not import torch; building one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskmend.patcher.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = ("boundary_unet", "light_unet", "hrnet_w12_slim", "hrnet_w18_small", "hrnet_w48", "transfiner")


def build_network(architecture: str, **arguments: Any) -> nn.Module:
    """Build a network with random weights.

    Raises:
        OptionError: unknown name or arguments.
    """
    if architecture not in ARCHITECTURES:
        raise OptionError(
            f"architecture is {architecture[:64]!r}; use one of {', '.join(ARCHITECTURES)}", field="architecture"
        )
    try:
        if architecture == "boundary_unet":
            from maskmend.models.boundary_unet import BoundaryUnet

            return BoundaryUnet(**arguments)
        if architecture == "light_unet":
            from maskmend.models.light_unet import LightUnet

            return LightUnet(**arguments)
        if architecture == "transfiner":
            from maskmend.models.transfiner import Transfiner

            return Transfiner(**arguments)
        from maskmend.models.hrnet import CONFIGS, Hrnet

        return Hrnet(CONFIGS[architecture], **arguments)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"arguments {', '.join(arguments)[:64]} do not fit the architecture {architecture}; see its class",
            field="arguments",
        ) from error

"""Networks by name. Importing this module does not import torch; building one does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maskmend.models.registry import REFINERS
from maskmend.patcher.errors import OptionError, WeightsError

if TYPE_CHECKING:
    from torch import nn

    from maskmend.models.zoo import Weights

ARCHITECTURES = {
    "boundary_unet": "maskmend.models.boundary_unet:BoundaryUnet",
    "light_unet": "maskmend.models.light_unet:LightUnet",
    "hrnet_w12_slim": "maskmend.models.hrnet:hrnet_w12_slim",
    "hrnet_w18_small": "maskmend.models.hrnet:hrnet_w18_small",
    "hrnet_w48": "maskmend.models.hrnet:hrnet_w48",
}
"""Module and class of each network that is not that of a refiner of the same name."""


def architectures() -> dict[str, str]:
    """Module and class of every network, those of `REFINERS` included."""
    return ARCHITECTURES | {name: kind.network for name, kind in REFINERS.items()}


def build_network(architecture: str, **arguments: Any) -> nn.Module:
    """Build a network with random weights.

    Raises:
        OptionError: unknown name or arguments.
    """
    known = architectures()
    if architecture not in known:
        raise OptionError(f"architecture is {architecture[:64]!r}; use one of {', '.join(known)}", field="architecture")
    module, name = known[architecture].split(":")
    make = getattr(import_module(module), name)
    try:
        network: nn.Module = make(**arguments)
    except OptionError:
        raise  # says itself what does not fit
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"arguments {', '.join(arguments)[:64]} do not fit the architecture {architecture}; see its class",
            field="arguments",
        ) from error
    return network


def load_network(weights: Weights) -> nn.Module:
    """Build the network of a set of weights, in evaluation mode.

    Raises:
        WeightsError: the safetensors file is missing or damaged, or does not fit the architecture.
    """
    from safetensors.torch import load_file

    weights.verify(("safetensors",))
    manifest = weights.manifest
    network = build_network(manifest.architecture, **manifest.arguments)
    try:
        network.load_state_dict(load_file(weights.safetensors_path))
    except RuntimeError as error:
        raise WeightsError(
            f"{weights.safetensors_path.name} does not fit the architecture {manifest.architecture}; fetch it again",
            field="weights",
        ) from error
    return network.eval()

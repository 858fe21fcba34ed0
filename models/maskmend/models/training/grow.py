"""Begin a wide network as a trained narrower one of the same shape.

Net2Net (Chen et al., 2016) widens by doubling channels. Here the old channels are kept, the new ones start at random,
and what they send to the old ones starts at zero: the wide network computes what the narrow one did, to the last bits,
and every new weight can learn from the second step on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskmend.models.trunk import Trunk
from maskmend.models.zoo import resolve_weights
from maskmend.patcher.errors import OptionError


def grow(network: nn.Module, weights: str) -> None:
    """Make `network` compute what a trained, narrower network of its architecture computes, in place.

    Args:
        network: with random weights; each of its parameters is at least as large as the trained one in every dimension.
        weights: name of a shipped set, or path of one.

    Raises:
        OptionError: `weights` is unknown, or its network does not fit into this one.
        WeightsError: its files are damaged.
    """
    _insert(network, _trained(weights), weights)


def take_trunk(network: nn.Module, weights: str) -> None:
    """Give `network.trunk` the trained weights of a network that is a trunk with a head, in place.

    Args:
        network: its `trunk` is a `Trunk`.
        weights: name of a shipped set, or path of one.

    Raises:
        OptionError: the network has no trunk, `weights` is unknown, or its trunk has another shape.
        WeightsError: its files are damaged.
    """
    trunk = getattr(network, "trunk", None)
    if not isinstance(trunk, Trunk):
        raise OptionError("trunk is given, but this architecture has none to take it; leave it out", field="trunk")
    mine, theirs = trunk.state_dict(), _trained(weights)
    if any(name not in theirs or theirs[name].shape != value.shape for name, value in mine.items()):
        raise OptionError(f"trunk is {weights[:64]!r}, whose trunk has other layers than this one", field="trunk")
    trunk.load_state_dict({name: theirs[name] for name in mine})


def _trained(weights: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found = resolve_weights(weights)
    found.verify(("safetensors",))
    state: dict[str, Tensor] = load_file(found.safetensors_path)
    return state


@torch.no_grad()
def _insert(network: nn.Module, narrow: Mapping[str, Tensor], weights: str) -> None:
    wide = network.state_dict()
    if set(wide) != set(narrow):
        raise OptionError(f"grow is {weights[:64]!r}, whose network has other layers than this one", field="grow")
    for name, old in narrow.items():
        new = wide[name]
        if old.dim() != new.dim() or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
            raise OptionError(f"grow is {weights[:64]!r}, whose {name} is larger than this network's", field="grow")
        if old.dim() == 4:
            new[: old.shape[0], old.shape[1] :] = 0
        new[tuple(slice(side) for side in old.shape)] = old

"""What the refiners of whole instances have in common: a trunk, a crop, and how they are taught."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.trunk import Trunk, initialise
from maskmend.patcher.errors import OptionError

INPUT = 224
"""Side of a crop in px."""
TRUST = 4.0
"""Logit of a cell that the coarse mask is all or none of. Networks say what to change about it."""


class InstanceNetwork(nn.Module):
    """A network that refines crops of whole instances.

    Args:
        detail: see `Trunk`, as are `widths` (at 112, 56 and 28 cells), `blocks` and `context` (at 14).
        widths: see there.
        blocks: see there.
        context: see there.

    Attributes:
        widths: channels of the trunk's features at 112, 56 and 28 cells.
        far: channels of those at 14.
        cell: side of a cell of the logits, in px of the crop.
        chooses: whether it chooses where to look, so that runtimes may choose differently; see `check_parity`.

    Raises:
        OptionError: the trunk has another number of levels.
    """

    cell = 1
    chooses = False

    def __init__(
        self,
        detail: int = 8,
        widths: Sequence[int] = (24, 48, 96),
        blocks: Sequence[int] = (1, 1, 2),
        context: int = 48,
    ) -> None:
        super().__init__()
        if len(widths) != 3 or context < 2:
            raise OptionError("widths of the network must be three, with a context path", field="widths")
        self.widths, self.far = tuple(widths), context
        self.trunk = Trunk(detail, widths, blocks, context)
        initialise(self.trunk)

    def training_loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """What training makes smaller.

        Args:
            inputs: float32 [B, 4, 224, 224], see the network.
            target: uint8 [B, 1, 224, 224] with 0, 1 and 2 for unsure: nothing is learned there.
        """
        raise NotImplementedError


def at_full_size(mask: Tensor, changes: Tensor) -> Tensor:
    """Add what changes, found on cells of 2x2 px or enlarged from these, to the coarse mask.

    Where an edge passes through a cell, the cell says no more than how much of it is foreground. Where next to nothing
    changes, the coarse mask's own pixels know better.

    Args:
        mask: the coarse mask as -1/+1, float [B, 1, S, S].
        changes: of its logits, float [B, 1, S / 2, S / 2] or [B, 1, S, S].

    Returns:
        Logits [B, 1, S, S]; those of the mask where nothing changes.
    """
    coarse = enlarged(TRUST * functional.avg_pool2d(mask, 2))
    wide = changes if changes.shape[-1] == mask.shape[-1] else enlarged(changes)
    # A ramp and not a step: runtimes that differ by rounding differ by no more than that here.
    own = (1.5 - wide.abs()).clamp(0.0, 1.0)
    return wide + coarse + own * (TRUST * mask - coarse)


def enlarged(cells: Tensor) -> Tensor:
    """Maps of twice the size, bilinear and without aligned corners: float [B, C, 2s, 2s] of [B, C, s, s]."""
    return functional.interpolate(cells, scale_factor=2.0, mode="bilinear", align_corners=False)


def shares(target: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Share of foreground in each cell, and whether the target is sure of it: float and bool [B, 1, side, side]."""
    size = int(target.shape[-1]) // side
    unsure = functional.max_pool2d((target == 2).float(), size)
    return functional.avg_pool2d((target == 1).float(), size), unsure == 0


def near_edge(share: Tensor, radius: int = 1) -> Tensor:
    """Cells with another truth within `radius` cells: bool, shape of `share` [B, 1, s, s]."""
    around = functional.avg_pool2d(share, 2 * radius + 1, 1, radius, count_include_pad=False)
    return (around > 1e-6) & (around < 1 - 1e-6)


def off(mask: Tensor, share: Tensor) -> Tensor:
    """How far the coarse mask is off in each cell, 0 to 1: float [B, 1, s, s].

    Most cells have nothing to mend, and a network that is not paid for mending learns to leave alone: losses count these
    cells more.

    Args:
        mask: the coarse mask as -1/+1, float [B, 1, S, S], S a multiple of s.
        share: of true foreground, float [B, 1, s, s].
    """
    return (share - functional.avg_pool2d((mask > 0).float(), int(mask.shape[-1]) // int(share.shape[-1]))).abs()


def cross_entropy(
    logits: Tensor, target: Tensor, emphasis: float = 3.0, *, mask: Tensor | None = None, wrong: float = 0.0
) -> Tensor:
    """Mean cross-entropy of the cells that the target is sure of; those near the true edge count `1 + emphasis` times.

    Args:
        logits: float [B, 1, s, s].
        target: uint8 [B, 1, S, S] with 0, 1 and 2 for unsure, S a multiple of s.
        emphasis: see there.
        mask: the coarse mask as -1/+1, float [B, 1, S, S]; for `wrong`.
        wrong: how much more a cell counts where the coarse mask is all wrong, see `off`.
    """
    share, sure = shares(target, int(logits.shape[-1]))
    weight = sure * (1 + emphasis * near_edge(share).float())
    if mask is not None:
        weight = weight * (1 + wrong * off(mask, share))
    each = functional.binary_cross_entropy_with_logits(logits, share, reduction="none")
    return weighted_mean(each, weight)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of values, float [...], with weights of the same shape; 0 where nothing has weight."""
    return torch.sum(values * weight) / weight.sum().clamp_min(1.0)

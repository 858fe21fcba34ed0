"""What Mask Transfiner learns from: nodes, incoherence, and all cells from features alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from maskmend.models.instance_network import TRUST, cross_entropy, off, shares, weighted_mean
from maskmend.models.quadtree_ops import Nodes, read_cells


class Refined(NamedTuple):
    """What the losses need.

    Attributes:
        mask: the coarse mask as -1/+1 [B, 1, 224, 224].
        dense: logits [B, 1, s, s] of all cells of each level from their features alone, coarse to fine: what a node starts
            from, as it does from the mask head in the paper.
        maps: incoherence logits [B, 1, s, s] per level, coarse to fine; only the first with the detector of the code,
            none where regions are not detected.
        truth: cells to look at bool [B, 1, s, s] per level (`lost_maps`); empty without a target.
        sure: cells the target is sure of, likewise.
        nodes: per level.
        logits: [B, k] per level, at these nodes.
        changes: [B, k] per level, these less the coarse mask's.
    """

    mask: Tensor
    dense: list[Tensor]
    maps: list[Tensor]
    truth: list[Tensor]
    sure: list[Tensor]
    nodes: list[Nodes]
    logits: list[Tensor]
    changes: list[Tensor]

    @property
    def coarse(self) -> Tensor:
        """The coarse mask as logits [B, 1, 112, 112]."""
        return TRUST * functional.avg_pool2d(self.mask, 2)


class Losses(NamedTuple):
    """Parts of the loss, not weighted yet; each a mean over what the target is sure of.

    Attributes:
        refine: |probability - target| of the nodes (the paper's L1).
        entropy: cross-entropy of the nodes, for comparison: L1 on probabilities learns little where the network is sure
            and wrong.
        incoherence: cross-entropy of the incoherence maps, mean of the levels; 0 without detectors.
        dense: cross-entropy of all cells from their features alone, mean of the levels; four times near the true edge.
    """

    refine: Tensor
    entropy: Tensor
    incoherence: Tensor
    dense: Tensor

    def total(self, refine: float = 1.0, incoherence: float = 0.5, dense: float = 0.5, entropy: float = 0.0) -> Tensor:
        """Weighted sum, a float32 scalar; by default with the paper's weights, and that of its mask head halved."""
        return refine * self.refine + incoherence * self.incoherence + dense * self.dense + entropy * self.entropy


def losses(found: Refined, target: Tensor, wrong: float = 0.0) -> Losses:
    """Compare what `Transfiner.forward_train` gave with the truth.

    A node's target is the share of foreground in its cell, so that an edge within the cell counts as such.

    Args:
        found: with `truth`, that is, made with the same target.
        target: uint8 [B, 1, 224, 224] with 0, 1 and 2 for unsure: nothing is learned there.
        wrong: how much more a node counts where the coarse mask is wrong, see `instance_network.off`.
    """
    wanted, counted = [], []
    for nodes in found.nodes:
        share, sure = shares(target, nodes.side)
        wanted.append(read_cells(share, nodes))
        more = 1 + wrong * read_cells(off(found.mask, share), nodes)
        counted.append((nodes.valid & read_cells(sure, nodes)) * more)
    logit, want, weight = (torch.cat(parts, 1) for parts in (found.logits, wanted, counted))
    difference = (torch.sigmoid(logit) - want).abs()
    entropy = functional.binary_cross_entropy_with_logits(logit, want, reduction="none")
    parts = [
        weighted_mean(functional.binary_cross_entropy_with_logits(scores, on.float(), reduction="none"), sure.float())
        for scores, on, sure in zip(found.maps, found.truth, found.sure, strict=False)
    ]
    return Losses(
        refine=weighted_mean(difference, weight),
        entropy=weighted_mean(entropy, weight),
        incoherence=torch.stack(parts).mean() if parts else logit.new_zeros(()),
        dense=torch.stack([cross_entropy(each, target) for each in found.dense]).mean(),
    )

"""Mask Transfiner (Ke et al., CVPR 2022) on crops of an image with a coarse mask from anywhere.

In the paper the refiner lives inside a detector. Here it has a trunk of its own: features at 112, 56, 28 and 14 cells for a
crop of 224 px. Detectors find incoherent cells, a quadtree of fixed capacity takes the likeliest, a transformer looks at all
of them together, and what they say overwrites the mask from 28 cells up to 112.

The paper's coarse mask has 28 cells and no more to lose; one from anywhere is fine where it is right. So what travels from
level to level is not the mask but what changes about it, from nothing, and the mask is added at the end. For a mask that has
28 cells this is the paper's propagation; where there are no nodes, it is the mask that came.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.instance_network import TRUST, InstanceNetwork, at_full_size
from maskmend.models.quadtree_ops import (
    Nodes,
    lost_maps,
    passing_cells,
    propagate,
    read_cells,
    sine_table,
    spread,
    top_nodes,
)
from maskmend.models.transfiner_detectors import Detectors
from maskmend.models.transfiner_losses import Refined, losses
from maskmend.models.transfiner_tokens import CUES, Layer, NodeEncoder
from maskmend.patcher.errors import OptionError

FINEST, COARSEST, REFERENCE = 112, 28, 14
CODE_THRESHOLDS = (1e-6, 0.125, 0.8)
# Far beyond any threshold, and small enough that float32 still tells what is added to it apart.
_CERTAIN = 64.0
_HIDDEN = -1e4


class Transfiner(InstanceNetwork):
    """Quadtree refinement of a crop.

    Args:
        k: most nodes at 28, 56 and 112 cells; fewer numbers leave the finer levels out.
        dim: of a token, a multiple of 4 and of `heads`.
        depth: transformer layers; 0 decodes each node on its own.
        heads: of the attention.
        feed: width of a layer's two-layer network as a multiple of `dim`.
        threshold: least probability of a node. Slots are paid for whether used or not, so it is low.
        cues: of a node, some of `CUES`.
        detector: `paper` or `code`, which has its own thresholds; see `Detectors`.
        regions: where nodes are: `incoherent`, `boundary` (cells that the coarse mask's own edge passes) or `full` (all
            cells); where the latter are more than `k`, the ones taken are spread evenly.
        reference: prepend the 14x14 coarsest features to each sequence.
        joint: one sequence of all levels; False gives each level its own.
        propagation: `all` levels are overwritten, or `leaves` only.
        upsample: `nearest` (the paper) or `bilinear` (the code) between levels.
        trunk: arguments of `InstanceNetwork`.

    Input: float32 [B, 4, 224, 224], normalised RGB and the coarse mask as -1/+1. Output: float32 [B, 1, 224, 224],
    foreground minus background logit. Which cells are nodes is a matter of order: where two scores differ by no more than
    rounding, runtimes may choose differently.

    Raises:
        OptionError: an option is unknown or out of its range.
    """

    chooses = True

    def __init__(
        self,
        k: Sequence[int] = (96, 224, 448),
        dim: int = 64,
        depth: int = 3,
        heads: int = 4,
        feed: int = 2,
        threshold: float = 0.1,
        cues: Sequence[str] = CUES,
        detector: str = "paper",
        regions: str = "incoherent",
        reference: bool = True,
        joint: bool = True,
        propagation: str = "all",
        upsample: str = "nearest",
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        _check("detector", detector in ("paper", "code"), "paper or code")
        _check("regions", regions in ("incoherent", "boundary", "full"), "incoherent, boundary or full")
        _check("propagation", propagation in ("all", "leaves"), "all or leaves")
        _check("upsample", upsample in ("nearest", "bilinear"), "nearest or bilinear")
        _check("k", 1 <= len(k) <= 3 and min(k) >= 1, "one to three numbers of nodes, each at least 1")
        _check("cues", not set(cues) - set(CUES) and bool(set(cues) - {"position"}), f"some of {', '.join(CUES)}")
        _check("threshold", 0 < threshold < 1, "a probability above 0 and below 1")
        _check("dim", dim % 4 == 0 and dim % heads == 0, "a multiple of 4 and of heads")
        self.k, self.levels, self.regions = tuple(k), len(k), regions
        self.propagation, self.upsample, self.joint = propagation, upsample, joint
        self.thresholds = (CODE_THRESHOLDS if detector == "code" else (threshold,) * 3)[: self.levels]
        self.sides = [FINEST >> n for n in (2, 1, 0)][: self.levels]
        fine = [self.widths[n] for n in (2, 1, 0)][: self.levels]
        self.dense = nn.ModuleList([nn.Conv2d(width, 1, 1) for width in fine])
        self.cascade = detector == "paper"
        self.detectors = Detectors(fine, 24, self.cascade) if regions == "incoherent" else None
        self.encoders = nn.ModuleList([NodeEncoder(c, dim, s, cues) for c, s in zip(fine, self.sides, strict=True)])
        self.reference = nn.Linear(self.far, dim) if reference and depth else None
        self.layers = nn.ModuleList([Layer(dim, heads, feed * dim) for _ in range(depth)])
        self.decoder = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, 1))
        # At first a node is what its features alone say.
        nn.init.zeros_(self.decoder[-1].weight)
        nn.init.zeros_(self.decoder[-1].bias)
        places = sine_table(REFERENCE, dim // 2)
        grid = torch.cat([places.repeat_interleave(REFERENCE, 0), places.repeat(REFERENCE, 1)], 1)
        self.register_buffer("places", grid if "position" in cues else torch.zeros_like(grid), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, 1, 224, 224] of crops [B, 4, 224, 224]."""
        return self.assemble(self.forward_train(inputs))

    def assemble(self, found: Refined) -> Tensor:
        """What changes at full size, and the coarse mask: logits [B, 1, 224, 224]."""
        return at_full_size(found.mask, self.propagated(found))

    def propagated(self, found: Refined) -> Tensor:
        """What changes about the logits of the coarse mask at 112 cells: [B, 1, 112, 112]."""
        none = found.mask.new_zeros(1).expand(found.mask.shape[0], 1, COARSEST, COARSEST)
        inner = self.propagation == "all"
        return propagate(none, found.nodes, found.changes, FINEST, mode=self.upsample, inner=inner)

    def forward_train(
        self, inputs: Tensor, target: Tensor | None = None, *, k: Sequence[int] | None = None, closed: bool = False
    ) -> Refined:
        """Everything before propagation, which has nothing to learn.

        With a target, nodes are the cells that are incoherent in truth and then the likeliest of the others: the
        transformer learns from the first step, when detectors do not find anything yet.

        Args:
            inputs: float32 [B, 4, 224, 224].
            target: uint8 [B, 1, 224, 224] with 0, 1 and 2 for unsure.
            k: nodes per level in place of those of the network, to train on fewer.
            closed: see `lost_maps`.
        """
        _, _, features, far = self.trunk.features(inputs)
        mask = inputs[:, 3:4]
        features = features[: self.levels]
        dense = [classify(feature) for classify, feature in zip(self.dense, features, strict=True)]
        coarse = [functional.avg_pool2d(mask, 8 >> level) for level in range(self.levels)]
        maps = self.detectors(features, coarse[0]) if self.detectors is not None else []
        truth, sure = ([], []) if target is None else lost_maps(target, mask > 0, 3, closed=closed)
        nodes = self._choose(inputs, maps, truth, k or self.k)
        tokens = [
            encode(feature, cue, at)
            for encode, feature, cue, at in zip(self.encoders, features, coarse, nodes, strict=True)
        ]
        said = self._decode(tokens, nodes, far)
        logits = [read_cells(alone, at) + new for alone, at, new in zip(dense, nodes, said, strict=True)]
        changes = [new - TRUST * read_cells(cue, at) for new, cue, at in zip(logits, coarse, nodes, strict=True)]
        return Refined(mask, dense, maps if self.cascade else maps[:1], truth, sure, nodes, logits, changes)

    def training_loss(
        self,
        inputs: Tensor,
        target: Tensor,
        nodes: Sequence[int] | None = None,
        closed: bool = True,
        entropy: float = 0.5,
        wrong: float = 0.0,
    ) -> Tensor:
        """See `InstanceNetwork.training_loss`.

        Args:
            inputs: see there, as for `target`.
            target: see there.
            nodes: per level, in place of `k`, to train on fewer.
            closed: see `lost_maps`.
            entropy: weight of the cross-entropy of the nodes; see `Losses`.
            wrong: see `losses`.
        """
        found = self.forward_train(inputs, target, k=nodes, closed=closed)
        return losses(found, target, wrong).total(entropy=entropy)

    @torch.no_grad()
    def _choose(self, inputs: Tensor, maps: Sequence[Tensor], truth: Sequence[Tensor], k: Sequence[int]) -> list[Nodes]:
        # Logits and not probabilities: the latter are equal where the network is sure. `spread` keeps equal scores apart, as
        # not every runtime takes the first of them.
        if self.regions == "boundary":
            passed = passing_cells(inputs[:, 3:4], 3)[: self.levels]
            scores = [
                _CERTAIN * on[:, 0] - _CERTAIN / 2 + spread(s, inputs) for on, s in zip(passed, self.sides, strict=True)
            ]
        elif self.regions == "full":
            scores = [spread(s, inputs).expand(inputs.shape[0], -1, -1) + _CERTAIN for s in self.sides]
        else:
            scores = [found[:, 0].detach() for found in maps]
            if not self.cascade:
                scores[1:] = [a + 1e-3 * spread(s, inputs) for a, s in zip(scores[1:], self.sides[1:], strict=True)]
            if truth:
                scores = [score + _CERTAIN * true[:, 0] for score, true in zip(scores, truth, strict=False)]
        return top_nodes(scores, k, [math.log(t / (1 - t)) for t in self.thresholds])

    def _decode(self, tokens: list[Tensor], nodes: Sequence[Nodes], far: Tensor) -> list[Tensor]:
        counts = [int(part.shape[1]) for part in tokens]
        hidden = [torch.where(at.valid, 0.0, _HIDDEN) for at in nodes]
        if self.joint:
            tokens, hidden = [torch.cat(tokens, 1)], [torch.cat(hidden, 1)]
        if len(self.layers):
            front = self.reference(far.flatten(2).transpose(1, 2)) + self.places if self.reference else None
            tokens = [self._attend(part, off, front) for part, off in zip(tokens, hidden, strict=True)]
        logits = self.decoder(torch.cat(tokens, 1))[:, :, 0]
        return list(logits.split(counts, 1))

    def _attend(self, tokens: Tensor, hidden: Tensor, front: Tensor | None) -> Tensor:
        skip = 0 if front is None else int(front.shape[1])
        if front is not None:
            tokens = torch.cat([front, tokens], 1)
            hidden = functional.pad(hidden, (skip, 0))
        mask = hidden.unsqueeze(1).unsqueeze(1)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, mask)
        # Nobody asks what became of the reference tokens after the last layer.
        return self.layers[-1](tokens, mask, skip)


def _check(field: str, right: bool, wanted: str) -> None:
    if not right:
        raise OptionError(f"{field} of the network is not usable; give {wanted}", field=field)

"""RefineMask (Zhang et al., CVPR 2021) on crops of an image with a coarse mask from anywhere.

Stage by stage the mask doubles its size, 14 to 112 cells; each stage fuses instance features with fine semantic features of
the crop (section 3.2), and inference takes a finer stage's word only along the boundary of the stage before (section 3.3).

In the paper the coarsest mask holds what is known of the rest. Here the coarse mask may be fine where it is right, so that
what is predicted, kept and blended is what changes about it at each size; the coarse mask itself is added at the end. For a
mask that has 14 cells this is the paper's; untrained, the network changes nothing. A stage's head reads what the semantic
classifier and the coarse mask say at its own size too: the features it gets were enlarged from half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.instance_network import (
    TRUST,
    InstanceNetwork,
    at_full_size,
    cross_entropy,
    enlarged,
    off,
    shares,
    weighted_mean,
)
from maskmend.models.trunk import conv_bn_relu
from maskmend.patcher.errors import OptionError

COARSEST = 14
STAGES = 4
WEIGHTS = (0.25, 0.5, 0.75, 1.0)
"""Of the losses of the stages; the paper's."""
TRAINING_WIDTH, INFERENCE_WIDTH = 2, 1
# Share of the kernel's area above which the official code takes a cell for one of the boundary.
_CODE_SHARE = 0.1


def boundary_region(mask: Tensor, width: int, *, share: float = 0.0) -> Tensor:
    """Cells along the boundary of a binary mask (section 3.3).

    A convolution with (2 * width + 1)^2 - 1 in its centre and -1 elsewhere, on the mask and on its complement, is positive
    where a cell has another one within `width`. What lies outside the map counts as neither.

    Args:
        mask: bool [B, 1, s, s].
        width: in cells.
        share: of the kernel's area that the response must be above; 0 in the paper, 0.1 in the official code.

    Returns:
        bool [B, 1, s, s].
    """
    side = 2 * width + 1
    # The mean times the area is the sum within the map, however many cells that is.
    near = functional.avg_pool2d(mask.float(), side, 1, width, count_include_pad=False)
    others = torch.where(mask, 1 - near, near) * (side * side)
    # Both sides of a tie are rounded alike with a little to spare.
    return others > share * side * side + 1e-3


class Stage(NamedTuple):
    """One stage's word.

    Attributes:
        coarse: the coarse mask as logits, float32 [B, 1, s, s].
        change: what to change about it, likewise.
    """

    coarse: Tensor
    change: Tensor

    @property
    def logits(self) -> Tensor:
        """Of the mask at this size."""
        return self.coarse + self.change


class SemanticHead(nn.Module):
    """Four 3x3 convolutions over the finest features, and a classifier of each cell (section 3.1).

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(conv_bn_relu(channels, channels) for _ in range(4)))
        self.classify = nn.Conv2d(channels, 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic features, float32 [B, C, s, s], and logits [B, 1, s, s]."""
        seen = self.body(features)
        return seen, self.classify(seen)


class Fusion(nn.Module):
    """Semantic Fusion Module (Fig. 3): features of instance and crop with both masks, to half as many of twice the size.

    Args:
        channels: of the instance features, even.
        semantic: of the semantic features.
    """

    def __init__(self, channels: int, semantic: int) -> None:
        super().__init__()
        self.semantic = nn.Conv2d(semantic, channels, 1)
        self.join = nn.Sequential(nn.Conv2d(2 * channels + 2, channels, 1), nn.ReLU(inplace=True))
        self.wide = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in (1, 3, 5)
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Conv2d(channels, channels // 2 - 2, 1)

    def forward(self, features: Tensor, semantic: Tensor, masks: Tensor) -> Tensor:
        """Instance features [B, channels / 2, 2s, 2s].

        Args:
            features: of the instance, float [B, channels, s, s].
            semantic: features of the crop at this size, float [B, semantic, s, s].
            masks: probabilities of the instance and of the semantic classifier, float [B, 2, s, s].
        """
        joined = self.join(torch.cat([features, functional.relu(self.semantic(semantic)), masks], 1))
        seen = functional.relu(sum(functional.relu(conv(joined)) for conv in self.wide))
        narrow = functional.relu(self.narrow(functional.relu(self.mix(seen))))
        # Narrowed before it is enlarged: the same values at a quarter of the cost.
        return enlarged(torch.cat([narrow, masks], 1))


class RefineMask(InstanceNetwork):
    """Multi-stage refinement of a crop.

    Args:
        channels: of the instance features at 14 cells, halved at each further size.
        stages: 1 to 4, the last one of 14, 28, 56 or 112 cells.
        blend: `soft`, as Eq. 6 has it, with the boundary enlarged bilinearly; `hard`, as in the official code: a cell is of
            one or the other.
        trunk: arguments of `InstanceNetwork`.

    Input: float32 [B, 4, 224, 224], normalised RGB and the coarse mask as -1/+1. Output: float32 [B, 1, 224, 224],
    foreground minus background logit.

    Raises:
        OptionError: an option is unknown or out of its range.
    """

    # Where the edge of a stage is within rounding, runtimes may draw its region differently.
    chooses = True

    def __init__(
        self,
        channels: int = 128,
        stages: int = STAGES,
        blend: str = "soft",
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        if not 1 <= stages <= STAGES:
            raise OptionError(f"stages of the network must be 1 to {STAGES}", field="stages")
        if blend not in ("soft", "hard"):
            raise OptionError("blend of the network must be soft or hard", field="blend")
        if channels % 2 ** (STAGES - 1) or channels < 8 * 2 ** (STAGES - 2):
            raise OptionError("channels of the network must be 32 or more, in steps of 8", field="channels")
        self.stages, self.blend = stages, blend
        sizes = [channels >> stage for stage in range(stages)]
        self.start = nn.Sequential(conv_bn_relu(self.far + 1, channels), conv_bn_relu(channels, channels))
        self.semantic = SemanticHead(self.widths[0])
        self.fusions = nn.ModuleList(Fusion(size, self.widths[0]) for size in sizes[:-1])
        self.heads = nn.ModuleList(nn.Conv2d(size + 2, 1, 1) for size in sizes)
        for head in self.heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def predict(self, inputs: Tensor) -> tuple[list[Stage], Tensor]:
        """Every stage's word, coarse to fine, and the semantic logits [B, 1, 112, 112]."""
        found = self.trunk.features(inputs)
        semantic, classes = self.semantic(found.levels[-1])
        mask = inputs[:, 3:4]
        coarse = [functional.avg_pool2d(mask, mask.shape[-1] // (COARSEST << stage)) for stage in range(self.stages)]
        features = self.start(torch.cat([found.far, coarse[0]], 1))
        stages: list[Stage] = []
        for stage, head in enumerate(self.heads):
            step = int(semantic.shape[-1]) // (COARSEST << stage)
            logits, seen = TRUST * coarse[stage], functional.avg_pool2d(classes, step)
            stages.append(Stage(logits, head(torch.cat([features, logits, seen], 1))))
            if stage < self.stages - 1:
                both = torch.cat([stages[-1].logits, seen], 1)
                features = self.fusions[stage](features, functional.avg_pool2d(semantic, step), torch.sigmoid(both))
        return stages, classes

    def compose(self, stages: Sequence[Stage]) -> Tensor:
        """Eq. 5 and 6: what changes at the last stage's size; a finer stage counts along the boundary of the one before."""
        change = stages[0].change
        for before, stage in pairwise(stages):
            region = boundary_region(before.coarse + change > 0, INFERENCE_WIDTH).float()
            if self.blend == "soft":
                region = enlarged(region)
            else:
                region = functional.interpolate(region, scale_factor=2.0, mode="nearest")
            wide = enlarged(change)
            change = region * stage.change + (1 - region) * wide
        return change

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, 1, 224, 224] of crops [B, 4, 224, 224]."""
        stages, _ = self.predict(inputs)
        change = self.compose(stages)
        for _ in range(STAGES - self.stages):
            change = enlarged(change)
        return at_full_size(inputs[:, 3:4], change)

    def training_loss(self, inputs: Tensor, target: Tensor, wrong: float = 0.0) -> Tensor:
        """See `InstanceNetwork.training_loss`, and `off` for `wrong`; Eq. 2 to 4.

        The first two stages learn everywhere, the others along the boundary of the truth or of the stage before (3.3).
        """
        stages, classes = self.predict(inputs)
        total = cross_entropy(classes, target, emphasis=0.0)
        for number, stage in enumerate(stages):
            share, sure = shares(target, int(stage.change.shape[-1]))
            weight = sure * (1 + wrong * off(inputs[:, 3:4], share))
            if number >= 2:
                weight = weight * self._region(stages[number - 1], target)
            each = functional.binary_cross_entropy_with_logits(stage.logits, share, reduction="none")
            total = total + WEIGHTS[number] * weighted_mean(each, weight)
        return total

    @torch.no_grad()
    def _region(self, before: Stage, target: Tensor) -> Tensor:
        share, _ = shares(target, int(before.change.shape[-1]))
        either = boundary_region(share >= 0.5, TRAINING_WIDTH) | boundary_region(before.logits > 0, TRAINING_WIDTH)
        return functional.interpolate(either.float(), scale_factor=2.0, mode="nearest")

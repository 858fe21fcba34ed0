"""Where Mask Transfiner finds a crop incoherent, from features at 28, 56 and 112 cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.trunk import conv_bn_relu


class Detectors(nn.Module):
    """Incoherence, as a logit per cell, from 28 cells down to 112.

    Args:
        widths: channels of the features at 28, 56 and 112 cells.
        hidden: channels within.
        cascade: a 1x1 convolution of its own for each finer level, over its features and the enlarged map of its parent
            (the paper); False enlarges the map of 28 cells alone (the official code).
    """

    def __init__(self, widths: Sequence[int], hidden: int, cascade: bool) -> None:
        super().__init__()
        self.coarsest = nn.Sequential(
            conv_bn_relu(widths[0] + 1, hidden),
            conv_bn_relu(hidden, hidden),
            conv_bn_relu(hidden, hidden),
            nn.Conv2d(hidden, 1, 3, 1, 1),
        )
        # Few cells are incoherent; starting there saves the first hundred steps.
        nn.init.constant_(self.coarsest[-1].bias, -2.5)
        self.finer = nn.ModuleList([nn.Conv2d(width + 1, 1, 1) for width in widths[1:]] if cascade else [])
        for finer in self.finer:
            # It starts as the map of its parent.
            nn.init.ones_(finer.weight[:, -1:])
            nn.init.zeros_(finer.bias)

    def forward(self, features: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """Logits, float32 [B, 1, s, s], per level of features [B, C, s, s] and the coarse mask [B, 1, 28, 28]."""
        maps = [self.coarsest(torch.cat([features[0], coarse], 1))]
        for level, feature in enumerate(features[1:]):
            parent = functional.interpolate(maps[-1], scale_factor=2.0, mode="nearest")
            maps.append(self.finer[level](torch.cat([feature, parent], 1)) if self.finer else parent)
        return maps

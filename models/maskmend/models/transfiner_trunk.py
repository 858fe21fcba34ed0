"""The convolutions of Mask Transfiner: features of a crop at four strides, and where they find it incoherent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.boundary_unet import conv_bn_relu
from maskmend.models.light_unet import InvertedResidual


class Trunk(nn.Module):
    """Features at strides 2, 4, 8 and 16, the coarser ones added to the finer.

    Dense convolutions where there are few channels, inverted residuals where there are many: measured, each is the faster
    one there.

    Args:
        widths: channels at these strides.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.to_half = conv_bn_relu(4, half, 2)
        self.to_quarter = nn.Sequential(conv_bn_relu(half, quarter, 2), conv_bn_relu(quarter, quarter))
        self.to_eighth = nn.Sequential(conv_bn_relu(quarter, eighth, 2), InvertedResidual(eighth, eighth))
        self.to_sixteenth = nn.Sequential(
            conv_bn_relu(eighth, sixteenth, 2),
            InvertedResidual(sixteenth, sixteenth),
            InvertedResidual(sixteenth, sixteenth),
        )
        pairs = zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        self.down = nn.ModuleList([nn.Conv2d(coarse, fine, 1) for coarse, fine in pairs])
        self.smooth = conv_bn_relu(half, half)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Map [B, 4, 224, 224] to features of 14, 28, 56 and 112 cells."""
        half = self.to_half(inputs)
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        found = [self.to_sixteenth(eighth)]
        for project, fine in zip(self.down, (eighth, quarter, half), strict=True):
            # Projected before it is enlarged: the same values at a quarter of the cost.
            found.append(functional.relu(fine + functional.interpolate(project(found[-1]), scale_factor=2.0)))
        found[-1] = self.smooth(found[-1])
        return found


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
        """Logits [B, 1, s, s] per level of features [B, C, s, s] and the coarse mask [B, 1, 28, 28]."""
        maps = [self.coarsest(torch.cat([features[0], coarse], 1))]
        for level, feature in enumerate(features[1:]):
            parent = functional.interpolate(maps[-1], scale_factor=2.0, mode="nearest")
            maps.append(self.finer[level](torch.cat([feature, parent], 1)) if self.finer else parent)
        return maps

"""A light encoder-decoder of depthwise separable convolutions, without a path at full resolution.

After MobileNetV2 (Sandler et al., CVPR 2018): here to be compared with; docs/quality.md says how it fares.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.trunk import conv_bn_relu


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, 1x1 projection, around an identity where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 4) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.identity = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        out: Tensor = self.body(x)
        return x + out if self.identity else out


class LightUnet(nn.Module):
    """Encoder-decoder at 1/2 to 1/16 of the patch.

    Args:
        widths: channels at 1/2, 1/4, ... of the input.
        blocks: blocks of the encoder at each of these.

    Input: float32 [N, 4, S, S], normalised RGB and the coarse mask as -1/+1. Output: float32 [N, 1, S / 2, S / 2].
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 96, 160), blocks: Sequence[int] = (1, 2, 2, 2)) -> None:
        super().__init__()
        self.stem = conv_bn_relu(4, widths[0], 2)
        self.encoder = nn.ModuleList()
        channels = widths[0]
        for n, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            first = InvertedResidual(channels, width, 1 if n == 0 else 2)
            self.encoder.append(nn.Sequential(first, *(InvertedResidual(width, width) for _ in range(count - 1))))
            channels = width
        self.lateral, self.decoder = nn.ModuleList(), nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.lateral.append(nn.Conv2d(channels, width, 1))
            self.decoder.append(InvertedResidual(width, width))
            channels = width
        self.head = nn.Conv2d(channels, 1, 3, 1, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Logits [N, 1, S / 2, S / 2] of patches [N, 4, S, S]."""
        x = self.stem(patches)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for lateral, decode in zip(self.lateral, self.decoder, strict=True):
            x = decode(functional.interpolate(lateral(x), scale_factor=2.0, mode="nearest") + skips.pop())
        out: Tensor = self.head(x)
        return out

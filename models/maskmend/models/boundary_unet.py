"""A light encoder-decoder for boundary patches, with a full-resolution detail path.

BPR's HRNet decides on a quarter-resolution grid, too coarse for corrections of one to three pixels unless its input is
enlarged. This network of our own keeps a thin path at full resolution (the stem's features are added back before the
last two convolutions) and does its thinking at one half to one eighth of it, where a convolution is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return functional.relu(x + self.second(self.first(x)))


class BoundaryUnet(nn.Module):
    """Encoder-decoder over a 64x64 patch.

    Args:
        detail: channels of the full-resolution path.
        widths: channels at 1/2, 1/4, 1/8, ... of the input.
        blocks: residual blocks of the encoder at each of these.

    Input: float32 [N, 4, S, S], normalised RGB and the coarse mask as -1/+1, S a multiple of 2 ** len(widths).
    Output: float32 [N, 1, S, S], foreground minus background logit.
    """

    def __init__(self, detail: int = 8, widths: Sequence[int] = (32, 64, 128), blocks: Sequence[int] = (1, 1, 2)):
        super().__init__()
        self.stem = conv_bn_relu(4, detail)
        self.encoder = nn.ModuleList()
        channels = detail
        for width, count in zip(widths, blocks, strict=True):
            self.encoder.append(
                nn.Sequential(conv_bn_relu(channels, width, 2), *(ResidualBlock(width) for _ in range(count)))
            )
            channels = width
        self.lateral = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.lateral.append(nn.Conv2d(channels, width, 1))
            self.decoder.append(ResidualBlock(width))
            channels = width
        self.to_detail = nn.Conv2d(channels, detail, 1)
        self.head = nn.Sequential(conv_bn_relu(detail, detail), nn.Conv2d(detail, 1, 3, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Logits [N, 1, S, S] of patches [N, 4, S, S]."""
        fine = x = self.stem(patches)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for lateral, decode in zip(self.lateral, self.decoder, strict=True):
            x = functional.interpolate(lateral(x), scale_factor=2.0, mode="nearest")
            x = decode(x + skips.pop())
        x = functional.interpolate(self.to_detail(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.head(x + fine)
        return out


def parameter_count(module: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in module.parameters())

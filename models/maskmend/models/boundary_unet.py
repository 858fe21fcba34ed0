"""A light encoder-decoder for boundary patches, with a full-resolution detail path.

BPR's HRNet decides on a quarter-resolution grid, too coarse for corrections of one to three pixels unless its input is
enlarged. This network of our own keeps a thin path at full resolution (the stem's features are added back before the
last two convolutions) and does its thinking at one half to one eighth of it, where a convolution is cheap. It can look
further than its patch: the context around it is read at a quarter of the resolution and joins at the deepest level.
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


class Context(nn.Module):
    """The patch and its surroundings, seen coarsely: features at 1/8 of the resolution, of the patch alone.

    Args:
        channels: of the features within.
        outputs: of the result.
        padding: pixels around the patch, a multiple of 16.
    """

    def __init__(self, channels: int, outputs: int, padding: int) -> None:
        super().__init__()
        self.border = padding // 8
        self.near = conv_bn_relu(4, channels // 2, 2)
        self.far = nn.Sequential(
            conv_bn_relu(channels // 2, channels, 2), ResidualBlock(channels), ResidualBlock(channels)
        )
        self.lateral = nn.Conv2d(channels // 2, channels, 1)
        self.project = nn.Conv2d(channels, outputs, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """Map [N, 4, S + 2p, S + 2p] to [N, outputs, S / 8, S / 8]."""
        near = self.near(functional.avg_pool2d(patches, 4))
        far = functional.interpolate(self.far(near), scale_factor=2.0, mode="nearest")
        joined = functional.relu(far + self.lateral(near))
        inner = slice(self.border, joined.shape[-1] - self.border)
        out: Tensor = self.project(joined[:, :, inner, inner])
        return out


class BoundaryUnet(nn.Module):
    """Encoder-decoder over a 64x64 patch.

    Args:
        detail: channels of the full-resolution path.
        widths: channels at 1/2, 1/4, 1/8, ... of the patch.
        blocks: residual blocks of the encoder at each of these.
        context: channels of the path that sees the surroundings; 0 for none. Needs three widths.
        padding: of the input around the patch in px, a multiple of 16; 0 without context.

    Input: float32 [N, 4, S + 2 * padding, S + 2 * padding], normalised RGB and the coarse mask as -1/+1, S a multiple of
    2 ** len(widths).
    Output: float32 [N, 1, S, S], foreground minus background logit of the patch without its padding.
    """

    def __init__(
        self,
        detail: int = 8,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 1, 2),
        context: int = 0,
        padding: int = 0,
    ):
        super().__init__()
        self.padding = padding
        self.context = Context(context, widths[-1], padding) if context else None
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
        inner = slice(self.padding, patches.shape[-1] - self.padding)
        fine = x = self.stem(patches[:, :, inner, inner] if self.padding else patches)
        skips = []
        for stage in self.encoder[:-1]:
            x = stage(x)
            skips.append(x)
        down, blocks = self.encoder[-1][0], self.encoder[-1][1:]
        x = down(x)
        if self.context is not None:
            x = x + self.context(patches)
        x = blocks(x)
        for lateral, decode in zip(self.lateral, self.decoder, strict=True):
            x = functional.interpolate(lateral(x), scale_factor=2.0, mode="nearest")
            x = decode(x + skips.pop())
        x = functional.interpolate(self.to_detail(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.head(x + fine)
        return out


def parameter_count(module: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in module.parameters())

"""The convolutions that all refiners of our own share: an encoder-decoder with a path that sees far.

A thin path at full resolution, an encoder-decoder at 1/2 to 1/8 of it, and a path that reads the surroundings at a quarter
of the resolution and joins at the deepest level. `boundary_unet` puts a full-resolution head on it; the refiners of whole
instances read its features at several strides. Trained weights of one are a start for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
        """Map float32 [N, C, H, W] to the same shape."""
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

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [N, 4, T, T], T = S + 2p, to [N, outputs, S / 8, S / 8], and [N, channels, T / 16, T / 16]."""
        near = self.near(functional.avg_pool2d(patches, 4))
        far = self.far(near)
        joined = functional.relu(functional.interpolate(far, scale_factor=2.0, mode="nearest") + self.lateral(near))
        inner = slice(self.border, joined.shape[-1] - self.border)
        return self.project(joined[:, :, inner, inner]), far


class Features(NamedTuple):
    """What the trunk knows.

    Attributes:
        stem: [N, detail, S, S].
        encoder: [N, C, S / 2**n, S / 2**n] fine to coarse, but for the coarsest, before anything coarser was added.
        levels: one per width, coarse to fine, after that.
        far: [N, C, (S + 2p) / 16, (S + 2p) / 16] with a context path, of the surroundings too.
    """

    stem: Tensor
    encoder: list[Tensor]
    levels: list[Tensor]
    far: Tensor | None


class Trunk(nn.Module):
    """Features of an image and its coarse mask.

    Args:
        detail: channels of the full-resolution path.
        widths: channels at 1/2, 1/4, 1/8, ... of the patch.
        blocks: residual blocks of the encoder at each of these.
        context: channels of the path that sees the surroundings; 0 for none. Needs three widths.
        padding: of the input around the patch in px, a multiple of 16; 0 without context.
    """

    def __init__(
        self,
        detail: int = 8,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 1, 2),
        context: int = 0,
        padding: int = 0,
    ) -> None:
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

    def features(self, patches: Tensor, *, decode: bool = True) -> Features:
        """See `Features`.

        Args:
            patches: float32 [N, 4, S + 2p, S + 2p], S a multiple of 2 ** len(widths).
            decode: False leaves the finer levels out.
        """
        inner = slice(self.padding, patches.shape[-1] - self.padding)
        stem = x = self.stem(patches[:, :, inner, inner] if self.padding else patches)
        encoder = []
        for stage in self.encoder[:-1]:
            x = stage(x)
            encoder.append(x)
        down, blocks = self.encoder[-1][0], self.encoder[-1][1:]
        x, far = down(x), None
        if self.context is not None:
            seen, far = self.context(patches)
            x = x + seen
        levels = [blocks(x)]
        if decode:
            for lateral, block, skip in zip(self.lateral, self.decoder, reversed(encoder), strict=True):
                x = functional.interpolate(lateral(levels[-1]), scale_factor=2.0, mode="nearest")
                levels.append(block(x + skip))
        return Features(stem, encoder, levels, far)


def initialise(network: nn.Module) -> None:
    """Start convolutions as He et al. (2015) do for rectifiers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

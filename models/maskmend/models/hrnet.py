"""HRNetV2 with the two-input stem and the FCN head of Boundary Patch Refinement.

Module names are those of an official BPR checkpoint (HRNet, Wang et al., TPAMI 2020; BPR, Tang et al., CVPR 2021, section
3.2), so that its `state_dict` loads without a mapping table: `backbone.*` and `decode_head.*`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class HrnetConfig:
    """Size of a variant.

    Attributes:
        bottlenecks: blocks of the first stage.
        modules: exchange modules of stages 2, 3 and 4.
        blocks: basic blocks of each branch in a module.
        channels: of the four branches, highest resolution first.
        input_size: side of the patch the official network is fed with, in px.
    """

    bottlenecks: int
    modules: tuple[int, int, int]
    blocks: int
    channels: tuple[int, int, int, int]
    input_size: int


CONFIGS = {
    # Slimmer than any official one: for comparisons at a small network's cost.
    "hrnet_w12_slim": HrnetConfig(1, (1, 1, 1), 2, (12, 24, 48, 96), 128),
    "hrnet_w18_small": HrnetConfig(2, (1, 3, 2), 2, (18, 36, 72, 144), 128),
    "hrnet_w48": HrnetConfig(4, (1, 4, 3), 4, (48, 96, 192, 384), 256),
}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool) -> nn.Sequential:
    """Convolution and batch normalisation as entries 0 and 1, ReLU as entry 2 if asked for."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def resize(feature: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize (align_corners False) of float32 [N, C, h, w] to [N, C, height, width]."""
    h, w = int(feature.shape[-2]), int(feature.shape[-1])
    if height % h == 0 and height // h == width / w:
        # The same values; and a graph exported from it computes no shapes, as it does when given sizes.
        return functional.interpolate(feature, scale_factor=float(height // h), mode="bilinear", align_corners=False)
    return functional.interpolate(feature, size=(height, width), mode="bilinear", align_corners=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [N, C, H, W] to the same shape."""
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; four times `planes` come out."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = conv_bn(inputs, outputs, 1, relu=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [N, C, H, W] to [N, 4 * planes, H, W]."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn3(self.conv3(out)) + shortcut)


class HrModule(nn.Module):
    """Parallel branches of basic blocks, then every branch receives the sum of all, resized to its own resolution."""

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    @staticmethod
    def _path(channels: tuple[int, ...], source: int, target: int) -> nn.Module | None:
        if source == target:
            return None
        if source > target:
            return conv_bn(channels[source], channels[target], 1, relu=False)
        # Downwards in steps of two; only the last step changes the number of channels, and it alone has no ReLU.
        steps = target - source
        return nn.Sequential(
            *(conv_bn(channels[source], channels[source], 3, 2, relu=True) for _ in range(steps - 1)),
            conv_bn(channels[source], channels[target], 3, 2, relu=False),
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Map one tensor per branch, float32 [N, C, h, w], to the same shapes."""
        features = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            total: Tensor | None = None
            for source, path in enumerate(paths):
                part = features[source] if path is None else path(features[source])
                if source > target:
                    part = resize(part, *map(int, features[target].shape[-2:]))
                total = part if total is None else total + part
            assert total is not None
            fused.append(functional.relu(total))
        return fused


class Backbone(nn.Module):
    """HRNetV2 from the stem to the four resolutions."""

    def __init__(self, config: HrnetConfig) -> None:
        super().__init__()
        c = config.channels
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.conv_mask = nn.Conv2d(1, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(*(Bottleneck(64 if n == 0 else 256, 64) for n in range(config.bottlenecks)))
        # An added branch starts from the lowest resolution there is; the others go on as they are.
        self.transition1 = nn.ModuleList(
            [conv_bn(256, c[0], 3, relu=True), nn.Sequential(conv_bn(256, c[1], 3, 2, relu=True))]
        )
        self.stage2 = nn.Sequential(*(HrModule(c[:2], config.blocks) for _ in range(config.modules[0])))
        self.transition2 = nn.ModuleList([None, None, nn.Sequential(conv_bn(c[1], c[2], 3, 2, relu=True))])
        self.stage3 = nn.Sequential(*(HrModule(c[:3], config.blocks) for _ in range(config.modules[1])))
        self.transition3 = nn.ModuleList([None, None, None, nn.Sequential(conv_bn(c[2], c[3], 3, 2, relu=True))])
        self.stage4 = nn.Sequential(*(HrModule(c, config.blocks) for _ in range(config.modules[2])))

    def forward(self, patches: Tensor) -> list[Tensor]:
        """Features at 1/4, 1/8, 1/16 and 1/32 of float32 [N, 4, S, S]."""
        x = functional.relu(self.bn1(self.conv1(patches[:, :3]) + self.conv_mask(patches[:, 3:])))
        x = functional.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        features: list[Tensor] = self.stage2([transition(x) for transition in self.transition1])
        features = self.stage3([*features, self.transition2[2](features[-1])])
        features = self.stage4([*features, self.transition3[3](features[-1])])
        return features


class FcnHead(nn.Module):
    """All resolutions resized to the highest, concatenated, one 1x1 convolution, two classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        block = nn.Module()
        block.conv = nn.Conv2d(channels, channels, 1, bias=False)
        block.bn = nn.BatchNorm2d(channels)
        self.convs = nn.ModuleList([block])
        self.conv_seg = nn.Conv2d(channels, 2, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (background, foreground), float32 [N, 2, h, w], at the highest resolution."""
        height, width = map(int, features[0].shape[-2:])
        resized = [features[0], *(resize(feature, height, width) for feature in features[1:])]
        block = self.convs[0]
        x = functional.relu(block.bn(block.conv(torch.cat(resized, 1))))
        logits: Tensor = self.conv_seg(x)
        return logits


class Hrnet(nn.Module):
    """BPR's refinement network.

    Input: float32 [N, 4, S, S], normalised RGB and the coarse mask as -1/+1.
    Output: float32 [N, 2, S / 4, S / 4], background and foreground logits.
    """

    def __init__(self, config: HrnetConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.decode_head = FcnHead(sum(config.channels))

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.decode_head(self.backbone(patches))
        return out


def hrnet_w12_slim() -> Hrnet:
    """A variant of our own, lighter than the official ones; see `CONFIGS`."""
    return Hrnet(CONFIGS["hrnet_w12_slim"])


def hrnet_w18_small() -> Hrnet:
    """The small official variant: 3,935,278 parameters, 0.598 GMAC for a 128x128 patch."""
    return Hrnet(CONFIGS["hrnet_w18_small"])


def hrnet_w48() -> Hrnet:
    """The large official variant: 65,846,978 parameters, 23.3 GMAC for a 256x256 patch."""
    return Hrnet(CONFIGS["hrnet_w48"])

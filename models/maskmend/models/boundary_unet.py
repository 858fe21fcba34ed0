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

from maskmend.models.trunk import Trunk, conv_bn_relu, initialise


class BoundaryUnet(Trunk):
    """Encoder-decoder over a 64x64 patch: `Trunk` with a head at full resolution, and the same arguments.

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
    ) -> None:
        super().__init__(detail, widths, blocks, context, padding)
        self.to_detail = nn.Conv2d(widths[0], detail, 1)
        self.head = nn.Sequential(conv_bn_relu(detail, detail), nn.Conv2d(detail, 1, 3, 1, 1))
        initialise(self)

    def forward(self, patches: Tensor) -> Tensor:
        """Logits [N, 1, S, S] of patches [N, 4, S + 2p, S + 2p]."""
        stem, _, levels, _ = self.features(patches)
        fine = functional.interpolate(
            self.to_detail(levels[-1]), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        out: Tensor = self.head(fine + stem)
        return out

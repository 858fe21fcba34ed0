"""SharpMask (Pinheiro et al., ECCV 2016) on crops of an image with a coarse mask from anywhere.

Top-down refinement: an encoding of the mask grows from 14 to 224 cells, and at each size a refinement module merges it with
what the trunk saw on its way down. The trunk's own decoder has no part in it, so this is the cheapest of the refiners of
whole instances. What comes out is added to the coarse mask: untrained, the network changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.instance_network import TRUST, InstanceNetwork, cross_entropy
from maskmend.patcher.errors import OptionError

MODULES = 4
SCHEDULES = ("constant", "halving")
FORMS = ("joined", "split")


class Refinement(nn.Module):
    """One refinement module R^i (section 3.1): skip features, merged with the mask encoding, at twice the size.

    Args:
        skip: channels of the trunk's features.
        hidden: of the first convolution on them; the paper has 64.
        k_skip: k_s, channels of the skip features S^i.
        k_mask: k_m, channels of the mask encoding M^i.
        outputs: channels of M^(i + 1).
        form: `joined` convolves the two inputs together (Fig. 7b); `split` convolves them apart and adds (Fig. 7c), so that
            the half of the skip features needs no mask yet. Equal but for rounding, with the same weights.
    """

    def __init__(self, skip: int, hidden: int, k_skip: int, k_mask: int, outputs: int, form: str) -> None:
        super().__init__()
        self.form, self.k_mask = form, k_mask
        self.first, self.second = nn.Conv2d(skip, hidden, 3, 1, 1), nn.Conv2d(hidden, k_skip, 3, 1, 1)
        self.merge = nn.Conv2d(k_mask + k_skip, outputs, 3, 1, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """M^(i + 1) [N, outputs, 2s, 2s] of features [N, skip, s, s] and M^i [N, k_mask, s, s]."""
        seen = functional.relu(self.second(functional.relu(self.first(features))))
        if self.form == "joined":
            merged = self.merge(torch.cat([mask, seen], 1))
        else:
            weight = self.merge.weight
            of_mask = functional.conv2d(mask, weight[:, : self.k_mask], padding=1)
            merged = functional.conv2d(seen, weight[:, self.k_mask :], self.merge.bias, padding=1) + of_mask
        return functional.interpolate(functional.relu(merged), scale_factor=2.0, mode="bilinear", align_corners=False)


class SharpMask(InstanceNetwork):
    """Top-down refinement of a crop.

    Args:
        detail: see `Trunk`, as are `widths`, `blocks` and `context`.
        widths: see there.
        blocks: see there.
        context: see there; the mask encoding starts from it.
        channels: k_m = k_s of the first module.
        schedule: `constant`, schedule (a) of section 4.2: all modules have as many; `halving`, (b): half as many in each.
        hidden: most channels of the convolutions on skip features.
        form: see `Refinement`.

    Input: float32 [B, 4, 224, 224], normalised RGB and the coarse mask as -1/+1. Output: float32 [B, 1, 224, 224],
    foreground minus background logit.

    Raises:
        OptionError: an option is unknown or out of its range.
    """

    def __init__(
        self,
        detail: int = 8,
        widths: Sequence[int] = (24, 48, 96),
        blocks: Sequence[int] = (1, 1, 2),
        context: int = 48,
        channels: int = 32,
        schedule: str = "halving",
        hidden: int = 64,
        form: str = "joined",
    ) -> None:
        super().__init__(detail, widths, blocks, context)
        if schedule not in SCHEDULES:
            raise OptionError(f"schedule of the network must be {' or '.join(SCHEDULES)}", field="schedule")
        if form not in FORMS:
            raise OptionError(f"form of the network must be {' or '.join(FORMS)}", field="form")
        if channels < 2 ** (MODULES - 1):
            raise OptionError(f"channels of the network must be {2 ** (MODULES - 1)} or more", field="channels")
        halves = 1 if schedule == "halving" else 0
        k = [channels >> (halves * n) for n in range(MODULES)]
        sizes = (context, *reversed(widths))
        self.encode = nn.Conv2d(context, k[0], 1)
        self.modules_ = nn.ModuleList(
            Refinement(skip, min(hidden, skip), here, here, after, form)
            for skip, here, after in zip(sizes, k, [*k[1:], k[-1]], strict=True)
        )
        self.head = nn.Conv2d(k[-1], 1, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def refinement_parameters(self) -> int:
        """Learned values beside the trunk; the paper's have fewer than 3 million."""
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith("trunk."))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, 1, 224, 224] of crops [B, 4, 224, 224]."""
        _, encoder, levels, far = self.trunk.features(inputs, decode=False)
        mask = functional.relu(self.encode(far))
        for module, features in zip(self.modules_, (far, levels[0], *reversed(encoder)), strict=True):
            mask = module(features, mask)
        out: Tensor = self.head(mask) + TRUST * inputs[:, 3:4]
        return out

    def training_loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """See `InstanceNetwork.training_loss`."""
        return cross_entropy(self(inputs), target)

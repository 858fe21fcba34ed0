"""SharpMask (Pinheiro et al., ECCV 2016) on crops of an image with a coarse mask from anywhere.

Top-down refinement: an encoding of the mask grows from 14 to 224 cells, and at each size a refinement module merges it with
features of the trunk. In the paper these are what a feedforward network saw on its way down. That is a form here too, the
cheapest of the refiners of whole instances; the other one takes what our trunk makes of them on its way up, which is trained
already. What comes out is what to change about the coarse mask: untrained, the network changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.instance_network import InstanceNetwork, at_full_size, cross_entropy, enlarged
from maskmend.patcher.errors import OptionError

MODULES = 4
SCHEDULES = ("constant", "halving")
FORMS = ("joined", "split")
SKIPS = ("decoder", "encoder")


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
        return enlarged(functional.relu(merged))


class SharpMask(InstanceNetwork):
    """Top-down refinement of a crop.

    Args:
        channels: k_m = k_s of the first module.
        schedule: `constant`, schedule (a) of section 4.2: all modules have as many; `halving`, (b): half as many in each.
        hidden: most channels of the convolutions on skip features.
        form: see `Refinement`.
        skips: features of the trunk that are merged: `encoder`, those on its way down, as in the paper; `decoder`, those on
            its way up.
        trunk: arguments of `InstanceNetwork`.

    Input: float32 [B, 4, 224, 224], normalised RGB and the coarse mask as -1/+1. Output: float32 [B, 1, 224, 224],
    foreground minus background logit.

    Raises:
        OptionError: an option is unknown or out of its range.
    """

    def __init__(
        self,
        channels: int = 32,
        schedule: str = "halving",
        hidden: int = 64,
        form: str = "joined",
        skips: str = "decoder",
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        if schedule not in SCHEDULES:
            raise OptionError(f"schedule of the network must be {' or '.join(SCHEDULES)}", field="schedule")
        if form not in FORMS:
            raise OptionError(f"form of the network must be {' or '.join(FORMS)}", field="form")
        if skips not in SKIPS:
            raise OptionError(f"skips of the network must be {' or '.join(SKIPS)}", field="skips")
        if channels < 2 ** (MODULES - 1):
            raise OptionError(f"channels of the network must be {2 ** (MODULES - 1)} or more", field="channels")
        self.skips = skips
        halves = 1 if schedule == "halving" else 0
        k = [channels >> (halves * n) for n in range(MODULES)]
        sizes = (self.far, *reversed(self.widths))
        self.encode = nn.Conv2d(self.far, k[0], 1)
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
        decode = self.skips == "decoder"
        _, encoder, levels, far = self.trunk.features(inputs, decode=decode)
        mask = functional.relu(self.encode(far))
        finer = levels[1:] if decode else encoder[::-1]
        for module, features in zip(self.modules_, (far, levels[0], *finer), strict=True):
            mask = module(features, mask)
        return at_full_size(inputs[:, 3:4], self.head(mask))

    def training_loss(self, inputs: Tensor, target: Tensor, wrong: float = 0.0) -> Tensor:
        """See `InstanceNetwork.training_loss`, and `cross_entropy` for `wrong`."""
        return cross_entropy(self(inputs), target, mask=inputs[:, 3:4], wrong=wrong)

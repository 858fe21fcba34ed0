"""Crops that networks can learn in seconds: bright noisy disks, with masks moved and resized."""

from __future__ import annotations

import torch


def disks(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright noisy disks on a dark ground, with masks moved and resized by up to 8 px; and the truth."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.arange(224).view(1, 224, 1), torch.arange(224).view(1, 1, 224)
    centre = torch.rand((count, 2, 1, 1), generator=rng) * 60 + 82
    radius = torch.rand((count, 1, 1), generator=rng) * 30 + 40
    off = torch.randint(-8, 9, (count, 3, 1, 1), generator=rng)
    true = (y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < radius**2
    near = (y - centre[:, 0] - off[:, 0]) ** 2 + (x - centre[:, 1] - off[:, 1]) ** 2 < (radius + off[:, 2]) ** 2
    image = torch.where(true.unsqueeze(1), 1.0, -1.0) + 0.3 * torch.randn((count, 3, 224, 224), generator=rng)
    return torch.cat([image, 2.0 * near.unsqueeze(1) - 1], 1), true.unsqueeze(1).to(torch.uint8)

"""What a network is taught: to judge patches along a boundary, or whole instances. Tensors, loss, accuracy."""

from __future__ import annotations

from typing import Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskmend.models.export import MarginNetwork
from maskmend.models.instance_network import InstanceNetwork
from maskmend.models.training.config import TrainingConfig
from maskmend.models.training.patches import INSTANCE, PATCH, UNSURE, Patches

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
BAND = 5


class Task(Protocol):
    """What the training loop needs to know of a refiner."""

    def loss(self, network: nn.Module, patches: Patches) -> Tensor:
        """Of a batch of crops, uint8 [N, S, S, 5]: a float32 scalar."""

    def accuracy(self, network: nn.Module, patches: Patches) -> tuple[float, float]:
        """Within 5 px of the true boundary: (of the coarse masks, of the refined ones)."""


def task_of(config: TrainingConfig) -> Task:
    """The task of a configuration."""
    return PatchTask(config) if config.crop == "patch" else InstanceTask(config)


class PatchTask:
    """Patches along the boundary."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    def loss(self, network: nn.Module, patches: Patches) -> Tensor:
        """See `Task`."""
        inputs, target, coarse = to_tensors(patches, self._config.input_size)
        logits = MarginNetwork(network, PATCH, self._config.padding)(inputs)
        return loss(logits.unsqueeze(1), target, coarse, self._config)

    def accuracy(self, network: nn.Module, patches: Patches) -> tuple[float, float]:
        """See `Task`."""
        margins = MarginNetwork(network, PATCH, self._config.padding)
        found: tuple[float, float] = band_accuracy(margins, patches, self._config.input_size)
        return found


class InstanceTask:
    """Crops of whole instances, for an `InstanceNetwork`."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    def loss(self, network: nn.Module, patches: Patches) -> Tensor:
        """See `Task`, and `InstanceNetwork.training_loss`."""
        inputs, target, _ = instance_tensors(patches)
        return cast(InstanceNetwork, network).training_loss(inputs, target, **self._config.loss)

    @torch.no_grad()
    def accuracy(self, network: nn.Module, patches: Patches) -> tuple[float, float]:
        """See `Task`; px of the crop."""
        network.eval()
        right = np.zeros(2)
        total = 0.0
        for start in range(0, len(patches), 16):
            inputs, target, coarse = instance_tensors(patches[start : start + 16])
            band = boundary_band(target, BAND) & (target != UNSURE)
            logits = functional.interpolate(
                network(inputs), size=(INSTANCE, INSTANCE), mode="bilinear", align_corners=False
            )
            refined = (logits > 0).to(torch.uint8)
            right += [float(((mask == target) & band).sum()) for mask in (coarse, refined)]
            total += float(band.sum())
        return float(right[0] / total), float(right[1] / total)


def instance_tensors(patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
    """Input float32 [N, 4, 224, 224], and target (0, 1, `UNSURE`) and coarse mask uint8 [N, 1, 224, 224] of crops."""
    data = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2)
    image = (data[:, :3].float() - MEAN) / STD
    inputs = torch.cat([image, data[:, 3:4].float() * 2 - 1], 1).contiguous(memory_format=torch.channels_last)
    return inputs, data[:, 4:5].contiguous(), data[:, 3:4].contiguous()


def to_tensors(patches: Patches, input_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the network sees, and what it is measured against.

    Returns:
        Input float32 [N, 4, input_size, input_size], and of the patch without its context the target (0, 1, `UNSURE`) and
        the coarse mask, both uint8 [N, 1, 64, 64].
    """
    data = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2)
    image = (data[:, :3].float() - MEAN) / STD
    coarse = data[:, 3:4].float() * 2 - 1
    if input_size != image.shape[-1]:
        image = functional.interpolate(image, (input_size, input_size), mode="bilinear", align_corners=False)
        coarse = functional.interpolate(coarse, (input_size, input_size), mode="nearest")
    inputs = torch.cat([image, coarse], 1).contiguous(memory_format=torch.channels_last)
    padding = (data.shape[-1] - PATCH) // 2
    inner = data[:, :, padding : padding + PATCH, padding : padding + PATCH].contiguous()
    return inputs, inner[:, 4:5], inner[:, 3:4]


def loss(logits: Tensor, target: Tensor, coarse: Tensor, config: TrainingConfig) -> Tensor:
    """Cross-entropy that counts more near the true edge and where the coarse mask is wrong.

    Args:
        logits: float [N, 1, 64, 64], foreground minus background.
        target: uint8 [N, 1, 64, 64] with 0, 1, `UNSURE`.
        coarse: uint8 [N, 1, 64, 64].
        config: gives the two weights.
    """
    sure = (target != UNSURE).float()
    true = (target == 1).float()
    near = boundary_band(target, 3).float()
    weight = sure * (1 + config.boundary_weight * near + config.error_weight * (coarse != target).float())
    each = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
    return (each * weight).sum() / weight.sum().clamp_min(1.0)


def boundary_band(target: Tensor, radius: int) -> Tensor:
    """Pixels within `radius` (a square neighbourhood) of the true edge: bool, shape of `target` uint8 [N, 1, 64, 64]."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    found = np.empty(target.shape, bool)
    # OpenCV's erosion of small pictures costs a hundredth of a pooling layer.
    for n, patch in enumerate((target == 1).to(torch.uint8).numpy()[:, 0]):
        found[n, 0] = cv2.dilate(patch, kernel) != cv2.erode(patch, kernel)
    return torch.from_numpy(found)


@torch.no_grad()
def band_accuracy(network: MarginNetwork, patches: Patches, input_size: int) -> tuple[float, float]:
    """Accuracy within 5 px of the TRUE boundary: (of the coarse masks, of the refined ones)."""
    network.eval()
    right = np.zeros(2)
    total = 0.0
    for start in range(0, len(patches), 64):
        part = patches[start : start + 64]
        inputs, target, coarse = to_tensors(part, input_size)
        band = boundary_band(target, BAND) & (target != UNSURE)
        refined = network(inputs).unsqueeze(1) > 0
        right += [float(((coarse == target) & band).sum()), float(((refined.to(torch.uint8) == target) & band).sum())]
        total += float(band.sum())
    return float(right[0] / total), float(right[1] / total)

"""A refiner that is not ours: one network in a file, one line in the registry, and it trains, exports and refines."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from maskmend.clients import Refiner  # noqa: E402
from maskmend.models import registry  # noqa: E402
from maskmend.models.instance_network import TRUST, InstanceNetwork, cross_entropy  # noqa: E402
from maskmend.models.registry import RefinerKind  # noqa: E402
from maskmend.models.training.train import main  # noqa: E402


class Toy(InstanceNetwork):
    """A 1x1 convolution on the trunk's finest features."""

    cell = 2

    def __init__(self, share: float = 1.0) -> None:
        super().__init__(8, (24, 48, 96), (1, 1, 2), 48)
        self.share, self.head = share, nn.Conv2d(24, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        coarse = functional.avg_pool2d(inputs[:, 3:4], self.cell)
        return self.head(self.trunk.features(inputs).levels[-1]) + self.share * TRUST * coarse

    def training_loss(self, inputs: Tensor, target: Tensor, emphasis: float = 3.0) -> Tensor:
        return cross_entropy(self(inputs), target, emphasis)


CONFIG = """
name: toy-small
refiner: toy
architecture: toy
arguments: {share: 0.5}
loss: {emphasis: 1.0}
crop: instance
trunk: bpr-small
frozen: 2
input_size: 224
steps: 4
batch: 4
pool: 64
kinds: {rcnn28: 1.0, polygon: 1.0}
validate_every: 4
validation_scenes: 1
checkpoint_every: 4
threads: 1
"""


def test_a_fifth_refiner_takes_one_file_and_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="exporting needs the train extra")
    monkeypatch.setitem(registry.REFINERS, "toy", RefinerKind("instance", f"{__name__}:Toy", str(tmp_path / "toy")))
    config = tmp_path / "toy.yaml"
    config.write_text(CONFIG)
    folder = main(config, data=data, output=tmp_path / "run")
    assert "training" in (folder / "toy-small.md").read_text()
    folder.rename(tmp_path / "toy")
    image = np.full((150, 180, 3), 40, np.uint8)
    cv2.circle(image, (90, 70), 45, (200, 180, 160), -1)
    coarse = np.zeros((150, 180), np.uint8)
    cv2.circle(coarse, (94, 73), 45, 1, -1)
    for runtime in ("onnx", "torch"):
        refiner = Refiner("toy", runtime=runtime, threads=1, guard=False)
        assert refiner.provenance["weights"] == "toy-small"
        result = refiner.refine(image, coarse > 0)
        assert result.masks.shape == (1, 150, 180)
        assert 0 < result.instances[0].changed_pixels < coarse.sum()

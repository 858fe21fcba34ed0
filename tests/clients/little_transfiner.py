"""A transfiner small enough for tests, with weights that were never trained but say something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from maskmend.models.transfiner import Transfiner
    from maskmend.models.zoo import Weights

SMALL: dict[str, Any] = {"detail": 4, "widths": [8, 8, 16], "context": 8, "k": [24, 40, 56], "dim": 16, "heads": 2}


def little(**changes: object) -> Transfiner:
    import torch

    from maskmend.models.transfiner import Transfiner

    torch.manual_seed(0)
    network = Transfiner(**(SMALL | changes)).eval()
    # A new network changes nothing, and finds hardly anything.
    torch.nn.init.normal_(network.decoder[-1].weight)
    if network.detectors is not None:
        torch.nn.init.constant_(network.detectors.coarsest[-1].bias, -1.0)
    return network


def little_weights(folder: Path, **changes: object) -> Weights:
    """Its weights as files; the graph is not among them, for PyTorch does not need it and it takes the longest."""
    from maskmend.models.export import write_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskmend.models.export.export_onnx", lambda _, path, **__: path.write_bytes(b"graph"))
        patch.setattr("maskmend.models.export.count_macs", lambda *_: 0)
        return write_weights(
            little(**changes),
            folder,
            name="little",
            architecture="transfiner",
            arguments=SMALL | changes,
            input_size=224,
            patch=224,
            refiner="transfiner",
            license="Apache-2.0",
            source="a test",
            card="little",
        )

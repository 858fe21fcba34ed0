"""A service holds exported weights like any others, though they have no ONNX graph."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytest.importorskip("fastapi", reason="the service needs the serve extra")

from maskmend.models import resolve_weights
from maskmend.models.exporters import export_weights
from maskmend.service.served import Served


def test_served_and_loaded_again_when_exported_again(tmp_path: Path) -> None:
    made = export_weights(resolve_weights("bpr-small"), tmp_path, form="openvino", precision="fp16", name="half")
    served = Served([str(tmp_path / "half.json")], runtime="openvino", threads=1)
    try:
        (info,) = served.list()
        assert (info.name, info.precision, info.sha256) == ("half", "fp16", made.weights.manifest.sha256["bin"])
        refiner = served.get(None).refiner
        assert refiner.forward(np.zeros((1, 4, 128, 128), np.float32)).shape == (1, 64, 64)
        assert served.reload() == {}
        os.utime(made.weights.file("xml"), (1, 1))
        assert served.reload() == {"half": ""}
    finally:
        served.close()

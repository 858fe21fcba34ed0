"""A service in int8 says so, and takes requests that ask for that."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the openvino runtime is not installed")
pytest.importorskip("fastapi", reason="the service needs the serve extra")

from maskmend.models import resolve_weights
from maskmend.models.precision import has_int8
from maskmend.patcher.errors import OptionError
from maskmend.service.errors import NotFoundError
from maskmend.service.served import Served
from maskmend.service.server import _check_before_workers
from maskmend.service.settings import Settings


def test_models_are_listed_as_what_they_compute_in() -> None:
    served = Served(["bpr-small"], runtime="openvino", precision="int8", threads=1)
    try:
        (info,) = served.list()
        form = resolve_weights("bpr-small").in_precision("int8")
        assert form is not None
        assert (info.name, info.precision, info.sha256) == ("bpr-small", "int8", form.manifest.sha256["onnx"])
        model = served.get("bpr-small", precision="int8")
        assert model.refiner.forward(np.zeros((1, 4, 128, 128), np.float32)).shape == (1, 64, 64)
        with pytest.raises(NotFoundError, match="is int8 here"):
            served.get("bpr-small", precision="fp32")
    finally:
        served.close()


def test_auto_is_settled_when_the_model_is_loaded() -> None:
    served = Served(["bpr-small"], runtime="openvino", precision="auto", threads=1)
    try:
        (info,) = served.list()
        assert info.precision == "int8" if has_int8() else info.precision in ("bf16", "fp32")
    finally:
        served.close()


def test_the_setting_takes_auto_and_is_fp32_without_being_asked() -> None:
    assert Settings(precision="auto").precision == "auto"
    assert Settings().precision == "fp32"


def test_a_precision_that_is_none_does_not_start() -> None:
    with pytest.raises(OptionError, match="use one of auto"):
        Served(["bpr-small"], precision="int4")


@pytest.mark.parametrize("precision", ["auto", "int8", "fp32"])
def test_the_parent_of_several_workers_takes_what_they_take(precision: str) -> None:
    _check_before_workers(Settings(precision=precision))
    with pytest.raises(OptionError, match="no int8 form"):
        _check_before_workers(Settings(precision="int8", weights=["bpr-small", "sharpmask-small"]))

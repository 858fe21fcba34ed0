from __future__ import annotations

import pytest

from maskmend.patcher import errors
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeLostError, RuntimeUnavailableError

CODES = {
    "MaskmendError": "error",
    "MaskError": "invalid_mask",
    "ImageError": "invalid_image",
    "UnsupportedImageError": "unsupported_image",
    "OptionError": "invalid_option",
    "JobError": "invalid_job",
    "WeightsError": "invalid_weights",
    "RuntimeUnavailableError": "runtime_unavailable",
    "RuntimeLostError": "runtime_lost",
}


def test_the_codes_that_clients_rely_on() -> None:
    found = {name: kind.code for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert found == CODES


@pytest.mark.parametrize("name", CODES)
def test_every_error_is_one_of_ours_and_names_a_field(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, MaskmendError)
    error = kind("it is too large", field="size")
    assert (str(error), error.field, error.request_id) == ("it is too large", "size", "")
    assert kind("no field").field == ""


def test_an_option_is_a_value_and_a_lost_runtime_one_that_is_not_there() -> None:
    assert issubclass(OptionError, ValueError)
    lost = RuntimeLostError("no server answers", field="runtime")
    assert isinstance(lost, RuntimeUnavailableError)
    assert (lost.retry_after, lost.field) == (5, "runtime")
    assert RuntimeLostError("no server answers", retry_after=30).retry_after == 30

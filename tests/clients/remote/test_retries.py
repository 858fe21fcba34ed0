from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmend.clients.errors import ConnectionFailedError, UnexpectedAnswerError, mirrored
from maskmend.clients.retries import Attempts, Retries
from maskmend.patcher.errors import ImageError, MaskError, MaskmendError
from maskmend.service.errors import OverloadedError, ServiceError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def waits(retries: Retries, error: MaskmendError, timeout: float = 1e9) -> list[float]:
    """How long each wait is, until the error comes back."""
    clock, found = Clock(), []
    attempts = Attempts(retries, timeout, clock)

    def use_up() -> None:
        while True:
            found.append(attempts.wait_after(error))
            clock.now += found[-1]

    with pytest.raises(type(error)) as raised:
        use_up()
    assert raised.value is error
    return found


@given(st.integers(0, 8), st.floats(0.01, 2), st.floats(0.1, 20), st.integers(0, 1000))
def test_waits_double_within_bounds_and_are_drawn_by_the_seed(
    most: int, first: float, longest: float, seed: int
) -> None:
    retries = Retries(most, first, longest, seed)
    found = waits(retries, ConnectionFailedError("gone"))
    assert len(found) == most
    for number, wait in enumerate(found):
        step = min(longest, first * 2**number)
        assert step / 2 <= wait <= step
    assert waits(retries, ConnectionFailedError("gone")) == found


@given(st.integers(0, 100), st.integers(0, 1000))
def test_the_server_says_how_long(asked: int, seed: int) -> None:
    error = OverloadedError("full", retry_after=asked)
    for wait in waits(Retries(3, seed=seed), error):
        assert asked <= wait <= 1.25 * asked


@given(st.floats(0.1, 30), st.integers(0, 1000))
def test_waits_end_with_the_time(timeout: float, seed: int) -> None:
    assert sum(waits(Retries(50, 0.5, 5, seed), ConnectionFailedError("gone"), timeout)) < timeout


@pytest.mark.parametrize(
    "error",
    [
        MaskError("broken"),
        ImageError("broken"),
        UnexpectedAnswerError("another server", passing=False),
        mirrored("too_large", "too large"),
        mirrored("deadline_exceeded", "late"),
        mirrored("unauthorized", "no key"),
    ],
)
def test_what_will_not_change_is_not_tried_again(error: MaskmendError) -> None:
    assert waits(Retries(), error) == []


def test_errors_of_a_server_are_made_again() -> None:
    error = mirrored("invalid_mask", "broken", "masks[2]", request_id="r-7")
    assert (type(error), str(error), error.field, error.request_id) == (MaskError, "broken", "masks[2]", "r-7")
    error = mirrored("overloaded", "full", retry_after=7)
    assert isinstance(error, OverloadedError)
    assert error.retry_after == 7
    # A newer server may know codes that this client does not.
    assert type(mirrored("from_the_future", "?")) is ServiceError

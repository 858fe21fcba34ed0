"""When a server is asked, left alone, and tried again."""

from __future__ import annotations

from maskmend.models.runtimes.circuit import FAILURES, FIRST_REST, LONGEST_REST, Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Circuit, Clock]:
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(FAILURES):
        assert circuit.enter()
        circuit.failed()
    return circuit, clock


def test_some_failures_in_a_row_open_it() -> None:
    circuit = Circuit(Clock())
    for _ in range(FAILURES - 1):
        circuit.failed()
    assert circuit.state == "closed"
    circuit.succeeded()
    for _ in range(FAILURES - 1):
        circuit.failed()
    assert circuit.state == "closed"
    circuit.failed()
    assert circuit.state == "open"
    assert not circuit.enter()
    assert circuit.opens_in == FIRST_REST


def test_a_failure_that_will_not_pass_opens_it_at_once() -> None:
    circuit = Circuit(Clock())
    circuit.failed(at_once=True)
    assert circuit.state == "open"


def test_half_open_lets_one_request_pass() -> None:
    circuit, clock = opened()
    clock.now += FIRST_REST
    assert circuit.state == "half-open"
    assert circuit.enter()
    assert not circuit.enter()
    assert circuit.opens_in > 0
    circuit.succeeded()
    assert circuit.state == "closed"
    assert circuit.enter()
    assert circuit.enter()


def test_each_rest_is_twice_as_long_up_to_the_longest() -> None:
    circuit, clock = opened()
    rests = []
    for _ in range(6):
        rests.append(circuit.opens_in)
        clock.now += circuit.opens_in
        assert circuit.enter()
        circuit.failed()
    assert rests == [min(LONGEST_REST, FIRST_REST * 2**n) for n in range(6)]
    clock.now += circuit.opens_in
    assert circuit.enter()
    circuit.succeeded()
    for _ in range(FAILURES):
        circuit.failed()
    assert circuit.opens_in == FIRST_REST


def test_a_failure_from_before_it_opened_does_not_prolong_the_rest() -> None:
    circuit, clock = opened()
    clock.now += FIRST_REST / 2
    circuit.failed()
    assert circuit.opens_in == FIRST_REST / 2

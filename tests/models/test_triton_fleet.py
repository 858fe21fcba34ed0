"""Who gets a request, who gets it again, and when it is given up. Without any network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic, sleep

import pytest

from maskmend.models.runtimes.triton_fleet import Fleet, TritonFailure
from maskmend.patcher.errors import RuntimeLostError


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def fleet(names: str, wait_s: float = 10.0) -> tuple[Fleet[str], Time]:
    time = Time()
    return Fleet(list(names), list(names), wait_s=wait_s, clock=time.clock, sleep=time.sleep), time


def failing(*broken: str, passing: bool = True) -> Callable[[str], str]:
    def call(name: str) -> str:
        if name in broken:
            raise TritonFailure(f"{name} is out of order", passing=passing)
        return name

    return call


def test_requests_are_spread_evenly() -> None:
    servers, _ = fleet("abc")
    assert Counter(servers.run(failing()) for _ in range(30)) == {"a": 10, "b": 10, "c": 10}


def test_the_least_busy_one_is_asked() -> None:
    servers, _ = fleet("ab")
    begun, go_on = threading.Event(), threading.Event()

    def slow(name: str) -> str:
        begun.set()
        go_on.wait(10)
        return name

    taken: list[str] = []
    thread = threading.Thread(target=lambda: taken.append(servers.run(slow)))
    thread.start()
    assert begun.wait(10)
    others = {servers.run(failing()) for _ in range(5)}
    go_on.set()
    thread.join(10)
    assert others == {"a", "b"} - set(taken)


def test_a_broken_one_is_passed_over_without_a_wait() -> None:
    servers, time = fleet("ab")
    assert {servers.run(failing("a")) for _ in range(20)} == {"b"}
    assert time.now == 0
    health = {found.url: found for found in servers.health()}
    assert (health["a"].circuit, health["a"].reason) == ("open", "a is out of order")
    # Its circuit opened, so it was asked three times, not ten.
    assert (health["a"].requests, health["a"].failures) == (0, 3)
    assert (health["b"].circuit, health["b"].reason, health["b"].requests) == ("closed", "", 20)


def test_one_that_comes_back_is_used_again() -> None:
    servers, time = fleet("ab")
    for _ in range(10):
        servers.run(failing("a"))
    time.now += 5
    assert servers.run(failing()) == "b"
    until_closed(servers, "a")
    assert {servers.run(failing()) for _ in range(4)} == {"a", "b"}


def until_closed(servers: Fleet[str], name: str) -> None:
    """Wait for a probe that goes on in a thread of its own."""
    until = monotonic() + 10
    while next(found for found in servers.health() if found.url == name).circuit != "closed":
        assert monotonic() < until
        sleep(0.005)


def test_nobody_waits_for_a_probe_that_hangs_while_another_server_is_well() -> None:
    servers, time = fleet("ab")
    for _ in range(10):
        servers.run(failing("a"))
    time.now += 5
    begun, go_on = threading.Event(), threading.Event()

    def hanging(name: str) -> str:
        if name == "a":
            begun.set()
            go_on.wait(10)
        return name

    began = monotonic()
    assert {servers.run(hanging) for _ in range(20)} == {"b"}
    assert begun.wait(10), "it was probed"
    assert monotonic() - began < 9
    assert {found.url: found.circuit for found in servers.health()} == {"a": "half-open", "b": "closed"}
    go_on.set()
    until_closed(servers, "a")


def test_probes_share_a_thread() -> None:
    servers, time = fleet("ab")
    threads = set()

    def call(name: str) -> str:
        if name == "a":
            threads.add(threading.get_ident())
            raise TritonFailure("not yet")
        return name

    failures = 0
    for _ in range(10):
        servers.run(call)
        until = monotonic() + 10
        while servers.health()[0].failures == failures or servers.health()[0].circuit == "half-open":
            assert monotonic() < until
            servers.run(call)
            sleep(0.005)
        failures = servers.health()[0].failures
        time.now += 5
    assert failures >= 10
    # The one that calls, and that of the probes.
    assert len(threads) == 2


def test_an_error_in_a_probe_frees_the_server() -> None:
    servers, time = fleet("ab")
    for _ in range(10):
        servers.run(failing("a"))
    time.now += 5
    assert servers.run(lambda name: {"b": "b"}[name]) == "b"
    until = monotonic() + 10
    while servers.health()[0].reason != "the request was broken off":
        assert monotonic() < until
        sleep(0.005)
    time.now += 5
    servers.run(failing())
    until_closed(servers, "a")


def test_one_that_hangs_is_left_alone_at_once() -> None:
    servers, _ = fleet("ab")
    asked: list[str] = []

    def call(name: str) -> str:
        asked.append(name)
        if name == "a":
            raise TritonFailure("no answer in time", hung=True)
        return name

    assert {servers.run(call) for _ in range(6)} == {"b"}
    assert asked.count("a") == 1


def test_another_server_is_tried_before_the_same_one_again() -> None:
    servers, time = fleet("ab", wait_s=0)
    release = threading.Event()
    busy = threading.Thread(target=servers.run, args=(lambda _: release.wait(10),))
    busy.start()
    asked: list[str] = []

    def call(name: str) -> str:
        asked.append(name)
        if len(asked) == 1:
            raise TritonFailure("once")
        return name

    servers.run(call)
    release.set()
    busy.join(10)
    # The first one failed at once and is idle; the other is busy.
    assert len(set(asked)) == 2
    assert time.now == 0


def test_the_only_one_is_waited_for() -> None:
    servers, time = fleet("a", wait_s=20)

    def call(name: str) -> str:
        if time.now < 12:
            raise TritonFailure("not yet")
        return "back"

    assert servers.run(call) == "back"
    assert 12 <= time.now <= 14.1


def test_it_is_given_up_in_time_and_says_why() -> None:
    servers, time = fleet("ab", wait_s=7)
    with pytest.raises(RuntimeLostError, match=r"in 7 s.*a: a is out of order; b: b is out of order") as caught:
        servers.run(failing("a", "b"))
    assert time.now == pytest.approx(7)
    assert caught.value.retry_after >= 1
    assert caught.value.field == "triton_url"


def test_the_others_are_asked_even_where_nobody_waits() -> None:
    servers, time = fleet("abc", wait_s=0)
    assert servers.run(failing("a", "b")) == "c"
    with pytest.raises(RuntimeLostError, match="c is out of order"):
        servers.run(failing("a", "b", "c"))
    assert time.now == 0


def test_what_waiting_does_not_mend_is_not_waited_for() -> None:
    servers, time = fleet("ab", wait_s=60)
    with pytest.raises(RuntimeLostError, match="no Triton can be used"):
        servers.run(failing("a", "b", passing=False))
    assert time.now < 1


def test_one_that_may_pass_is_waited_for_beside_one_that_will_not() -> None:
    servers, time = fleet("ab", wait_s=5)

    def call(name: str) -> str:
        raise TritonFailure("wrong weights" if name == "a" else "starting", passing=name != "a")

    with pytest.raises(RuntimeLostError, match=r"wrong weights.*starting"):
        servers.run(call)
    assert time.now == pytest.approx(5)


def test_other_errors_are_not_swallowed_and_leave_no_slot_taken() -> None:
    servers, _ = fleet("a")
    with pytest.raises(KeyError):
        servers.run(lambda name: {}[name])
    assert servers.run(failing()) == "a"

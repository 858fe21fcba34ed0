"""Several servers that can do the same: who gets the next request, and who gets it again when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from maskmend.models.runtimes.circuit import Circuit, State
from maskmend.patcher.errors import RuntimeLostError

T = TypeVar("T")
Place = TypeVar("Place")

_PAUSE = 0.05
"""Seconds before a request is tried again at a server whose circuit is closed still."""


class TritonFailure(Exception):  # noqa: N818 - it never leaves this package
    """A server did not do what was asked.

    Attributes:
        passing: whether it may do so later without anyone mending it.
        hung: it did not answer in time. Once is enough: each more would be waited for as long.
    """

    def __init__(self, reason: str, *, passing: bool = True, hung: bool = False) -> None:
        super().__init__(reason)
        self.passing, self.hung = passing, hung


@dataclass(frozen=True, slots=True)
class TritonHealth:
    """How a server does.

    Attributes:
        url: of the server.
        circuit: `closed` is well, `open` is left alone, `half-open` is about to be tried.
        reason: of the last failure; empty when the last request went well.
        requests: that went well.
        failures: that did not.
        seconds: of those that went well, all together.
    """

    url: str
    circuit: State
    reason: str
    requests: int
    failures: int
    seconds: float


@runtime_checkable
class ReportsHealth(Protocol):
    """A runtime whose work is done by servers."""

    def health(self) -> list[TritonHealth]:
        """Each server, as far as is known from the requests so far."""


class _Member(Generic[Place]):
    def __init__(self, place: Place, name: str, clock: Callable[[], float]) -> None:
        self.place, self.name, self.circuit = place, name, Circuit(clock)
        self.busy = self.requests = self.failures = 0
        self.seconds = 0.0
        self.last_used = 0
        self.reason, self.passing = "", True


class Fleet(Generic[Place]):
    """Servers with a circuit breaker each. `run` may be called from several threads.

    Args:
        places: the servers.
        names: what they are called in messages.
        wait_s: how long a request is tried again, from its first failure.
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        places: list[Place],
        names: list[str],
        *,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep, self._wait_s = clock, sleep, wait_s
        self._members = [_Member(place, name, clock) for place, name in zip(places, names, strict=True)]
        self._lock = threading.Lock()
        self._turn = 0
        # Threads that stay: each new one that speaks HTTP would leave two open files behind (gevent's).
        self._probes = ThreadPoolExecutor(len(places), "maskmend-probe")

    def run(self, call: Callable[[Place], T], *, wait_s: float | None = None) -> T:
        """Have one of the servers do it: the least busy one, or the next where one fails.

        A server that is to be probed gets the same request in a thread of its own while another does the work.

        Args:
            call: asks a server, and raises `TritonFailure` where that failed. It may be called more than once, and from
                other threads.
            wait_s: instead of the fleet's.

        Raises:
            RuntimeLostError: no server did it in time, or each is in a state that waiting does not mend.
        """
        wait_s = self._wait_s if wait_s is None else wait_s
        until: float | None = None
        tried: set[str] = set()
        while True:
            member = self._enter(tried)
            if member is not None and self._may_be_probed_aside(member):
                # It may hang, and nobody is to wait for that. Whatever comes of it is noted.
                self._probes.submit(self._try, member, call)
                continue
            if member is not None:
                failure = self._try(member, call)
                if not isinstance(failure, TritonFailure):
                    return failure
            now = self._clock()
            until = now + wait_s if until is None else until
            if member is not None and not self._none_will_pass():
                tried.add(member.name)
                if len(tried) < len(self._members):
                    # Another server is asked at once; the same ones only after a pause.
                    continue
            if now >= until or self._none_will_pass():
                raise RuntimeLostError(self._said(now - until + wait_s), field="triton_url", retry_after=5)
            tried.clear()
            self._sleep(min(max(_PAUSE, self._opens_in()), until - now))

    def try_next(self, call: Callable[[Place], object]) -> None:
        """Have the server that was used longest ago do it, once; a failure is noted, and that is all."""
        member = self._enter()
        if member is not None:
            self._try(member, call)

    def health(self) -> list[TritonHealth]:
        """Each server, as far as is known from the requests so far; asks none."""
        with self._lock:
            return [
                TritonHealth(m.name, m.circuit.state, m.reason, m.requests, m.failures, m.seconds)
                for m in self._members
            ]

    def _may_be_probed_aside(self, member: _Member[Place]) -> bool:
        """Whether it is to be probed while another server is well."""
        return member.circuit.state == "half-open" and any(m.circuit.state == "closed" for m in self._members)

    def _try(self, member: _Member[Place], call: Callable[[Place], T]) -> T | TritonFailure:
        began = self._clock()
        failure = TritonFailure("the request was broken off")
        try:
            found = call(member.place)
        except TritonFailure as error:
            failure = error
            return failure
        else:
            failure = TritonFailure("")
            member.circuit.succeeded()
            with self._lock:
                member.requests += 1
                member.seconds += self._clock() - began
                member.reason, member.passing = "", True
            return found
        finally:
            with self._lock:
                member.busy -= 1
            if str(failure):
                member.circuit.failed(at_once=failure.hung or not failure.passing)
                with self._lock:
                    member.failures += 1
                    member.reason, member.passing = str(failure), failure.passing

    def _enter(self, tried: Container[str] = ()) -> _Member[Place] | None:
        """A server that may be asked now, or None; those that were not tried yet before others.

        One that is to be probed comes first: else it would never come back.
        """

        def rank(m: _Member[Place]) -> tuple[bool, bool, int, int]:
            return m.circuit.state != "half-open", m.name in tried, m.busy, m.last_used

        with self._lock:
            order = sorted(self._members, key=rank)
            for member in order:
                if member.circuit.enter():
                    self._turn += 1
                    member.busy += 1
                    member.last_used = self._turn
                    return member
        return None

    def _opens_in(self) -> float:
        return min(member.circuit.opens_in for member in self._members)

    def _none_will_pass(self) -> bool:
        with self._lock:
            return all(member.reason and not member.passing for member in self._members)

    def _said(self, seconds: float) -> str:
        with self._lock:
            reasons = "; ".join(f"{m.name}: {m.reason or 'not tried'}" for m in self._members[:4])
        more = f"; and {len(self._members) - 4} more" if len(self._members) > 4 else ""
        if self._none_will_pass():
            return f"no Triton can be used: {reasons}{more}"
        return f"no Triton answered in {seconds:.0f} s of trying: {reasons}{more}"

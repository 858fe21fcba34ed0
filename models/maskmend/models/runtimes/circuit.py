"""A circuit breaker: who fails again and again is left alone for a while, then tried with one request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]

FAILURES = 3
"""Failures in a row that open a circuit."""
FIRST_REST = 0.25
LONGEST_REST = 2.0
"""Seconds without a request. A server that was restarted is found again after no more than this."""


class Circuit:
    """The circuit of one server. May be used from several threads.

    Closed, requests pass. After some failures in a row it opens, and none pass until it has rested; the rest doubles each
    time. Then it is half-open: one request passes, and closes the circuit or opens it again.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = 0.0
        self._until = 0.0
        self._probing = False

    @property
    def state(self) -> State:
        """What it is now."""
        with self._lock:
            return self._state()

    @property
    def opens_in(self) -> float:
        """Seconds until a request may pass, as far as is known: 0 if one may now."""
        with self._lock:
            if self._state() == "closed":
                return 0.0
            return FIRST_REST if self._probing else max(0.0, self._until - self._clock())

    def enter(self) -> bool:
        """Whether a request may pass; if so, `succeeded` or `failed` must follow."""
        with self._lock:
            state = self._state()
            if state == "half-open" and not self._probing:
                self._probing = True
                return True
            return state == "closed"

    def succeeded(self) -> None:
        """A request came back as it should."""
        with self._lock:
            self._failures, self._rest, self._probing = 0, 0.0, False

    def failed(self, *, at_once: bool = False) -> None:
        """A request did not. `at_once`: the next would not either, so that the circuit opens without waiting for more."""
        with self._lock:
            was_open = bool(self._rest)
            self._failures += 1
            if was_open and not self._probing:
                # Sent while the circuit was still closed: what it tells is known already.
                return
            if was_open or at_once or self._failures >= FAILURES:
                self._rest = min(LONGEST_REST, self._rest * 2 or FIRST_REST)
                self._until = self._clock() + self._rest
            self._probing = False

    def _state(self) -> State:
        if not self._rest:
            return "closed"
        return "half-open" if self._probing or self._clock() >= self._until else "open"

"""Who may begin, who waits, and who is sent away."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field

from maskmend.service.batcher import Ticket
from maskmend.service.errors import DeadlineError, OverloadedError, UnavailableError

_MEMORY = 0.1
"""Share of the newest request in the running mean of how long one takes."""


@dataclass(eq=False)
class _Waiter:
    large: bool
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """A bounded queue in front of a bounded number of requests at work. For one event loop.

    Large requests take at most half of the places, so that small ones never wait for several of them to end.

    Args:
        places: requests at work.
        queue: requests that may wait.
    """

    def __init__(self, places: int, queue: int) -> None:
        self._places, self._queue = places, queue
        self._large_places = max(1, places // 2)
        self._busy = self._busy_large = 0
        self._waiters: deque[_Waiter] = deque()
        self._mean_seconds = 0.0
        self.draining = False

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiters)

    @property
    def busy(self) -> int:
        """Requests at work."""
        return self._busy

    async def enter(self, ticket: Ticket, *, large: bool) -> None:
        """Wait for a place; `leave` must follow.

        Raises:
            DeadlineError: the ticket's time ran out first.
            OverloadedError: too many wait already, or they would keep this one past its deadline.
            UnavailableError: the service is stopping.
        """
        if self.draining:
            raise UnavailableError("the service is stopping; try again elsewhere", retry_after=5)
        # Whoever waits does so because there is no room for their kind: nobody is passed over here.
        if self._room(large):
            self._take(large)
            return
        expected = self.expected_wait()
        if len(self._waiters) >= self._queue or expected > ticket.left / 2:
            raise OverloadedError(
                f"{len(self._waiters)} requests wait already; try again in a while, or at another server",
                retry_after=max(1, min(60, math.ceil(expected))),
            )
        waiter = _Waiter(large)
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter.turn, None if ticket.left == float("inf") else max(0.0, ticket.left))
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.turn.done() and not waiter.turn.cancelled():
                # Its turn came in the very moment it gave up.
                self._free(large)
            if isinstance(error, TimeoutError):
                raise DeadlineError("the deadline passed while the request waited; allow more time") from None
            raise

    def leave(self, *, large: bool, began: float) -> None:
        """Give the place to the next one. `began`: `time.monotonic()` when the work began."""
        seconds = time.monotonic() - began
        self._mean_seconds += (seconds - self._mean_seconds) * (_MEMORY if self._mean_seconds else 1.0)
        self._free(large)

    def expected_wait(self) -> float:
        """Seconds until one who joins the queue now may begin, by how long requests took of late."""
        return self._mean_seconds * (len(self._waiters) + 1) / self._places

    def _room(self, large: bool) -> bool:
        return self._busy < self._places and not (large and self._busy_large >= self._large_places)

    def _take(self, large: bool) -> None:
        self._busy += 1
        self._busy_large += large

    def _free(self, large: bool) -> None:
        self._busy -= 1
        self._busy_large -= large
        for waiter in list(self._waiters):
            if self._room(waiter.large) and not waiter.turn.done():
                self._waiters.remove(waiter)
                self._take(waiter.large)
                waiter.turn.set_result(None)

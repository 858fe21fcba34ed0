"""Patches of many requests in common batches, on one thread of its own.

Requests wait here with the patches they need next. A batch takes patches from each of them in turn, a few at a time, so
that a small request is through after a batch or two, however many patches a huge one has brought.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import RuntimeUnavailableError
from maskmend.service.errors import CancelledError, DeadlineError, UnavailableError, network_error, out_of_memory

logger = logging.getLogger("maskmend.batcher")

Patches = NDArray[np.float32]
TURN = 8
"""Patches that one request gives to a batch before the next has its turn."""


class Ticket:
    """A request's right to go on.

    Args:
        deadline: `time.monotonic()` from which its work is worth nothing.
    """

    def __init__(self, deadline: float = float("inf")) -> None:
        self.deadline = deadline
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Give it up; whoever works on it stops at the next check."""
        self._cancelled.set()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Raise when there is no point in going on.

        Raises:
            CancelledError: the client went away.
            DeadlineError: the time is up.
        """
        if self._cancelled.is_set():
            raise CancelledError("the request was cancelled")
        if self.left <= 0:
            raise _late()


def _late() -> DeadlineError:
    return DeadlineError("the deadline of the request has passed; send fewer masks, or allow more time")


@dataclass(eq=False)
class _Order:
    """Patches of one call, and what has come back of them."""

    ticket: Ticket
    patches: Patches
    came: float
    answer: Future[Patches] = field(default_factory=Future)
    taken: int = 0
    done: set[int] = field(default_factory=set)
    out: Patches | None = None

    @property
    def waiting(self) -> int:
        return len(self.patches) - self.taken


@dataclass(frozen=True, slots=True)
class _Piece:
    """Patches [start, stop) of an order, in one batch."""

    order: _Order
    start: int
    stop: int

    @property
    def patches(self) -> Patches:
        return self.order.patches[self.start : self.stop]


class Batcher:
    """Runs a network on patches from many threads.

    Args:
        forward: from float32 [N, 4, S, S] to float32 [N, P, P]; called by the batcher's thread alone.
        max_batch: patches of one call at most.
        max_delay: seconds that an unfilled batch waits for more.
        observe: told the size of each batch.
    """

    def __init__(
        self,
        forward: Callable[[Patches], Patches],
        *,
        max_batch: int = 32,
        max_delay: float = 0.002,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self._forward, self._max_batch, self._max_delay = forward, max_batch, max_delay
        self._observe = observe or (lambda size: None)
        self._orders: deque[_Order] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="maskmend-batcher", daemon=True)
        self._thread.start()

    def run(self, patches: Patches, ticket: Ticket) -> Patches:
        """Probabilities of patches; waits for them.

        Args:
            patches: float32 [N, 4, S, S], N at least 1.
            ticket: of the request they belong to. Once it is cancelled or late, patches not yet begun are dropped.

        Raises:
            CancelledError: the ticket was cancelled.
            DeadlineError: its deadline passed.
            UnavailableError: the batcher was closed.
        """
        ticket.check()
        order = _Order(ticket, patches, time.monotonic())
        with self._change:
            if self._closed:
                raise UnavailableError("the service is stopping; try again elsewhere", retry_after=5)
            self._orders.append(order)
            self._change.notify()
        try:
            return order.answer.result(None if ticket.deadline == float("inf") else max(0.0, ticket.left))
        except TimeoutError:
            raise _late() from None

    @property
    def depth(self) -> int:
        """Patches that wait."""
        with self._change:
            return sum(order.waiting for order in self._orders)

    def drop(self, ticket: Ticket) -> None:
        """Forget the patches of a ticket that was cancelled."""
        with self._change:
            mine = [order for order in self._orders if order.ticket is ticket]
            for order in mine:
                self._orders.remove(order)
        for order in mine:
            _fail(order, CancelledError("the request was cancelled"))

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            pieces = self._next_batch()
            if pieces is None:
                return
            if pieces:
                self._observe(sum(len(piece.patches) for piece in pieces))
                self._run(pieces)

    def _next_batch(self) -> list[_Piece] | None:
        """Pieces for one call, possibly none; None when the batcher is closed and empty."""
        with self._change:
            while not self._orders:
                if self._closed:
                    return None
                self._change.wait()
            full = self._orders[0].came + self._max_delay
            while sum(order.waiting for order in self._orders) < self._max_batch and not self._closed:
                left = full - time.monotonic()
                if left <= 0:
                    break
                self._change.wait(left)
            late = [order for order in self._orders if order.ticket.left <= 0]
            for order in late:
                self._orders.remove(order)
            pieces = self._take()
        for order in late:
            _fail(order, _late())
        return pieces

    def _take(self) -> list[_Piece]:
        pieces: dict[int, _Piece] = {}
        room = self._max_batch
        while room and self._orders:
            order = self._orders.popleft()
            count = min(TURN, room, order.waiting)
            start = pieces[id(order)].start if id(order) in pieces else order.taken
            order.taken += count
            pieces[id(order)] = _Piece(order, start, order.taken)
            room -= count
            if order.waiting:
                self._orders.append(order)
        return list(pieces.values())

    def _run(self, pieces: list[_Piece]) -> None:
        try:
            out = self._forward(np.concatenate([piece.patches for piece in pieces]))
            start = 0
            for piece in pieces:
                count = piece.stop - piece.start
                _deliver(piece, out[start : start + count])
                start += count
        except Exception as error:
            self._run_again(pieces, error)

    def _run_again(self, pieces: list[_Piece], error: Exception) -> None:
        """Half as many patches where memory ran out; otherwise each request alone, so that only the guilty one fails."""
        if isinstance(error, RuntimeUnavailableError):
            # What failed is none of the requests, and each alone would wait in vain as long again.
            logger.warning("%s", error)
            for piece in pieces:
                self._abandon(piece.order, error)
        elif out_of_memory(error) and (halves := _halved(pieces)):
            logger.warning("out of memory with %d patches; trying half", sum(p.stop - p.start for p in pieces))
            for half in halves:
                self._run(half)
        elif len(pieces) > 1:
            for piece in pieces:
                self._run([piece])
        else:
            logger.error("the network failed on %d patches", pieces[0].stop - pieces[0].start, exc_info=error)
            self._abandon(pieces[0].order, error)

    def _abandon(self, order: _Order, error: Exception) -> None:
        with self._change:
            if order in self._orders:
                self._orders.remove(order)
        _fail(order, network_error(error))


def _halved(pieces: list[_Piece]) -> list[list[_Piece]]:
    """The same patches in two batches; empty when there is but one patch."""
    total = sum(piece.stop - piece.start for piece in pieces)
    if total < 2:
        return []
    halves: list[list[_Piece]] = [[], []]
    room = total // 2
    for piece in pieces:
        cut = min(piece.stop, piece.start + room)
        if cut > piece.start:
            halves[0].append(_Piece(piece.order, piece.start, cut))
            room -= cut - piece.start
        if cut < piece.stop:
            halves[1].append(_Piece(piece.order, cut, piece.stop))
    return halves


def _deliver(piece: _Piece, out: Patches) -> None:
    order = piece.order
    if order.answer.done():
        return
    if order.out is None:
        order.out = np.empty((len(order.patches), *out.shape[1:]), np.float32)
    order.out[piece.start : piece.stop] = out
    order.done.update(range(piece.start, piece.stop))
    if len(order.done) == len(order.patches):
        order.answer.set_result(order.out)


def _fail(order: _Order, error: Exception) -> None:
    if not order.answer.done():
        order.answer.set_exception(error)

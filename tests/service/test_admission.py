from __future__ import annotations

import asyncio
import time

import pytest

from maskmend.service.admission import Admission
from maskmend.service.batcher import Ticket
from maskmend.service.errors import DeadlineError, OverloadedError, UnavailableError


def soon(seconds: float = 30) -> Ticket:
    return Ticket(time.monotonic() + seconds)


def test_more_than_the_queue_holds_are_sent_away_and_told_when_to_come_again() -> None:
    async def story() -> None:
        admission = Admission(places=2, queue=3)
        for _ in range(2):
            await admission.enter(soon(), large=False)
        waiting = [asyncio.create_task(admission.enter(soon(), large=False)) for _ in range(3)]
        await asyncio.sleep(0)
        assert (admission.busy, admission.waiting) == (2, 3)
        with pytest.raises(OverloadedError) as caught:
            await admission.enter(soon(), large=False)
        assert caught.value.retry_after >= 1
        for _ in range(5):
            admission.leave(large=False, began=time.monotonic())
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert (admission.busy, admission.waiting) == (0, 0)

    asyncio.run(story())


def test_large_requests_leave_places_to_small_ones() -> None:
    async def story() -> None:
        admission = Admission(places=4, queue=10)
        for _ in range(2):
            await admission.enter(soon(), large=True)
        third = asyncio.create_task(admission.enter(soon(), large=True))
        await asyncio.sleep(0)
        small = asyncio.create_task(admission.enter(soon(), large=False))
        await asyncio.sleep(0)
        assert small.done()
        assert not third.done()
        admission.leave(large=True, began=time.monotonic())
        await asyncio.wait_for(third, 5)
        assert (admission.busy, admission.waiting) == (3, 0)

    asyncio.run(story())


def test_a_small_request_passes_a_large_one_that_waits_for_its_kind_of_place() -> None:
    async def story() -> None:
        admission = Admission(places=2, queue=10)
        await admission.enter(soon(), large=True)
        await admission.enter(soon(), large=False)
        large = asyncio.create_task(admission.enter(soon(), large=True))
        await asyncio.sleep(0)
        small = asyncio.create_task(admission.enter(soon(), large=False))
        await asyncio.sleep(0)
        admission.leave(large=False, began=time.monotonic())
        await asyncio.wait_for(small, 5)
        assert not large.done()
        large.cancel()

    asyncio.run(story())


def test_who_would_wait_past_the_deadline_is_told_at_once() -> None:
    async def story() -> None:
        admission = Admission(places=1, queue=100)
        await admission.enter(soon(), large=False)
        admission.leave(large=False, began=time.monotonic() - 10)
        await admission.enter(soon(), large=False)
        with pytest.raises(OverloadedError):
            await admission.enter(soon(5), large=False)

    asyncio.run(story())


def test_who_waited_past_the_deadline_leaves_no_trace() -> None:
    async def story() -> None:
        admission = Admission(places=1, queue=100)
        await admission.enter(soon(), large=False)
        with pytest.raises(DeadlineError):
            await admission.enter(soon(0.05), large=False)
        cancelled = asyncio.create_task(admission.enter(soon(), large=False))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert (admission.busy, admission.waiting) == (1, 0)
        admission.leave(large=False, began=time.monotonic())
        assert admission.busy == 0

    asyncio.run(story())


def test_nobody_enters_while_it_drains() -> None:
    async def story() -> None:
        admission = Admission(places=1, queue=1)
        admission.draining = True
        with pytest.raises(UnavailableError):
            await admission.enter(soon(), large=False)

    asyncio.run(story())

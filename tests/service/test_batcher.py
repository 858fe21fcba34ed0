from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.service.batcher import TURN, Batcher, Ticket
from maskmend.service.errors import CancelledError, DeadlineError, ServiceError, UnavailableError


def patches(values: list[int]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 4, 2, 2), np.float32)


def doubled(batch: np.ndarray) -> np.ndarray:
    return 2 * batch[:, 0]


class Network:
    """Doubles, notes the batches, and can be held up."""

    def __init__(self, fails: Callable[[np.ndarray], Exception | None] = lambda batch: None) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.fails = fails

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.go.wait(20)
        self.batches.append(batch[:, 0, 0, 0].astype(int).tolist())
        if (error := self.fails(batch)) is not None:
            raise error
        return doubled(batch)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(1, 40))
def test_everyone_gets_the_results_of_their_own_patches(sizes: list[int], max_batch: int) -> None:
    network = Network()
    batcher = Batcher(network, max_batch=max_batch, max_delay=0.001)
    orders = [patches([1000 * n + i for i in range(size)]) for n, size in enumerate(sizes)]
    with ThreadPoolExecutor(len(orders)) as threads:
        results = list(threads.map(lambda order: batcher.run(order, Ticket()), orders))
    batcher.close()
    for order, result in zip(orders, results, strict=True):
        assert np.array_equal(result, doubled(order))
    assert max(map(len, network.batches)) <= max_batch
    assert sum(map(len, network.batches)) == sum(sizes)


def test_a_small_request_does_not_wait_for_a_huge_one() -> None:
    network = Network()
    network.go.clear()
    batcher = Batcher(network, max_batch=16, max_delay=0)
    with ThreadPoolExecutor(2) as threads:
        huge = threads.submit(batcher.run, patches([1] * 1000), Ticket())
        while not batcher.depth or batcher.depth == 1000:
            time.sleep(0.005)
        small = threads.submit(batcher.run, patches([2] * 4), Ticket())
        while batcher.depth < 988:
            time.sleep(0.005)
        network.go.set()
        small.result(20)
        huge.result(20)
    first = next(n for n, batch in enumerate(network.batches) if 2 in batch)
    assert first <= 1
    assert network.batches[first].count(1) >= TURN
    batcher.close()


def test_an_unfilled_batch_waits_for_company_but_not_for_long() -> None:
    network = Network()
    batcher = Batcher(network, max_batch=8, max_delay=0.3)
    with ThreadPoolExecutor(2) as threads:
        began = time.monotonic()
        list(threads.map(lambda n: batcher.run(patches([n]), Ticket()), (1, 2)))
        assert time.monotonic() - began < 5
    batcher.close()
    assert sorted(network.batches[0]) == [1, 2]


def test_a_cancelled_request_gives_its_place_up() -> None:
    network = Network()
    network.go.clear()
    batcher = Batcher(network, max_batch=4, max_delay=0)
    ticket = Ticket()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(batcher.run, patches(list(range(40))), ticket)
        while batcher.depth != 36:
            time.sleep(0.005)
        ticket.cancel()
        batcher.drop(ticket)
        with pytest.raises(CancelledError):
            waiting.result(20)
        assert batcher.depth == 0
        network.go.set()
    with pytest.raises(CancelledError):
        batcher.run(patches([1]), ticket)
    batcher.close()
    assert len(network.batches) == 1


def test_a_late_request_is_dropped() -> None:
    network = Network()
    network.go.clear()
    batcher = Batcher(network, max_batch=4, max_delay=0)
    with pytest.raises(DeadlineError):
        batcher.run(patches(list(range(40))), Ticket(time.monotonic() + 0.1))
    network.go.set()
    assert np.array_equal(batcher.run(patches([7]), Ticket()), doubled(patches([7])))
    batcher.close()
    assert len(network.batches) <= 3
    with pytest.raises(DeadlineError):
        batcher.run(patches([1]), Ticket(time.monotonic() - 1))


def test_out_of_memory_splits_the_batch() -> None:
    network = Network(lambda batch: MemoryError() if len(batch) > 3 else None)
    batcher = Batcher(network, max_batch=16, max_delay=0)
    order = patches(list(range(40)))
    assert np.array_equal(batcher.run(order, Ticket()), doubled(order))
    batcher.close()
    network = Network(lambda batch: RuntimeError("CUDA out of memory"))
    batcher = Batcher(network, max_batch=16, max_delay=0)
    with pytest.raises(UnavailableError, match="memory"):
        batcher.run(order, Ticket())
    batcher.close()


def test_a_request_that_breaks_the_network_fails_alone() -> None:
    network = Network(lambda batch: ValueError("13") if (batch == 13).any() else None)
    network.go.clear()
    batcher = Batcher(network, max_batch=32, max_delay=0.2)
    with ThreadPoolExecutor(5) as threads:
        calls = [threads.submit(batcher.run, patches([10 + n]), Ticket()) for n in range(5)]
        time.sleep(0.1)
        network.go.set()
        for n, call in enumerate(calls):
            if n == 3:
                with pytest.raises(ServiceError):
                    call.result(20)
            else:
                assert call.result(20)[0, 0, 0] == 2 * (10 + n)
    assert np.array_equal(batcher.run(patches([1]), Ticket()), doubled(patches([1])))
    batcher.close()


def test_a_closed_batcher_finishes_what_waits_and_takes_nothing_new() -> None:
    network = Network()
    network.go.clear()
    batcher = Batcher(network, max_batch=4, max_delay=0)
    with ThreadPoolExecutor(2) as threads:
        order = patches(list(range(20)))
        waiting = threads.submit(batcher.run, order, Ticket())
        while not batcher.depth:
            time.sleep(0.005)
        closing = threads.submit(batcher.close)
        network.go.set()
        assert np.array_equal(waiting.result(20), doubled(order))
        closing.result(20)
    with pytest.raises(UnavailableError):
        batcher.run(patches([1]), Ticket())

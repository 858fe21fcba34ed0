"""Micro-batches on several threads, each of them whole on one.

A library that splits one convolution over its threads may add up in another order when there is one thread more: ONNX
Runtime and PyTorch were both seen to differ in the last bits. So the libraries get one thread per call, and the threads
of a refiner take whole micro-batches. The result cannot depend on how many there are; it is also faster, as nobody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from maskmend.patcher.errors import RuntimeUnavailableError

Batch = NDArray[np.float32]

# More gains under 10 % (it hides the cost of a call), and leaves cores idle where a small instance has few patches.
MICRO_BATCH = 4
_MOST_THREADS = 16


def available_threads() -> int:
    """Cores this process may use, at most 16: more than that the engine's batches do not fill."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


class Pool:
    """Threads that run a network on micro-batches.

    It keeps no hold of what it runs: a runtime that owns a pool is freed when it is dropped, not by a later collection.

    Args:
        threads: how many.
        prepare: called once in each thread.
        micro: patches of a micro-batch, always the same for a network.
        part: patches that one call takes at most, a multiple of `micro`; None for one micro-batch.
    """

    def __init__(
        self,
        threads: int,
        prepare: Callable[[], None] | None = None,
        *,
        micro: int = MICRO_BATCH,
        part: int | None = None,
    ) -> None:
        self._micro, self._part = micro, part or micro
        self._workers = ThreadPoolExecutor(threads, "maskmend-network", initializer=prepare)
        self._process = os.getpid()

    def run(self, run_part: Callable[[Batch], Batch], batch: Batch) -> Batch:
        """Run a network on a batch.

        Args:
            run_part: from float32 [B, 4, S, S] to float32 [B, P, P], B whole micro-batches; called from several threads.
            batch: float32 [N, 4, S, S], N at least 1.

        Returns:
            float32 [N, P, P] in the order of the batch.

        Raises:
            RuntimeUnavailableError: in a forked copy of the process that made the pool.
        """
        if os.getpid() != self._process:
            # The threads stayed behind: it would wait for ever.
            raise RuntimeUnavailableError(
                "the refiner was loaded before this process was forked; load it in here, or use spawn", field="runtime"
            )
        return np.concatenate(list(self._workers.map(run_part, _parts(batch, self._micro, self._part))))[: len(batch)]


def _parts(batch: Batch, micro: int, most: int) -> list[Batch]:
    """Cut a batch into whole micro-batches, as many together as make `most`."""
    parts, together = micro_batches(batch, micro), most // micro
    if together == 1:
        return parts
    return [np.concatenate(parts[start : start + together]) for start in range(0, len(parts), together)]


def micro_batches(batch: Batch, size: int) -> list[Batch]:
    """Cut a batch [N, 4, S, S] into parts of exactly `size`, the last one filled up with zeros."""
    parts = [batch[start : start + size] for start in range(0, len(batch), size)]
    if parts and len(parts[-1]) < size:
        filled = np.zeros((size, *batch.shape[1:]), np.float32)
        filled[: len(parts[-1])] = parts[-1]
        parts[-1] = filled
    return [np.ascontiguousarray(part) for part in parts]

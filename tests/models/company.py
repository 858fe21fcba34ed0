"""Whether a patch comes out the same, bit for bit, whatever patches it is run with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskmend.models.runtimes.pool import MICRO_BATCH

COUNT = 2 * MICRO_BATCH + 3
"""Patches that fill some micro-batches and leave a tail."""


def check_any_company(
    run: Callable[[np.ndarray], np.ndarray], patches: np.ndarray, company: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Run patches together, in pieces, in another order, and the first in every place among others.

    Args:
        run: of a runtime.
        patches: float32 [COUNT, 4, S, S].
        company: another micro-batch of such patches, by a number.

    Returns:
        What `run` gives for all of them together.
    """
    assert len(patches) == COUNT
    together = run(patches)
    pieces = np.concatenate([run(patches[i : i + 3]) for i in range(0, len(patches), 3)])
    assert together.tobytes() == pieces.tobytes()
    order = np.random.default_rng(2).permutation(len(patches))
    assert run(patches[order]).tobytes() == together[order].tobytes()
    for place in range(MICRO_BATCH):
        others = company(place)
        others[place] = patches[0]
        assert run(others)[place].tobytes() == together[0].tobytes()
    return together

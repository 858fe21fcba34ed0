"""Whether a patch comes out the same, bit for bit, whatever patches it is run with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskmend.models.runtimes.pool import MICRO_BATCH


def some(batch: int = MICRO_BATCH) -> int:
    """How many patches fill some micro-batches and leave a tail."""
    return 2 * batch + 3


def check_any_company(
    run: Callable[[np.ndarray], np.ndarray],
    patches: np.ndarray,
    company: Callable[[int], np.ndarray],
    batch: int = MICRO_BATCH,
) -> np.ndarray:
    """Run patches together, in pieces, in another order, and the first in every place among others.

    Args:
        run: of a runtime.
        patches: float32 [some(batch), 4, S, S].
        company: another micro-batch of such patches, by a number.
        batch: patches of a micro-batch.

    Returns:
        What `run` gives for all of them together.
    """
    assert len(patches) == some(batch)
    together = run(patches)
    pieces = np.concatenate([run(patches[i : i + 3]) for i in range(0, len(patches), 3)])
    assert together.tobytes() == pieces.tobytes()
    order = np.random.default_rng(2).permutation(len(patches))
    assert run(patches[order]).tobytes() == together[order].tobytes()
    for place in range(batch):
        others = company(place)
        others[place] = patches[0]
        assert run(others)[place].tobytes() == together[0].tobytes()
    return together

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.patcher import Rle
from maskmend.patcher.displacement import max_displacement


def plain(coarse: np.ndarray, refined: np.ndarray) -> float:
    inside, outside = np.argwhere(coarse), np.argwhere(~coarse)
    farthest = 0.0
    for pixel in np.argwhere(coarse != refined):
        others = outside if coarse[tuple(pixel)] else inside
        if not len(others):
            return float(np.hypot(*coarse.shape))
        farthest = max(farthest, float(np.sqrt(((others - pixel) ** 2).sum(1).min())))
    return farthest


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 12))
def test_it_is_the_farthest_of_all_distances(data: st.DataObject, height: int, width: int) -> None:
    coarse, refined = (data.draw(arrays(bool, (height, width))) for _ in range(2))
    found = max_displacement(Rle.from_dense(coarse), Rle.from_dense(refined))
    assert found == pytest.approx(plain(coarse, refined), abs=1e-3)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maskmend.patcher import Rle
from maskmend.patcher.arbitrate import arbitrate, companies
from maskmend.patcher.errors import OptionError


def plain(coarse: list[np.ndarray], refined: list[np.ndarray], confidence: list[float]) -> list[np.ndarray]:
    """Pixel by pixel and pair by pair, from the refined masks as they came."""
    out = [mask.copy() for mask in refined]
    for a in range(len(refined)):
        for b in range(a + 1, len(refined)):
            for y, x in zip(*np.nonzero(refined[a] & refined[b]), strict=True):
                had_a, had_b = coarse[a][y, x], coarse[b][y, x]
                if had_a and had_b:
                    continue
                a_wins = had_a if had_a != had_b else confidence[a] >= confidence[b]
                out[b if a_wins else a][y, x] = False
    for n, mask in enumerate(out):
        if not np.array_equal(mask, refined[n]):
            labels, _ = ndimage.label(mask, np.ones((3, 3)))
            out[n] = mask & np.isin(labels, np.unique(labels[coarse[n] & mask]))
    return out


masks = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        st.lists(arrays(np.bool_, (9, 11)), min_size=n, max_size=n),
        st.lists(arrays(np.bool_, (9, 11)), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=n, max_size=n),
    )
)


@settings(max_examples=150, deadline=None)
@given(masks)
def test_parity_and_what_it_promises(case: tuple[list[np.ndarray], list[np.ndarray], list[float]]) -> None:
    coarse, refined, confidence = case
    found = arbitrate([Rle.from_dense(m) for m in coarse], [Rle.from_dense(m) for m in refined], confidence)
    dense = [mask.to_dense() for mask in found]
    for one, other in zip(dense, plain(coarse, refined, confidence), strict=True):
        assert np.array_equal(one, other)
    for a in range(len(dense)):
        assert (dense[a] >= (refined[a] & coarse[a])).all(), "an instance lost a pixel of its own coarse mask"
        for b in range(a + 1, len(dense)):
            assert not (dense[a] & dense[b] & ~(coarse[a] & coarse[b])).any()


def test_masks_that_lose_nothing_are_returned_as_they_are() -> None:
    left, right = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    left[:, :4], right[:, 5:] = True, True
    coarse = [Rle.from_dense(left), Rle.from_dense(right)]
    grown = left.copy()
    grown[:, 4] = True
    refined = [Rle.from_dense(grown), coarse[1]]
    found = arbitrate(coarse, refined, [0.5, 0.5])
    assert found[0] is refined[0]
    assert found[1] is coarse[1]


def test_what_two_coarse_masks_shared_stays_shared() -> None:
    whole, part = np.ones((6, 8), bool), np.zeros((6, 8), bool)
    part[2:4, 2:5] = True
    coarse = [Rle.from_dense(whole), Rle.from_dense(part)]
    smaller = part.copy()
    smaller[2, 2] = False
    refined = [coarse[0], Rle.from_dense(smaller)]
    assert arbitrate(coarse, refined, [0.1, 0.9]) == refined


def test_lengths_must_agree() -> None:
    mask = Rle.from_dense(np.ones((2, 2), bool))
    with pytest.raises(OptionError, match="as many of each"):
        arbitrate([mask], [mask, mask], [0.5])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 12), st.integers(1, 12)), max_size=9),
    st.integers(0, 6),
)
def test_companies_are_those_linked_by_boxes_that_overlap_once_grown(
    boxes: list[tuple[int, int, int, int]], reach: int
) -> None:
    linked = {n: {n} for n in range(len(boxes))}
    for a, (ax, ay, aw, ah) in enumerate(boxes):
        for b, (bx, by, bw, bh) in enumerate(boxes):
            apart_x = ax + aw + reach <= bx - reach or bx + bw + reach <= ax - reach
            apart_y = ay + ah + reach <= by - reach or by + bh + reach <= ay - reach
            if not apart_x and not apart_y:
                linked[a].add(b)
    for _ in boxes:
        linked = {n: set().union(*(linked[m] for m in known)) for n, known in linked.items()}
    assert companies(boxes, reach) == [sorted(linked[n]) for n in range(len(boxes))]

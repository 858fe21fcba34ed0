from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskmend.clients.formats.base import Instance, Picture, Policies
from maskmend.clients.formats.paint import owners, repaint, resized, separated
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError

SHAPE = (8, 10)
MASKS = st.lists(arrays(bool, SHAPE), min_size=1, max_size=4)


@settings(deadline=None)
@given(MASKS, st.sampled_from(["first", "last", "smallest"]))
def test_each_pixel_goes_to_whom_the_policy_says(dense: list[np.ndarray], policy: str) -> None:
    masks = [Rle.from_dense(d) for d in dense]
    got = owners(masks, *SHAPE, policy, "a.jpg")  # type: ignore[arg-type]
    for y, x in np.ndindex(SHAPE):
        wanting = [n for n, d in enumerate(dense) if d[y, x]]
        key = {"first": lambda n: n, "last": lambda n: -n, "smallest": lambda n: (dense[n].sum(), n)}[policy]
        assert got[y, x] == (min(wanting, key=key) if wanting else -1)


@settings(deadline=None)
@given(MASKS)
def test_error_is_raised_just_when_a_pixel_is_shared(dense: list[np.ndarray]) -> None:
    masks = [Rle.from_dense(d) for d in dense]
    if (np.sum(dense, 0) > 1).any():
        with pytest.raises(JobError, match=r"a\.jpg.*--overlaps") as caught:
            owners(masks, *SHAPE, "error", "a.jpg")
        assert caught.value.field == "overlaps"
    else:
        owners(masks, *SHAPE, "error", "a.jpg")


@settings(deadline=None)
@given(MASKS)
def test_separated_masks_share_nothing_and_lose_nothing(dense: list[np.ndarray]) -> None:
    picture = Picture("a.jpg", *SHAPE, [(Instance("a"), Rle.from_dense(d)) for d in dense])
    apart = [mask.to_dense() for _, mask in separated(picture, Policies(overlaps="smallest")).instances]
    assert (np.sum(apart, 0) <= 1).all()
    assert np.array_equal(np.any(apart, 0), np.any(dense, 0))
    assert all(not (a & ~d).any() for a, d in zip(apart, dense, strict=True))


@settings(deadline=None, max_examples=200)
@given(
    arrays(np.int32, SHAPE, elements=st.integers(0, 6)),
    st.dictionaries(st.sampled_from([1, 2, 3]), arrays(bool, SHAPE), min_size=1),
    st.sampled_from(["first", "last", "smallest"]),
)
def test_a_repainted_picture_keeps_all_values_and_only_things_decide(
    values: np.ndarray, changed: dict[int, np.ndarray], policy: str
) -> None:
    """Things 1 to 3, a crowd 4, stuff 5 and 6."""
    things = [v for v in (1, 2, 3) if (values == v).any()]
    new = {v: Rle.from_dense(d) for v, d in changed.items() if v in things}
    made = repaint(values, things, new, fixed=[4], policy=policy, where="a.jpg")  # type: ignore[arg-type]
    assert set(np.unique(values)) - {0} <= set(np.unique(made.values)) <= set(np.unique(values)) | {0}
    assert np.array_equal(made.values == 4, values == 4)
    for v in things:
        mine = made.values == v
        asked = new[v].to_dense() if v in new else values == v
        # A pixel that it did not ask for it can only have back, because it would have vanished.
        assert not (mine & ~asked & (values != v)).any()
    assert not np.isin(made.values[made.vacated], [1, 2, 3, 4]).any()
    assert len(made.nearest) == made.vacated.sum()
    known = made.nearest >= 0
    assert np.array_equal(values.ravel()[made.nearest[known]], made.values[made.vacated][known])
    untouched = ~np.any([new[v].to_dense() | (values == v) for v in new] or [np.zeros(SHAPE, bool)], 0)
    assert np.array_equal(made.values[untouched], values[untouched])


@settings(deadline=None)
@given(arrays(np.int32, SHAPE, elements=st.integers(0, 6)))
def test_its_own_masks_leave_a_picture_as_it_is(values: np.ndarray) -> None:
    things = [v for v in (1, 2, 3) if (values == v).any()]
    same = {v: Rle.from_dense(values == v) for v in things}
    made = repaint(values, things, same, fixed=[4], policy="error", where="a.jpg")
    assert np.array_equal(made.values, values)


def test_a_picture_twice_as_large_has_each_pixel_four_times() -> None:
    values = np.arange(12).reshape(3, 4)
    assert np.array_equal(resized(values, 6, 8), values.repeat(2, 0).repeat(2, 1))
    assert resized(values, 3, 4) is values

"""Real `Detections` of supervision."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("supervision", reason="needs the package supervision")

import supervision as sv
from adapters.shapes import box, dense, others, read, stacks
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.clients.adapters import like, masks_of
from maskmend.patcher.errors import MaskError


def detections(stack: np.ndarray, tracked: bool = True) -> sv.Detections:
    count = len(stack)
    return sv.Detections(
        xyxy=np.array([[0.5, 1, 2, 3]] * count, np.float32).reshape(-1, 4),
        mask=stack,
        confidence=np.linspace(0.1, 0.9, count, dtype=np.float32),
        class_id=np.arange(count),
        tracker_id=np.arange(count) + 40 if tracked else None,
        data={"class_name": np.array([f"c{n}" for n in range(count)])},
        metadata={"source": "a camera"},
    )


@settings(deadline=None)
@given(stacks(), st.booleans())
def test_all_but_masks_and_boxes_is_kept(stack: np.ndarray, tracked: bool) -> None:
    value = detections(stack, tracked)
    height, width = stack.shape[1:]
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    made = like(value, refined)
    assert type(made) is sv.Detections
    assert np.array_equal(made.mask, dense(refined, height, width))
    assert made.mask.dtype == bool
    for name in ("confidence", "class_id", "tracker_id"):
        assert np.array_equal(getattr(made, name), getattr(value, name))
    assert made.data["class_name"].tolist() == value.data["class_name"].tolist()
    assert made.metadata == value.metadata
    for mask, row, old in zip(made.mask, made.xyxy, value.xyxy, strict=True):
        assert row.tolist() == (box(mask) if mask.any() else old.tolist())
    made.data["more"] = np.arange(len(stack))
    assert "more" not in value.data
    # It can still be filtered and joined, which checks its fields against each other.
    assert len(made[np.ones(len(made), bool)]) == len(stack)


@settings(deadline=None)
@given(stacks(1))
def test_compact_masks_stay_compact(stack: np.ndarray) -> None:
    compact = pytest.importorskip("supervision.detection.compact_mask", reason="supervision without compact masks")
    count, height, width = stack.shape
    boxes = np.array([[0, 0, width - 1, height - 1]] * count, np.float64)
    value = detections(stack)
    value.mask = compact.CompactMask.from_dense(stack, boxes, (height, width))
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    made = like(value, refined)
    assert type(made.mask) is compact.CompactMask
    assert np.array_equal(np.asarray(made.mask), dense(refined, height, width))


def test_no_detections_and_no_masks() -> None:
    empty = sv.Detections.empty()
    assert masks_of(empty) == []
    assert like(empty, []).is_empty()
    boxes_only = sv.Detections(xyxy=np.array([[0, 0, 2, 2.0]]))
    with pytest.raises(MaskError, match="boxes only"):
        masks_of(boxes_only)

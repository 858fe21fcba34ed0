"""`Instances`, as Detectron2 documents it; the library itself is on no package registry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="Detectron2's classes hold tensors: the train extra")

import torch
from adapters.detectron2_like import BitMasks, Boxes, Instances, PolygonMasks, ROIMasks
from adapters.shapes import box, dense, others, polygon, read, stacks

from maskmend.clients.adapters import like, masks_of
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError
from maskmend.patcher.outlines import outlines


def boxes(count: int) -> Boxes:
    return Boxes(torch.tensor([[0.5, 1, 2, 3]] * count).reshape(-1, 4))


@settings(deadline=None)
@given(stacks(), st.sampled_from(["tensor", "BitMasks"]))
def test_predictions(stack: np.ndarray, kind: str) -> None:
    tensor = torch.from_numpy(stack)
    height, width = stack.shape[1:]
    value = Instances(
        (height, width),
        pred_boxes=boxes(len(stack)),
        scores=torch.rand(len(stack)),
        pred_classes=torch.arange(len(stack)),
        pred_masks=tensor if kind == "tensor" else BitMasks(tensor),
    )
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    output = like({"instances": value, "more": 1}, refined)
    made = output["instances"]
    assert output["more"] == 1
    assert np.array_equal(like(value, refined).scores, made.scores)
    assert type(made) is Instances
    assert list(made.get_fields()) == list(value.get_fields())
    assert type(made.pred_masks) is type(value.pred_masks)
    masks = made.pred_masks if kind == "tensor" else made.pred_masks.tensor
    assert (masks.dtype, masks.device) == (torch.bool, tensor.device)
    assert np.array_equal(masks.numpy(), dense(refined, height, width))
    assert made.scores is value.scores
    assert made.pred_classes is value.pred_classes
    rows = zip(masks.numpy(), made.pred_boxes.tensor, value.pred_boxes.tensor, strict=True)
    for mask, row, old in rows:
        assert row.tolist() == (box(mask) if mask.any() else old.tolist())


@settings(deadline=None)
@given(stacks(1))
def test_ground_truth_polygons(stack: np.ndarray) -> None:
    height, width = stack.shape[1:]
    parts = [outlines(Rle.from_dense(mask)) for mask in stack if mask.any()]
    if not parts:
        return
    full = np.stack([mask for mask in stack if mask.any()])
    value = Instances(
        (height, width), gt_masks=PolygonMasks(parts), gt_boxes=boxes(len(parts)), gt_ids=list(range(len(parts)))
    )
    assert np.array_equal(read(masks_of(value), height, width), full)
    refined = others(full)
    made = like(value, refined)
    again = np.stack([polygon(polygons, height, width) for polygons in made.gt_masks.polygons])
    assert np.array_equal(again, dense(refined, height, width))
    assert made.gt_ids == value.gt_ids
    assert type(made.gt_masks) is PolygonMasks


def test_rotated_boxes_are_left_alone() -> None:
    rotated = Boxes(torch.zeros(0, 4))
    rotated.tensor = torch.tensor([[3.0, 3, 2, 2, 45]])
    value = Instances((6, 6), pred_boxes=rotated, pred_masks=torch.ones(1, 6, 6, dtype=torch.bool))
    assert like(value, [Rle.from_dense(np.eye(6, dtype=bool)).to_coco()]).pred_boxes is rotated


def test_what_is_refused() -> None:
    small = torch.zeros(1, 28, 28, dtype=torch.bool)
    with pytest.raises(MaskError, match="detector_postprocess"):
        masks_of(Instances((60, 80), pred_masks=ROIMasks(small)))
    with pytest.raises(MaskError, match="detector_postprocess"):
        masks_of(Instances((60, 80), pred_masks=torch.rand(1, 1, 28, 28)))
    with pytest.raises(MaskError, match="neither pred_masks nor gt_masks"):
        masks_of(Instances((60, 80), scores=torch.zeros(1)))

"""Dicts of torchvision's detection models, and tensors."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="tensors: the train extra")

import torch
from adapters.shapes import box, dense, others, read, stacks

from maskmend.clients.adapters import like, masks_of


@settings(deadline=None)
@given(stacks(), st.integers(0, 99))
def test_a_detection(stack: np.ndarray, seed: int) -> None:
    height, width = stack.shape[1:]
    chance = torch.from_numpy(stack.astype(np.float32))[:, None] * 0.4 + 0.3
    value = OrderedDict(
        boxes=torch.tensor([[0.5, 1, 2, 3]] * len(stack)).reshape(-1, 4),
        labels=torch.arange(len(stack)),
        scores=torch.rand(len(stack), generator=torch.Generator().manual_seed(seed)),
        masks=chance.requires_grad_(),
    )
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    made = like(value, refined)
    assert type(made) is OrderedDict
    assert list(made) == list(value)
    assert made["labels"] is value["labels"]
    assert made["scores"] is value["scores"]
    assert (made["masks"].dtype, made["masks"].shape) == (torch.float32, chance.shape)
    wanted = dense(refined, height, width)
    assert np.array_equal(made["masks"][:, 0].numpy(), wanted)
    for mask, row, old in zip(wanted, made["boxes"], value["boxes"], strict=True):
        assert row.tolist() == (box(mask) if mask.any() else old.tolist())
    (listed,) = like([value], refined)
    assert torch.equal(listed["masks"], made["masks"])


@settings(deadline=None)
@given(stacks(1), st.sampled_from(["bool", "uint8", "float32", "float16", "bfloat16"]))
def test_tensors_keep_dtype_and_device(stack: np.ndarray, name: str) -> None:
    dtype = getattr(torch, name)
    height, width = stack.shape[1:]
    value = torch.from_numpy(stack).to(dtype)
    assert np.array_equal(read(masks_of(value), height, width), stack)
    assert np.array_equal(read(masks_of(list(value)), height, width), stack)
    made = like(value, others(stack))
    assert (made.dtype, made.device, made.shape) == (dtype, value.device, value.shape)
    assert np.array_equal(made.float().numpy() > 0, dense(others(stack), height, width))
    assert all(part.dtype == dtype for part in like(list(value), others(stack)))


def test_lists_of_masks_in_a_dict() -> None:
    """As Transformers' mask generation gives them."""
    masks = [np.eye(5, dtype=bool), np.ones((5, 5), bool)]
    value = {"masks": masks, "scores": torch.ones(2)}
    assert np.array_equal(read(masks_of(value), 5, 5), np.stack(masks))
    made = like(value, others(np.stack(masks)))
    assert isinstance(made["masks"], list)
    assert np.array_equal(np.stack(made["masks"]), dense(others(np.stack(masks)), 5, 5))


def test_a_real_model() -> None:
    """Mask R-CNN with random weights: the real heads, and the real way its masks come to the size of the image."""
    try:
        from torchvision.models.detection import maskrcnn_resnet50_fpn
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs a torchvision that fits torch: {type(error).__name__}")
    torch.manual_seed(1)
    few = {"rpn_post_nms_top_n_test": 30, "rpn_pre_nms_top_n_test": 30, "box_detections_per_img": 6, "min_size": 96}
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0, **few)
    with torch.no_grad():
        output = model.eval()([torch.rand(3, 70, 90)])
    detection = output[0]
    assert len(detection["masks"])
    found = masks_of(output)
    assert np.array_equal(read(found, 70, 90), detection["masks"][:, 0].numpy() > 0.5)
    refined = others(read(found, 70, 90))
    (made,) = like(output, refined)
    assert np.array_equal(made["masks"][:, 0].numpy(), dense(refined, 70, 90))
    assert torch.equal(made["scores"], detection["scores"])
    assert made["boxes"].shape == detection["boxes"].shape

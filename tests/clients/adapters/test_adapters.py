"""Arrays, lists and records; what is known and what is refused."""

from __future__ import annotations

import copy
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters.shapes import box, dense, others, polygon, read, stacks
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.clients.adapters import like, masks_of
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError

MASK = np.zeros((6, 9), bool)
MASK[1:4, 2:7] = True
OTHER = np.roll(MASK, 1, 1)
RLE = Rle.from_dense(OTHER).to_coco()


@settings(deadline=None)
@given(stacks(), st.sampled_from(["bool", "uint8", "255", "float32", "four axes"]))
def test_arrays_come_back_in_their_form(stack: np.ndarray, form: str) -> None:
    value = {
        "bool": stack,
        "uint8": stack.astype(np.uint8),
        "255": stack * np.uint8(255),
        "float32": stack.astype(np.float32),
        "four axes": stack.astype(np.float32)[:, None],
    }[form]
    before = value.copy()
    height, width = stack.shape[1:]
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    made = like(value, refined)
    assert (made.dtype, made.shape) == (value.dtype, value.shape)
    assert np.array_equal(made.reshape(stack.shape) > 0, dense(refined, height, width))
    assert np.array_equal(value, before)
    if form == "255" and stack.any():
        assert set(np.unique(made)) <= {0, 255}
    again = like(value, [Rle.from_dense(mask).to_coco() for mask in stack])
    assert np.array_equal(again, value)


def test_one_mask_is_a_list_of_one() -> None:
    assert np.array_equal(read(masks_of(MASK), 6, 9)[0], MASK)
    assert np.array_equal(like(MASK, [RLE]), OTHER)
    assert like(Rle.from_dense(MASK), [RLE]) == Rle.from_dense(OTHER)
    assert like({"segmentation": MASK, "id": 3}, [RLE])["id"] == 3


def test_probabilities_are_cut_at_one_half_and_logits_refused() -> None:
    assert read(masks_of(np.array([[[0.2, 0.5, 0.51]]])), 1, 3).tolist() == [[[False, False, True]]]
    for wrong in (np.array([[[-3.0, 4.0]]]), np.array([[[np.nan, 0.0]]])):
        with pytest.raises(MaskError, match="logits"):
            masks_of(wrong)


def records() -> dict[str, Any]:
    rle = Rle.from_dense(MASK)
    coco = rle.to_coco()
    return {
        "text": coco,
        "bytes": {**coco, "counts": coco["counts"].encode()},
        "runs": {**coco, "counts": rle.counts.tolist()},
        "run array": {**coco, "counts": rle.counts.astype(np.int64)},
        "Rle": rle,
        "array": MASK,
        "polygons": [[2.0, 1.0, 7.0, 1.0, 7.0, 4.0, 2.0, 4.0]],
        "SAM": {
            "segmentation": MASK,
            "area": 15,
            "bbox": [2, 1, 5, 3],
            "predicted_iou": 0.93,
            "point_coords": [[3.5, 2.5]],
            "stability_score": 0.96,
            "crop_box": [0, 0, 9, 6],
        },
        "SAM with RLE": {"segmentation": coco, "area": 15, "bbox": [2, 1, 5, 3]},
        "COCO record": {"segmentation": coco, "bbox": [2.0, 1.0, 5.0, 3.0], "area": 15.0, "score": 0.5, "id": 7},
        "corners": {"segmentation": coco, "bbox": np.array([2.0, 1.0, 7.0, 4.0]), "bbox_mode": 0},
        "pipeline": {"mask": MASK * np.uint8(255), "label": "cat", "score": 0.5},
    }


@pytest.mark.parametrize("form", list(records()))
def test_a_list_of_each_form(form: str) -> None:
    item = records()[form]
    before = copy.deepcopy(item)
    assert np.array_equal(read(masks_of([item]), 6, 9)[0], MASK)
    (made,) = like([item], [RLE])
    assert type(made) is type(item)
    assert np.array_equal(read(masks_of([made]), 6, 9)[0], OTHER)
    if isinstance(item, dict):
        assert list(made) == list(item)
        assert {key: type(value) for key, value in made.items()} == {key: type(value) for key, value in item.items()}
        kept = set(item) - {"segmentation", "mask", "counts", "bbox", "area"}
        assert {key: made[key] for key in kept} == {key: item[key] for key in kept}
    if "bbox" in (item if isinstance(item, dict) else {}):
        assert list(made["bbox"]) == ([3, 1, 8, 4] if form == "corners" else [3, 1, 5, 3])
        assert [type(v) for v in made["bbox"]] == [type(v) for v in item["bbox"]]
    assert repr(item) == repr(before)


def test_pictures_of_pipelines() -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need pillow")
    for mode in ("1", "L"):
        picture = image.fromarray(MASK * np.uint8(255)).convert(mode)
        item = {"mask": picture, "label": "cat"}
        assert np.array_equal(read(masks_of([item]), 6, 9)[0], MASK)
        (made,) = like([item], [RLE])
        assert (made["mask"].mode, made["label"]) == (mode, "cat")
        assert np.array_equal(read(masks_of([made]), 6, 9)[0], OTHER)
    with pytest.raises(MaskError, match="mode RGB"):
        masks_of([image.new("RGB", (4, 3))])


def test_tuples_and_nothing() -> None:
    assert isinstance(like((MASK, MASK), [RLE, RLE]), tuple)
    assert masks_of([]) == []
    assert like([], []) == []
    assert len(masks_of(np.zeros((0, 4, 5), bool))) == 0


def test_an_empty_mask_keeps_its_box() -> None:
    record = records()["COCO record"]
    made = like([record], [Rle.from_dense(np.zeros_like(MASK)).to_coco()])[0]
    assert (made["bbox"], made["area"]) == (record["bbox"], 0.0)
    assert like([records()["polygons"]], [Rle.from_dense(np.zeros_like(MASK)).to_coco()]) == [[]]


@settings(deadline=None)
@given(stacks(1))
def test_polygons_make_the_same_mask_again(stack: np.ndarray) -> None:
    height, width = stack.shape[1:]
    rles = [Rle.from_dense(mask).to_coco() for mask in stack]
    made = like([[[0.0, 0.0, 2.0, 0.0, 2.0, 2.0]]] * len(stack), rles)
    assert np.array_equal(np.stack([polygon(parts, height, width) for parts in made]), stack)


@settings(deadline=None)
@given(stacks())
def test_any_object_with_masks(stack: np.ndarray) -> None:
    boxes = np.array([[1.5, 2, 3, 4]] * len(stack), np.float32).reshape(-1, 4)
    value = SimpleNamespace(mask=stack, xyxy=boxes, data={"name": np.array(["a"] * len(stack))}, extra="kept")
    height, width = stack.shape[1:]
    assert np.array_equal(read(masks_of(value), height, width), stack)
    refined = others(stack)
    made = like(value, refined)
    assert np.array_equal(made.mask, dense(refined, height, width))
    assert made.extra == "kept"
    assert made.data == value.data
    assert made.data is not value.data
    for mask, row, old in zip(made.mask, made.xyxy, boxes, strict=True):
        assert row.tolist() == (box(mask) if mask.any() else old.tolist())
    assert value.mask is stack


def test_what_is_refused() -> None:
    with pytest.raises(MaskError, match="boxes only"):
        masks_of(SimpleNamespace(mask=None))
    with pytest.raises(MaskError, match="shape"):
        masks_of(np.zeros((1, 2, 3, 4), bool))
    for wrong in ("masks", b"masks", 3, None):
        with pytest.raises(MaskError, match="give an array or a list"):
            masks_of(wrong)
    with pytest.raises(MaskError, match="what the masks came in"):
        like(3, [])
    with pytest.raises(MaskError, match="2 masks for 1 instances"):
        like(MASK[None], [RLE, RLE])
    with pytest.raises(MaskError, match="6 x 9 but the original is 5 x 9"):
        like(MASK[None, :5], [RLE])
    with pytest.raises(MaskError, match="no mask under"):
        like([{"score": 0.5}], [RLE])
    with pytest.raises(MaskError, match="results of 2 images"):
        masks_of([SimpleNamespace(mask=MASK[None]), SimpleNamespace(mask=MASK[None])])


def test_no_library_is_imported(tmp_path: Any) -> None:
    import subprocess

    code = (
        "import sys; import maskmend.clients.adapters as a; a.masks_of([]);"
        "print([n for n in ('torch', 'supervision', 'ultralytics', 'transformers', 'torchvision') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [int, float, bool])
def test_rows_of_plain_lists_are_no_polygons(kind: type) -> None:
    stack = np.zeros((2, 5, 8), kind)
    stack[:, 1:3, 2:5] = 1
    for rows in (stack.tolist(), [{"segmentation": stack[0].tolist()}], [np.full((3, 4), 0.25).tolist()]):
        with pytest.raises(MaskError, match=r"np\.asarray"):
            masks_of(rows)
    # Polygons of a pixel or two are none of that.
    assert masks_of([[[0, 0, 1, 0, 1, 1, 0, 1]], [[0, 0, 2, 0, 2, 1], [5, 5, 6, 5, 6, 6]]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_map_of_labels_is_not_one_mask(dtype: type) -> None:
    labels = np.zeros((6, 8), dtype)
    labels[1:3], labels[4:] = 1, 2
    for masks in (labels, labels[None], [labels], {"mask": labels}):
        with pytest.raises(MaskError, match="one mask for each"):
            masks_of(masks)
    for value in (1, 255):
        (mask,) = masks_of(np.uint8(value) * (labels == 2).astype(np.uint8))
        assert np.count_nonzero(mask) == 16
    assert len(masks_of(np.zeros((0, 4, 4), dtype))) == 0

"""Results of Transformers' post-processing: what the real library gave, and the real library where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters.shapes import dense, others, read, stacks
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.clients.adapters import like, masks_of
from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskError

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "transformers.json").read_text())


def result(name: str) -> dict[str, Any]:
    found = FIXTURE[name]
    maps = found["segmentation"]
    if found["dtype"] is not None:
        maps = np.array(maps, found["dtype"])
    return {"segmentation": maps, "segments_info": found["segments_info"]}


def check(value: dict[str, Any], count: int) -> None:
    maps = np.asarray(value["segmentation"])
    height, width = maps.shape[-2:]
    stack = read(masks_of(value), height, width)
    assert len(stack) == count
    assert stack.any((1, 2)).all()
    refined = others(stack)
    wanted = dense(refined, height, width)
    made = like(value, refined)
    assert made["segments_info"] == value["segments_info"]
    assert type(made["segmentation"]) is type(value["segmentation"])
    assert made["segmentation"].dtype == value["segmentation"].dtype
    found = np.asarray(made["segmentation"])
    if maps.ndim == 3:
        assert np.array_equal(found > 0, wanted)
        return
    rest = maps[~stack.any(0)]
    nobody = rest[0] if rest.size else 0  # this library's panoptic maps leave no pixel to nobody
    expected = np.full(maps.shape, nobody)
    # Painted from behind: the earlier lies on top.
    for info, mask in reversed(list(zip(value["segments_info"], wanted, strict=True))):
        expected[mask] = info["id"]
    assert np.array_equal(found, expected)
    # What is refined to itself comes back as it was.
    assert np.array_equal(np.asarray(like(value, [Rle.from_dense(m).to_coco() for m in stack])["segmentation"]), maps)


@pytest.mark.parametrize("name", ["instance", "panoptic", "binary maps"])
def test_what_the_library_gave(name: str) -> None:
    check(result(name), 2)
    # Ids of instances begin at 0, those of panoptic segments at 1.
    assert result("instance")["segments_info"][0]["id"] == 0
    assert result("panoptic")["segments_info"][0]["id"] == 1


def test_nothing_found_and_run_lengths() -> None:
    nothing = result("nothing")
    assert nothing["segments_info"] == []
    assert masks_of(nothing) == []
    assert np.array_equal(like(nothing, [])["segmentation"], nothing["segmentation"])
    assert masks_of({"segmentation": None, "segments_info": []}) == []
    with pytest.raises(MaskError, match="return_coco_annotation"):
        masks_of(result("run lengths"))


@settings(deadline=None)
@given(stacks(1), st.integers(0, 3), st.sampled_from([np.int32, np.float32, np.int64]))
def test_maps_hold_the_earlier_segment(stack: np.ndarray, first: int, dtype: Any) -> None:
    height, width = stack.shape[1:]
    ids = np.full((height, width), first - 1, dtype)
    infos = [{"id": first + n, "label_id": 7, "score": 0.5, "area": 3} for n in range(len(stack))]
    for info, mask in reversed(list(zip(infos, stack, strict=True))):
        ids[mask] = info["id"]
    value = {"segmentation": ids, "segments_info": infos}
    refined = others(read(masks_of(value), height, width))
    made = like(value, refined)
    wanted = dense(refined, height, width)
    for n, info in enumerate(infos):
        assert np.array_equal(made["segmentation"] == info["id"], wanted[n] & ~wanted[:n].any(0))
        assert made["segments_info"][n] == {**info, "area": int(wanted[n].sum())}
    assert made["segmentation"].dtype == dtype


def test_a_full_map_gets_a_value_for_nobody() -> None:
    half = np.zeros((4, 6), bool)
    half[:, :3] = True
    rles = [Rle.from_dense(half).to_coco()]
    for dtype, number, nobody in ((np.int32, 1, 0), (np.uint8, 1, 0), (np.int32, 0, -1)):
        value = {"segmentation": np.full((4, 6), number, dtype), "segments_info": [{"id": number}]}
        assert like(value, rles)["segmentation"][0].tolist() == [number] * 3 + [nobody] * 3
    with pytest.raises(MaskError, match="no value left"):
        like({"segmentation": np.zeros((4, 6), np.uint8), "segments_info": [{"id": 0}]}, rles)


def test_the_real_post_processing() -> None:
    pytest.importorskip("torch", reason="transformers needs torch")
    pytest.importorskip("transformers", reason="needs the package transformers")
    pytest.importorskip("scipy", reason="Mask2Former needs scipy")
    from adapters.make_transformers import results

    found = results()
    for name in ("instance", "panoptic", "binary maps"):
        check(found[name], 2)
        assert np.array_equal(np.asarray(found[name]["segmentation"]), result(name)["segmentation"])
    assert masks_of([found["nothing"]]) == []

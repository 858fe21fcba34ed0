"""What `maskmend explain` cannot show it refuses, and says what would help."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_words import Explain, needs_torch
from small_job import SmallJob

from maskmend.patcher import Rle
from maskmend.patcher.mask_images import write_mask


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--refiner", "magic"), "use one of bpr, transfiner"),
        (("--box", 99), "this instance has boxes 0 to"),
        (("--box", -1), "this instance has boxes 0 to"),
        (("--nms", 1.5), "between 0 and 1"),
        (("--instance", 0), "leave it out"),
        (("--point", "3,4"), "--refiner transfiner"),
        (("-o", "a.jpg"), "must end in .png"),
        (("-o", "nowhere/a.png"), "make it first"),
        (("--json", "nowhere/a.json"), "make it first"),
        (("--json", "explain.png"), "give two"),
        (("--weights", "nothing"), "bpr-small"),
        (("--runtime", "abacus"), "openvino"),
        (("--refiner", "transfiner", "--runtime", "openvino"), "leave it out, or use torch"),
        (("--refiner", "transfiner", "--weights", "bpr-small"), "serve bpr, not transfiner"),
        (("--refiner", "transfiner", "--point", "220,3"), "outside the image of 220x160 px"),
        (("--refiner", "transfiner", "--point", "3,160"), "outside the image of 220x160 px"),
        (("--refiner", "transfiner", "--point", "3;4"), "two whole numbers"),
        (("--refiner", "transfiner", "--point", "-3,4"), "two whole numbers"),
        (("--refiner", "transfiner", *["--point", "3,4"] * 9), "at most 8"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    arguments: tuple[Any, ...], said: str, explain: Explain, one: tuple[Path, Path], tmp_path: Path
) -> None:
    if "bpr-small" in arguments:
        pytest.importorskip("torch", reason="transfiner is shown by PyTorch")
    before = sorted(tmp_path.iterdir())
    code, told = explain(*one, *arguments)
    assert (code, said in told) == (2, True), told
    assert told.startswith("maskmend: ")
    assert sorted(tmp_path.iterdir()) == before


@needs_torch
def test_a_point_outside_of_the_boxes_is_refused(explain: Explain, one: tuple[Path, Path], little: Path) -> None:
    code, said = explain(*one, "--weights", little, "--point", "210,150")
    assert code == 2
    assert "no box holds --point 210,150" in said
    code, said = explain(*one, "--weights", little, "--point", "60,60", "--point", "210,150", "--box", 0)
    assert code == 2
    assert "box 0 does not hold all of --point 60,60 210,150" in said


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        (np.zeros((160, 220), bool), "mask is empty"),
        (np.ones((160, 220), bool), "as large as the image"),
        (np.ones((220, 160), bool), "220 x 160 (height x width) but must be 160 x 220"),
    ],
)
def test_masks_without_a_boundary_or_of_another_size_are_refused(
    dense: np.ndarray, said: str, explain: Explain, one: tuple[Path, Path]
) -> None:
    one[1].write_bytes(write_mask(Rle.from_dense(dense)))
    code, told = explain(*one)
    assert code == 2
    assert said in told
    one[1].with_suffix(".json").write_text(
        json.dumps([{"image_id": 1, "segmentation": Rle.from_dense(dense).to_coco()}])
    )
    code, told = explain(one[0], one[1].with_suffix(".json"))
    assert code == 2
    assert said in told


def test_files_without_the_mask_asked_for_are_refused(explain: Explain, one: tuple[Path, Path], job: SmallJob) -> None:
    for options, said in (
        ((), "choose with --instance 0 to 7"),
        (("--instance", 8), "0 to 7"),
        (("--instance", -1), "0 to 7"),
    ):
        code, told = explain(one[0], job.coarse, *options)
        assert code == 2
        assert said in told
    for text, said in (("[]", "no records"), ("[{}]", "segmentation is missing"), ("{", "not valid JSON")):
        job.coarse.write_text(text)
        code, told = explain(one[0], job.coarse)
        assert code == 2
        assert said in told
    assert explain(one[0], job.images / "none.png")[0] == 2
    assert explain(job.images / "none.png", one[1])[0] == 2


def test_without_torch_transfiner_says_what_to_install(
    explain: Explain, one: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else real(name, *more))
    code, said = explain(*one, "--refiner", "transfiner")
    assert code == 2
    assert "pip install 'maskmend[train]'" in said

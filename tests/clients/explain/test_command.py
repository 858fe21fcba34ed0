"""`maskmend explain`: the picture is there, and says what the engine did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from explain_words import Explain, needs_torch, picture
from small_job import Run, SmallJob

from maskmend.clients import Refiner
from maskmend.models.registry import REFINERS
from maskmend.patcher import Rle, boundary_boxes, boundary_pixels, extract_patches
from maskmend.patcher.images import load_image
from maskmend.patcher.instance_boxes import instance_boxes


def test_bpr_is_shown_as_the_engine_works(run: Run, one: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("explain", *one, "--json", "facts.json")
    assert done.returncode == 0, done.stderr
    shown = picture(tmp_path / "explain.png")
    assert shown.shape[1] == 1768
    assert f"explain.png: 1768x{shown.shape[0]} px" in done.stderr
    facts = json.loads((tmp_path / "facts.json").read_text())
    image, mask = load_image(one[0]), Rle.from_dense(picture(one[1])[:, :, 0])
    assert facts["image"] == {"width": image.shape[1], "height": image.shape[0]}
    assert facts["mask"] == {"bbox": list(mask.bbox), "area": mask.area}
    boxes = facts["boxes"]
    assert boxes["dense"] == len(boundary_pixels(mask)[0])
    assert boxes["at"] == boundary_boxes(mask).tolist()
    assert boxes["kept"] == len(boxes["at"]) < boxes["dense"]
    assert boxes["chosen"] == int(np.argmax(boxes["changed_pixels"]))
    refined = Refiner().refine(image, [mask.to_coco()]).instances[0]
    assert facts["result"]["changed_pixels"] == refined.changed_pixels
    assert facts["result"]["abstained"] == refined.abstained
    assert max(boxes["changed_pixels"]) <= facts["first_pass"]["changed_pixels"]
    assert facts["first_pass"]["changed_pixels"] > 0
    assert f"{boxes['dense']} before suppression, {boxes['kept']} kept" in done.stderr


@pytest.mark.parametrize("refiner", [name for name in REFINERS if name not in ("bpr", "transfiner")])
def test_other_refiners_are_shown_by_their_boxes(
    refiner: str, explain: Explain, one: tuple[Path, Path], tmp_path: Path
) -> None:
    assert explain(*one, "--refiner", refiner, "--json", "facts.json")[0] == 0
    assert picture(tmp_path / "explain.png").shape[1] == 1768
    facts = json.loads((tmp_path / "facts.json").read_text())
    mask = Rle.from_dense(picture(one[1])[:, :, 0])
    assert facts["boxes"]["at"] == instance_boxes(mask, tile=224).tolist()
    code, said = explain(*one, "--refiner", refiner, "--point", "9,9")
    assert code == 2
    assert f"{refiner} has no nodes" in said


def test_same_input_same_bytes_and_options_count(explain: Explain, one: tuple[Path, Path], tmp_path: Path) -> None:
    for name, options in {"a": (), "b": (), "c": ("--box", 0), "d": ("--nms", 0.5), "e": ("--box", 1)}.items():
        assert explain(*one, "-o", f"{name}.png", "--json", f"{name}.json", *options)[0] == 0
    files = {name: (tmp_path / f"{name}.png").read_bytes() for name in "abcde"}
    assert files["a"] == files["b"]
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files["c"] != files["e"]
    facts = {name: json.loads((tmp_path / f"{name}.json").read_text())["boxes"] for name in "acde"}
    assert explain(*one, "-o", "f.png", "--box", facts["a"]["chosen"])[0] == 0
    assert (tmp_path / "f.png").read_bytes() == files["a"]
    assert (facts["c"]["chosen"], facts["e"]["chosen"]) == (0, 1)
    assert facts["d"]["kept"] > facts["a"]["kept"]
    assert facts["d"]["dense"] == facts["a"]["dense"]


def test_a_record_of_a_coco_file_gives_the_same(
    explain: Explain, job: SmallJob, one: tuple[Path, Path], tmp_path: Path
) -> None:
    assert explain(*one, "--json", "a.json")[0] == 0
    code, said = explain(one[0], job.coarse, "--instance", 0, "--json", "b.json")
    assert code == 0, said
    assert "record 0 of coarse.json" in said
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert {**a, "source": ""} == {**b, "source": ""}
    document = json.loads(job.truth.read_text())
    document["annotations"] = document["annotations"][:1]
    job.truth.write_text(json.dumps(document))
    code, said = explain(one[0], job.truth)
    assert code == 0
    assert "(photo_1.png)" in said


@needs_torch
def test_transfiner_is_shown_with_its_own_nodes(
    explain: Explain, one: tuple[Path, Path], little: Path, tmp_path: Path
) -> None:
    import torch

    from maskmend.models.explain import load_network
    from maskmend.models.quadtree_ops import top_nodes
    from maskmend.models.zoo import resolve_weights

    options = ("--refiner", "transfiner", "--weights", little)
    code, said = explain(*one, *options, "--json", "a.json")
    assert code == 0, said
    assert picture(tmp_path / "explain.png").shape[1] == 1768
    facts = json.loads((tmp_path / "a.json").read_text())
    image, mask = load_image(one[0]), Rle.from_dense(picture(one[1])[:, :, 0])
    (box,) = facts["boxes"]["at"]
    crop = extract_patches(image, mask, np.array([box]), size=224)
    network = load_network(resolve_weights(little))
    with torch.no_grad():
        maps = [each[:, 0] for each in network.forward_train(torch.from_numpy(crop)).maps]
    nodes = top_nodes(maps, network.k, [float(np.log(0.1 / 0.9))] * 3)
    assert [level["nodes"] for level in facts["levels"]] == [int(each.valid.sum()) for each in nodes]
    for level, each in zip(facts["levels"], nodes, strict=True):
        valid = each.valid[0]
        assert level["at"] == torch.stack([each.row[0][valid], each.column[0][valid]], 1).tolist()
        assert level["share"] == pytest.approx(level["nodes"] / level["side"] ** 2, abs=1e-6)
        assert len(level["before"]) == len(level["after"]) == level["nodes"] > 0
    assert len(facts["points"]) == 3
    assert len({(point["x"], point["y"]) for point in facts["points"]}) == 3
    for point in facts["points"]:
        for name in ("last_layer", "all_layers"):
            looked = point[name]
            assert looked["reference"] + sum(looked["levels"]) == pytest.approx(1, abs=1e-4)
            weights = [each["weight"] for each in looked["most"]]
            assert weights == sorted(weights, reverse=True)
        assert box[0] < point["x"] < box[2]
        assert box[1] < point["y"] < box[3]


@needs_torch
def test_points_choose_the_nodes(explain: Explain, one: tuple[Path, Path], little: Path, tmp_path: Path) -> None:
    pictures = {}
    for name, points in {"a": ("60,30",), "b": ("60,30",), "c": ("100,60",), "d": ("60,30", "100,60")}.items():
        given = [part for point in points for part in ("--point", point)]
        files = ("-o", f"{name}.png", "--json", f"{name}.json")
        assert explain(*one, "--weights", little, *files, *given)[0] == 0
        pictures[name] = picture(tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert pictures["a"].shape == pictures["c"].shape
    assert (pictures["a"] != pictures["c"]).any()
    assert pictures["d"].shape[0] > pictures["a"].shape[0]
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in "acd"}
    assert found["d"]["points"] == found["a"]["points"] + found["c"]["points"]
    level, crop = found["a"]["levels"][2], found["a"]["crop"]
    at = (np.array(level["at"])[:, ::-1] + 0.5) * crop["side"] / 112 + [crop["x0"], crop["y0"]]
    wanted = at[np.argmin(np.hypot(*(at - [60.5, 30.5]).T))]
    assert [found["a"]["points"][0][axis] for axis in "xy"] == pytest.approx(wanted, abs=1e-3)


@needs_torch
@pytest.mark.parametrize(
    "changes", [{"k": [20], "depth": 0}, {"k": [12, 20], "reference": False}, {"threshold": 0.9999}]
)
def test_other_forms_of_the_network_are_shown_too(
    changes: dict[str, Any], explain: Explain, one: tuple[Path, Path], tmp_path: Path
) -> None:
    from little_transfiner import little_weights

    weights = little_weights(tmp_path / "weights", **changes).folder
    code, said = explain(*one, "--weights", weights, "--json", "a.json")
    assert code == 0, said
    facts = json.loads((tmp_path / "a.json").read_text())
    assert len(facts["levels"]) == len(changes.get("k", "abc"))
    assert bool(facts["points"]) is ("threshold" not in changes)
    assert all(("last_layer" in point) is ("reference" in changes) for point in facts["points"])


@pytest.mark.parametrize(("height", "width"), [(3, 500), (500, 3), (20, 30), (1, 2)])
def test_images_smaller_than_a_box_are_shown_too(height: int, width: int, explain: Explain, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    mask = np.zeros((height, width), np.uint8)
    mask[: (height + 1) // 2, : (width + 1) // 2] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    code, said = explain("image.png", "mask.png")
    assert code == 0, said
    assert picture(tmp_path / "explain.png").shape[1] == 1768

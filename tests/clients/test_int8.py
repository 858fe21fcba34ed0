"""The shipped int8 form against what its manifest says, by the same judge on other photographs; and by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sample_truth import SAMPLES, write_largest
from small_job import Run, SmallJob

pytest.importorskip("openvino", reason="the openvino runtime is not installed")

from maskmend.clients import Refiner
from maskmend.clients.export_gate import all_scenes, judge
from maskmend.models import load_refiner, resolve_weights
from maskmend.models.precision import has_int8

APART = 0.005
"""Of a dozen or two instances; the gate's 0.002 are of hundreds."""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_largest(3, tmp_path_factory.mktemp("truth") / "instances.json")


@pytest.mark.skipif(not has_int8(), reason="without VNNI sums of int8 may saturate; int8 was not judged there")
def test_on_the_sample_int8_is_as_good_as_its_manifest_says(truth: Path) -> None:
    exact, form = (load_refiner(runtime="openvino", precision=precision) for precision in ("fp32", "int8"))
    found = judge(exact, form, all_scenes(truth, SAMPLES / "images", "warp")).record("sample")
    assert found.instances >= 12
    written = resolve_weights("bpr-small").in_precision("int8")
    assert written is not None
    assert written.manifest.gate is not None
    for now, then in (
        (found.iou, [gate.iou for gate in written.manifest.gate]),
        (found.f1, [gate.f1 for gate in written.manifest.gate]),
    ):
        said = np.mean([after - before for before, after in then])
        assert now[1] - now[0] == pytest.approx(said, abs=APART)


def test_a_kind_of_coarse_masks_can_be_chosen(truth: Path) -> None:
    mixed = all_scenes(truth, SAMPLES / "images")
    warped = all_scenes(truth, SAMPLES / "images", "warp")
    assert [scene.truths for scene in mixed] == [scene.truths for scene in warped]
    # The third of a photograph is warped in turns too.
    assert [scene.coarse[2:3] for scene in mixed] == [scene.coarse[2:3] for scene in warped]
    assert any(scene.coarse[2:3] for scene in mixed)
    assert all(scene.coarse[0] != other.coarse[0] for scene, other in zip(mixed, warped, strict=True))


def test_the_command_refines_in_int8_as_the_library_does(run: Run, job: SmallJob, tmp_path: Path) -> None:
    arguments = ("refine", str(job.coarse), "--images", str(job.images), "--annotations", str(job.truth))
    done = run(*arguments, "-o", "int8.json", "--precision", "int8")
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "int8.json").read_text())[0]
    masks = [record["segmentation"] for record in job.records if record["image_id"] == first["image_id"]]
    found = Refiner(precision="int8", threads=1).refine(job.images / f"photo_{first['image_id']}.png", masks)
    assert found.provenance["precision"] == "int8"
    assert found.rles[0] == first["segmentation"]

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from small_job import Run, SmallJob

from maskmend.models.registry import REFINERS
from maskmend.patcher import Rle

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [
        "refine",
        "convert",
        "view",
        "explain",
        "label-studio",
        "degrade",
        "evaluate",
        "demo",
        "train",
        "bench",
        "models",
        "serve",
    ],
)
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    more = ["list"] if command == "models" else []
    done = run(command, *more, "--help")
    assert done.returncode == 0
    assert f"maskmend {command}" in done.stdout


@pytest.mark.parametrize("command", ["refine", "explain"])
def test_help_names_every_refiner(run: Run, command: str) -> None:
    said = run(command, "--help").stdout
    assert not [name for name in REFINERS if name not in said]


def test_help_is_quick_because_it_loads_no_runtime(run: Run) -> None:
    import subprocess

    heavy = ("torch", "openvino", "numba", "cv2")
    code = f"import sys, maskmend.clients.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith("maskmend 0.")


def test_degrade_makes_a_result_list(run: Run, job: SmallJob, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        done = run("degrade", job.truth, "--images", job.images, "-o", tmp_path / name, "--kind", "warp", "--seed", "4")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    records = json.loads((tmp_path / "a.json").read_text())
    truth = json.loads(job.truth.read_text())["annotations"]
    assert [r["annotation_id"] for r in records] == [t["id"] for t in truth]
    for record, true in zip(records, truth, strict=True):
        mask = Rle.from_coco(record["segmentation"])
        assert record["bbox"] == [float(v) for v in mask.bbox]
        assert mask != Rle.from_coco(true["segmentation"])
        assert record["score"] == 1.0


def test_degrading_one_annotation_does_not_depend_on_the_others(run: Run, job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    document["annotations"] = document["annotations"][::-1][:3]
    (tmp_path / "few.json").write_text(json.dumps(document))
    for source, target in ((job.truth, "all.json"), (tmp_path / "few.json", "some.json")):
        run("degrade", source, "--images", job.images, "-o", tmp_path / target, "--kind", "rcnn28")
    everything = {r["annotation_id"]: r for r in json.loads((tmp_path / "all.json").read_text())}
    for record in json.loads((tmp_path / "some.json").read_text()):
        assert everything[record["annotation_id"]] == record


def test_degrade_names_an_unknown_kind(run: Run, job: SmallJob, tmp_path: Path) -> None:
    done = run("degrade", job.truth, "--images", job.images, "-o", tmp_path / "x.json", "--kind", "fog")
    assert done.returncode == 2
    assert "rcnn28" in done.stderr


def test_evaluate_scores_files_side_by_side(run: Run, job: SmallJob, tmp_path: Path) -> None:
    truth = json.loads(job.truth.read_text())["annotations"]
    (tmp_path / "perfect.json").write_text(json.dumps([{**t, "score": 0.9} for t in truth]))
    (tmp_path / "worse.json").write_text(
        json.dumps(
            [
                {
                    **r,
                    "segmentation": Rle.from_dense(
                        np.roll(Rle.from_coco(r["segmentation"]).to_dense(), 9, 1)
                    ).to_coco(),
                }
                for r in job.records
            ]
        )
    )
    files = [job.coarse, tmp_path / "perfect.json", tmp_path / "worse.json"]
    done = run("evaluate", "--gt", job.truth, *files, "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["pairs"] == 8
    edges = ["mean_iou", "f1px", "f3px", "mba", "improved", "harmed"]
    keys = ["path", "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "boundary_ap", *edges]
    assert [list(file) for file in scores["files"]] == [keys] * 3
    coarse, perfect, worse = scores["files"]
    assert perfect["ap"] == pytest.approx(1.0)
    assert perfect["boundary_ap"] == pytest.approx(1.0)
    assert (perfect["mean_iou"], perfect["f1px"], perfect["mba"]) == (1.0, 1.0, 1.0)
    assert (perfect["improved"], perfect["harmed"]) == (100.0, 0.0)
    assert worse["harmed"] == 100.0
    assert worse["mean_iou"] < coarse["mean_iou"] < 1
    wanted = []
    for r in job.records:
        masks = [Rle.from_coco(t["segmentation"]).to_dense() for t in truth if t["image_id"] == r["image_id"]]
        mine = Rle.from_coco(r["segmentation"]).to_dense()
        wanted.append(max((mine & t).sum() / (mine | t).sum() for t in masks))
    assert coarse["mean_iou"] == pytest.approx(np.mean(wanted))


def test_average_precision_is_pycocotools_own(run: Run, job: SmallJob, tmp_path: Path) -> None:
    pycocotools = pytest.importorskip("pycocotools.coco", reason="parity needs pycocotools")
    from pycocotools.cocoeval import COCOeval

    done = run("evaluate", "--gt", job.truth, job.coarse, "--json", tmp_path / "scores.json")
    assert done.returncode == 0
    gt = pycocotools.COCO(str(job.truth))
    reference = COCOeval(gt, gt.loadRes(str(job.coarse)), "segm")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    ours = json.loads((tmp_path / "scores.json").read_text())["files"][0]
    assert [ours[k] for k in ("ap", "ap50", "ap75", "ap_medium")] == pytest.approx(
        [reference.stats[i] for i in (0, 1, 2, 4)], abs=1e-4
    )


def test_evaluate_names_the_malformed_record(run: Run, job: SmallJob) -> None:
    records = json.loads(job.coarse.read_text())
    records[5]["segmentation"]["counts"] += "0"
    job.coarse.write_text(json.dumps(records))
    done = run("evaluate", "--gt", job.truth, job.coarse)
    assert done.returncode == 2
    assert "record 5" in done.stderr


def test_models_are_listed_described_and_verified(run: Run) -> None:
    assert "bpr-small" in run("models", "list").stdout
    info = run("models", "info", "bpr-small").stdout
    assert "sha256" in info
    assert "Intended use" in info
    assert "SHA-256 right" in run("models", "verify").stdout
    unknown = run("models", "info", "../../etc/passwd")
    assert unknown.returncode == 2


def test_demo_refines_the_shipped_sample(run: Run, tmp_path: Path) -> None:
    done = run("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "mean IoU" in done.stdout
    assert (tmp_path / "demo" / "before-after.png").stat().st_size > 10_000
    assert "<figure>" in (tmp_path / "demo" / "index.html").read_text()


def test_sample_photographs_are_attributed_and_never_trained_on() -> None:
    from maskmend.models.training.splits import is_validation

    samples = REPOSITORY / "samples"
    images = json.loads((samples / "instances.json").read_text())["images"]
    attribution = (samples / "ATTRIBUTION.md").read_text()
    assert len(images) == 6
    for image in images:
        assert image["license"] == 4
        assert image["flickr_url"] in attribution
        assert is_validation(image["id"])
        assert (samples / "images" / image["file_name"]).is_file()


def test_bench_prints_ratios_and_writes_json(run: Run, tmp_path: Path) -> None:
    done = run("bench", "geometry", "--repeats", "1", "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["instances"] == 10
    assert all({"plain_ms", "ours_ms", "ratio"} <= set(row) for row in figures["stages"].values())
    assert run("bench", "everything").returncode == 2

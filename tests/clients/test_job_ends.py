"""How a job ends when something is wrong besides single records: early, with its own exit code, and able to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_job import Run, SmallJob

from maskmend.clients.backends import Provenance
from maskmend.clients.errors import ConnectionFailedError
from maskmend.clients.job import JobSummary, run_job
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError
from maskmend.patcher.images import load_image
from maskmend.service import StageTimes
from maskmend.service.errors import DeadlineError


class Emptying:
    """A backend that gives every second mask back empty."""

    def __init__(self, arbitrate: int = 1) -> None:
        self.provenance: Provenance = {"weights": "none", "arbitrate": arbitrate}
        self.stages = StageTimes()

    def open(self, photograph: Path, exif_policy: str) -> tuple[Any, int, int]:
        image = load_image(photograph)
        return image, image.shape[0], image.shape[1]

    def refine_many(self, items: Any, *, return_exceptions: bool = False) -> Any:
        for image, masks in items:
            height, width = image.shape[:2]
            instances = []
            for number, mask in enumerate(masks):
                made = Rle.from_dense(np.zeros((height, width), bool)) if number % 2 else mask
                changed = mask.area if number % 2 else 0
                instances.append(RefinedInstance(made.to_coco(), made.bbox, made.area, 1, 1, None, changed, {}, 3.0))
            yield RefineResult(height, width, instances, self.provenance)


def labelme(folder: Path, images: Path) -> Path:
    """Two polygons on one photograph."""
    folder.mkdir()
    shapes = [
        {"label": "a", "points": [[x, 10], [x + 40, 12], [x + 30, 60]], "shape_type": "polygon", "flags": {}}
        for x in (10, 90)
    ]
    document = {"version": "5.0", "flags": {}, "shapes": shapes, "imagePath": "photo_1.png", "imageData": None}
    (folder / "photo_1.json").write_text(json.dumps({**document, "imageHeight": 160, "imageWidth": 220}))
    return folder


def test_a_mask_that_the_format_cannot_hold_is_one_records_error(job: SmallJob, tmp_path: Path) -> None:
    source = labelme(tmp_path / "labelme", job.images)
    summary = run_job(source, job.images, tmp_path / "out", Emptying(), format="labelme")
    assert (summary.records, summary.refined, summary.changed) == (2, 1, 0)
    assert [(error["index"], error["code"]) for error in summary.errors] == [(1, "invalid_mask")]
    before, after = (json.loads((folder / "photo_1.json").read_text()) for folder in (source, tmp_path / "out"))
    assert after["shapes"] == before["shapes"]


def test_overlaps_are_settled_before_the_work(job: SmallJob, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("photo_1.png", "photo_2.png"):
        indices = np.zeros(cv2.imread(str(job.images / name)).shape[:2], np.uint8)
        indices[10:40, 10:40] = 1
        indices[60:90, 10:40] = 2
        cv2.imwrite(str(masks / name), indices)
    with pytest.raises(JobError, match="--overlaps"):
        run_job(masks, job.images, tmp_path / "out", Emptying(arbitrate=0), format="index-png")
    assert not (tmp_path / "out").exists()


def test_an_output_inside_the_input_folder_can_be_resumed(job: SmallJob, tmp_path: Path) -> None:
    source = labelme(tmp_path / "labelme", job.images)

    class Stops(Emptying):
        def refine_many(self, items: Any, *, return_exceptions: bool = False) -> Any:
            next(iter(items))
            raise JobError("stopped")
            yield

    with pytest.raises(JobError, match="stopped"):
        run_job(source, job.images, source / "out", Stops(), format="labelme")
    assert run_job(source, job.images, source / "out", Emptying(), format="labelme", resume=True).records == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--report", "REPORT", "--gt", "none.json"), "none.json"),
        (("--report", "FILE"), "--report"),
        (("--gt", "TRUTH"), "--gt"),
        (("--report", "REPORT", "--gt", "COARSE"), "result list"),
        (("--tolerance", "-1"), "tolerance"),
    ],
)
def test_what_is_wrong_with_a_report_is_said_before_the_work(
    run: Run, job: SmallJob, tmp_path: Path, more: tuple[str, ...], word: str
) -> None:
    (tmp_path / "file").write_text("here already")
    known = {"REPORT": tmp_path / "r", "FILE": tmp_path / "file", "TRUTH": job.truth, "COARSE": job.coarse}
    arguments = [known.get(part, part) for part in more]
    output = tmp_path / "out.json"
    done = run("refine", job.coarse, "--images", job.images, "--annotations", job.truth, "-o", output, *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert not output.exists()


class Scripted(Emptying):
    """Gives every mask back as it is, but for the images (by their turn) that a script has an error for."""

    def __init__(self, script: dict[int, MaskmendError] | None = None, provenance: str = "one") -> None:
        super().__init__()
        self.script, self.answered, self.said = script or {}, 0, provenance

    def refine_many(self, items: Any, *, return_exceptions: bool = False) -> Any:
        for turn, (image, masks) in enumerate(items):
            self.answered += 1
            if turn in self.script:
                yield self.script[turn]
                continue
            made = [RefinedInstance(m.to_coco(), m.bbox, m.area, 1, 1, None, 0, {}, 0.0) for m in masks]
            yield RefineResult(*image.shape[:2], made, {**self.provenance, "weights": self.said})


def coco_job(job: SmallJob, output: Path, backend: Scripted, **more: Any) -> JobSummary:
    backend.provenance["weights"] = "one"
    return run_job(job.coarse, job.images, output, backend, annotations=job.truth, **more)


def test_a_server_that_keeps_failing_ends_the_job_and_leaves_it_to_resume(job: SmallJob, tmp_path: Path) -> None:
    output, late = tmp_path / "out.json", DeadlineError("late")
    with pytest.raises(JobError, match="--resume"):
        coco_job(job, output, Scripted({1: late, 2: late, 3: late}))
    assert not output.exists()
    backend = Scripted()
    assert coco_job(job, output, backend, resume=True).errors == []
    # The first image was done; the failed ones were not noted as such.
    assert backend.answered == 3


def test_a_single_late_image_is_kept(job: SmallJob, tmp_path: Path) -> None:
    summary = coco_job(job, tmp_path / "out.json", Scripted({1: DeadlineError("late"), 3: DeadlineError("late")}))
    assert [error["code"] for error in summary.errors] == ["deadline_exceeded"] * 4
    assert summary.refined == 4


def test_weights_that_change_on_the_way_end_the_job(job: SmallJob, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="weights changed"):
        coco_job(job, tmp_path / "out.json", Scripted(provenance="two"))


def interrupted(job: SmallJob, output: Path) -> None:
    gone = ConnectionFailedError("gone")
    with pytest.raises(JobError, match="--resume"):
        coco_job(job, output, Scripted({2: gone}))


def test_a_photograph_that_changed_since_is_done_again(job: SmallJob, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    interrupted(job, output)
    photograph = job.images / "photo_1.png"
    photograph.write_bytes(photograph.read_bytes() + b"\0")
    backend = Scripted()
    coco_job(job, output, backend, resume=True)
    assert backend.answered == 3


def test_errors_are_tried_again_on_resume(job: SmallJob, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    photograph = job.images / "photo_1.png"
    good = photograph.read_bytes()
    photograph.write_bytes(b"broken")
    interrupted(job, output)
    photograph.write_bytes(good)
    assert coco_job(job, output, Scripted(), resume=True).errors == []


def test_another_folder_of_photographs_cannot_be_resumed_with(job: SmallJob, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    interrupted(job, output)
    moved = SmallJob(job.images.rename(tmp_path / "elsewhere"), job.truth, job.coarse, job.records)
    with pytest.raises(JobError, match="was written with other"):
        coco_job(moved, output, Scripted(), resume=True)

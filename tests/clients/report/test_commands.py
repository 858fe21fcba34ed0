"""`maskmend view` and `maskmend refine --report`, as called on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from maskmend.clients.cli.pages import write_job_report
from maskmend.clients.formats import open_masks
from maskmend.clients.job import JobSummary
from maskmend.patcher import Rle, as_rle

Run = Callable[..., Any]
Read = Callable[[Path], Any]


def moved(records: list[dict[str, Any]], by: int) -> list[dict[str, Any]]:
    out = []
    for record in records:
        mask = Rle.from_coco(record["segmentation"]).to_dense()
        out.append({**record, "segmentation": Rle.from_dense(np.roll(mask, by, 1)).to_coco()})
    return out


@pytest.fixture
def after(job: Any, tmp_path: Path) -> Path:
    path = tmp_path / "after.json"
    path.write_text(json.dumps(moved(job.records, 2)[:4] + job.records[4:]))
    return path


def test_two_files_make_a_page(run: Run, read: Read, job: Any, after: Path, tmp_path: Path) -> None:
    done = run("view", job.coarse, after, "--images", job.images, "--annotations", job.truth, "--limit", "3")
    assert done.returncode == 0, done.stderr
    assert "8 instances compared, matched by their order within image and category" in done.stderr
    page = read(tmp_path / "report" / "index.html")
    assert page.report["outcomes"] == [["changed", 4], ["unchanged", 4]]
    assert len(page.rows) == 3
    assert page.report["labels"] == ["disk"]
    assert page.report["gains"] is None
    assert str(tmp_path) not in page.text


def test_ground_truth_brings_gains_and_totals(run: Run, read: Read, job: Any, after: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed; totals need it")
    arguments = ["view", job.coarse, after, "--images", job.images, "--gt", job.truth, "--annotations", job.truth]
    done = run(*arguments, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    page = read(tmp_path / "out" / "index.html")
    # Coarse masks lie 3 px to the left of the truth, so that 2 px to the right brings them nearer.
    assert page.report["gains"]["matched"] == 8
    assert (page.report["gains"]["improved"], page.report["gains"]["harmed"]) == (4, 0)
    assert page.report["totals"][0] == ["", "before", "after"]
    scored = run("evaluate", "--gt", job.truth, job.coarse, after, "--json", tmp_path / "scores.json")
    assert scored.returncode == 0, scored.stderr
    files = json.loads((tmp_path / "scores.json").read_text())["files"]
    assert ["AP", *(f"{file['ap']:.4f}" for file in files)] in page.report["totals"]
    assert set(page.crops[0]["masks"]) == {"before", "after", "truth"}


def test_files_of_two_formats_are_compared_by_names(run: Run, read: Read, job: Any, tmp_path: Path) -> None:
    made = run(
        "convert", job.truth, "--images", job.images, "--to", "labelme", "--tolerance", "0", "-o", tmp_path / "labelme"
    )
    assert made.returncode == 0, made.stderr
    done = run("view", job.truth, tmp_path / "labelme", "--images", job.images, "--gt", job.truth)
    assert done.returncode == 0, done.stderr
    page = read(tmp_path / "report" / "index.html")
    assert page.report["outcomes"][:2] == [["changed", 0], ["unchanged", 8]]
    assert page.report["gains"]["matched"] == 8
    assert "COCO files only" in page.report["note"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--limit", "0"], "--limit is 0; use 1 or more"),
        (["--side", "5000"], "--side is 5000; use 64 to 4096"),
        (["--exif-policy", "turn"], "use apply or ignore"),
        (["--images", "nowhere"], "is not a folder"),
        (["--format", "nonsense"], "nonsense"),
        (["--gt", "nowhere.json"], "nowhere.json"),
    ],
)
def test_options_that_cannot_be_used_are_told(
    run: Run, job: Any, after: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run("view", job.coarse, after, "--images", job.images, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "report").exists()


def test_files_that_do_not_fit_are_told(run: Run, job: Any, tmp_path: Path) -> None:
    (tmp_path / "less.json").write_text(json.dumps(job.records[1:]))
    done = run("view", job.coarse, tmp_path / "less.json", "--images", job.images, "--annotations", job.truth)
    assert done.returncode == 2
    assert "do not fit" in done.stderr
    assert not (tmp_path / "report").exists()


def test_a_name_that_leads_out_of_the_folder_is_not_read(run: Run, read: Read, job: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((job.images / "photo_1.png").read_bytes())
    records = [{**record, "file_name": "../secret.png"} for record in job.records]
    (tmp_path / "bad.json").write_text(json.dumps(records))
    done = run("view", tmp_path / "bad.json", tmp_path / "bad.json", "--images", job.images)
    assert done.returncode == 0, done.stderr
    page = read(tmp_path / "report" / "index.html")
    assert (page.rows, page.report["failed"]) == ([], 8)
    assert "leads out of the images folder" in page.report["errors"][0][2]


def test_the_page_is_opened_where_asked(job: Any, after: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskmend.clients.cli.app import app

    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    arguments = ["view", job.coarse, after, "--images", job.images, "--annotations", job.truth, "-o", tmp_path / "o"]
    for more in ([], ["--open"]):
        assert CliRunner().invoke(app, [*map(str, arguments), *more]).exit_code == 0
    assert opened == [(tmp_path / "o" / "index.html").resolve().as_uri()]


# ---- the report of a job


def summary_of(job: Any, after: Path) -> JobSummary:
    refined = json.loads(after.read_text())
    masks = open_masks(after, job.images, annotations=job.truth)
    summary = JobSummary(masks, records=len(refined), refined=len(refined))
    for number, (old, new) in enumerate(zip(job.records, refined, strict=True)):
        entry = {"index": number, "image_id": old["image_id"], "confidence": 0.1 * number, "score": 0.9, "undone": {}}
        changed = old["segmentation"] != new["segmentation"]
        summary.instances.append({**entry, "changed_pixels": int(changed), "abstained": None if changed else "kept so"})
        if changed:
            summary.changed += 1
            summary.instances[-1]["coarse"] = old["segmentation"]
            summary.instances[-1]["undone"] = {"reach": 5}
    return summary


def test_a_job_is_reported_as_its_summary_says(read: Read, job: Any, after: Path, tmp_path: Path) -> None:
    refined = json.loads(after.read_text())
    summary = summary_of(job, after)
    summary.errors.append({"index": 8, "id": None, "image_id": 9, "code": "invalid_mask", "message": "a message"})
    path = write_job_report(
        tmp_path / "r",
        after,
        summary,
        {"weights": "bpr-small", "caution": 0.5},
        "apply",
        100,
        annotations=job.truth,
    )
    page = read(path)
    assert page.report["outcomes"] == [["changed", 4], ["unchanged", 0], ["kept so", 4]]
    assert page.report["facts"] == [["weights", "bpr-small"], ["caution", "0.5"]]
    assert page.report["errors"] == [[8, "invalid_mask", "a message"]]
    assert ["changed", 4, "undone in part: reach 20 px"] in page.report["counts"]
    for row, crop in zip(page.rows, page.crops, strict=True):
        assert row["confidence"] == pytest.approx(0.1 * row["number"])
        height, width = crop["size"][1], crop["size"][0]
        x, y, w, h = crop["at"]
        assert (w, h) == (width, height)
        shown = {name: as_rle({"size": [height, width], "counts": c}) for name, c in crop["masks"].items()}
        for name, records in (("before", job.records), ("after", refined)):
            whole = Rle.from_coco(records[row["number"]]["segmentation"]).crop(x, y, x + w, y + h)
            np.testing.assert_array_equal(shown.get(name, shown["before"]).to_dense(), whole.astype(bool))


def test_a_job_can_be_held_against_ground_truth(read: Read, job: Any, after: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed; totals need it")
    summary = summary_of(job, after)
    path = write_job_report(
        tmp_path / "r", after, summary, {}, "apply", 100, annotations=job.truth, coarse=job.coarse, truth=job.truth
    )
    page = read(path)
    assert page.report["gains"]["improved"] == 4
    assert page.report["totals"][0] == ["", "coarse", "refined"]

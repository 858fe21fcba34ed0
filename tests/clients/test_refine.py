from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_job import Run, SmallJob

from maskmend.patcher import Rle, as_rle


def refine(run: Run, job: SmallJob, output: Path, *more: str | Path) -> Any:
    annotations = [] if "--annotations" in more else ["--annotations", job.truth]
    return run("refine", job.coarse, "--images", job.images, "-o", output, "--threads", "1", *annotations, *more)


def iou(a: Rle, b: Rle) -> float:
    x, y = a.to_dense(), b.to_dense()
    return float((x & y).sum() / (x | y).sum())


def test_masks_get_better_and_everything_else_stays(run: Run, job: SmallJob, tmp_path: Path) -> None:
    done = refine(run, job, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "out.json").read_text())
    truth = json.loads(job.truth.read_text())["annotations"]
    gains = []
    for before, record in zip(job.records, after, strict=True):
        changed = {"segmentation", "bbox"}
        assert {k: v for k, v in record.items() if k not in changed} == {
            k: v for k, v in before.items() if k not in changed
        }
        mask, coarse = Rle.from_coco(record["segmentation"]), Rle.from_coco(before["segmentation"])
        assert record["bbox"] == [float(v) for v in mask.bbox]
        true = max(
            (Rle.from_coco(t["segmentation"]) for t in truth if t["image_id"] == record["image_id"]),
            key=lambda t: iou(t, coarse),
        )
        gains.append(iou(mask, true) - iou(coarse, true))
    assert np.mean(gains) > 0.02
    assert "8 of 8 records" in done.stderr
    assert {file.name for file in tmp_path.glob("out.json*")} == {"out.json"}


def test_output_is_the_same_bytes_for_any_batch_size(run: Run, job: SmallJob, tmp_path: Path) -> None:
    for name, size in (("a", 32), ("b", 1), ("c", 5)):
        assert refine(run, job, tmp_path / name, "--batch-size", str(size)).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_an_instances_file_keeps_its_form(run: Run, job: SmallJob, tmp_path: Path) -> None:
    document = json.loads(job.truth.read_text())
    for annotation in document["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y + 3, x + w - 4, y + h, x, y + h - 4]]
    document["annotations"][0]["iscrowd"] = 1
    (tmp_path / "instances.json").write_text(json.dumps(document))
    done = run("refine", tmp_path / "instances.json", "--images", job.images, "-o", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "out.json").read_text())
    assert list(after) == list(document)
    assert [a["id"] for a in after["annotations"]] == [a["id"] for a in document["annotations"]]
    assert after["annotations"][0] == document["annotations"][0]
    changed = [a for a in after["annotations"] if isinstance(a["segmentation"], dict)]
    assert changed
    for annotation in changed:
        rle = as_rle(annotation["segmentation"])
        assert annotation["area"] == rle.area
        assert annotation["bbox"] == [float(v) for v in rle.bbox]


def test_photographs_are_found_by_id_alone(run: Run, job: SmallJob, tmp_path: Path) -> None:
    for number, name in ((1, "000000000001.png"), (2, "2.png"), (3, "000000000003.png"), (4, "4.png")):
        (job.images / f"photo_{number}.png").rename(job.images / name)
    done = run("refine", job.coarse, "--images", job.images, "-o", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr


def test_bad_records_stay_and_are_named(run: Run, job: SmallJob, tmp_path: Path) -> None:
    records = json.loads(job.coarse.read_text())
    records[0]["segmentation"]["counts"] = "bad!"
    records[1]["image_id"] = 77
    records[2]["segmentation"] = Rle.from_dense(np.ones((5, 5), bool)).to_coco()
    del records[3]["segmentation"]
    job.coarse.write_text(json.dumps(records))
    (job.images / "photo_4.png").write_bytes(b"not a picture")
    done = refine(run, job, tmp_path / "out.json")
    assert done.returncode == 3, done.stderr
    errors = [json.loads(line) for line in (tmp_path / "out.json.errors.jsonl").read_text().splitlines()]
    assert [e["index"] for e in errors] == [0, 1, 2, 3, 7]
    assert {e["code"] for e in errors} == {"invalid_mask", "invalid_image", "unsupported_image"}
    assert all(set(e) == {"index", "id", "image_id", "code", "message"} for e in errors)
    after = json.loads((tmp_path / "out.json").read_text())
    assert all(after[e["index"]] == records[e["index"]] for e in errors)
    assert sum(a != b for a, b in zip(after, records, strict=True)) >= 2


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "link.png", "a\0b.png"])
def test_a_file_name_cannot_leave_the_folder(run: Run, job: SmallJob, tmp_path: Path, name: str) -> None:
    (job.images / "photo_1.png").rename(tmp_path / "secret.png")
    (job.images / "link.png").symlink_to(tmp_path / "secret.png")
    truth = json.loads(job.truth.read_text())
    truth["images"][0]["file_name"] = name
    job.truth.write_text(json.dumps(truth))
    done = refine(run, job, tmp_path / "out.json")
    assert done.returncode == 3, done.stderr
    errors = [json.loads(line) for line in (tmp_path / "out.json.errors.jsonl").read_text().splitlines()]
    assert len(errors) == 2
    assert all("leads out of the images folder" in e["message"] for e in errors)


def test_a_rotated_photograph_names_the_option(run: Run, job: SmallJob, tmp_path: Path) -> None:
    records = json.loads(job.coarse.read_text())
    turned = Rle.from_dense(Rle.from_coco(records[0]["segmentation"]).to_dense().T)
    records[0]["segmentation"] = turned.to_coco()
    job.coarse.write_text(json.dumps(records))
    done = refine(run, job, tmp_path / "out.json")
    assert done.returncode == 3
    assert "--exif-policy" in (tmp_path / "out.json.errors.jsonl").read_text()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        '{"a": 1}',
        '"text"',
        "[1]",
        "[NaN]",
        '{"annotations": 5}',
        '[{"image_id": 1e999}]',
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
def test_unusable_input_writes_nothing(run: Run, job: SmallJob, tmp_path: Path, content: str | bytes) -> None:
    job.coarse.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = refine(run, job, tmp_path / "out.json")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("maskmend: ")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out.json*"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--runtime", "abacus"], "runtime"),
        (["--weights", "nothing"], "weights"),
        (["--nms", "3"], "nms"),
        (["--threads", "0"], "threads"),
        (["--exif-policy", "perhaps"], "exif-policy"),
        (["--engine", "abacus"], "engine"),
        (["--server", "http://localhost:1"], "server"),
        (["--annotations", "missing.json"], "missing.json"),
        (["--images", "nowhere"], "nowhere"),
        (["-o", "no/such/folder/out.json"], "folder"),
    ],
)
def test_unusable_options_write_nothing(run: Run, job: SmallJob, tmp_path: Path, options: list[str], word: str) -> None:
    done = refine(run, job, tmp_path / "out.json", *options)
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out.json*"))


def test_the_input_is_never_overwritten(run: Run, job: SmallJob) -> None:
    before = job.coarse.read_bytes()
    done = refine(run, job, job.coarse)
    assert done.returncode == 2
    assert job.coarse.read_bytes() == before


def test_a_configuration_file_sets_options_and_unknown_keys_are_named(run: Run, job: SmallJob, tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text("nms = 0.55\npasses = 2\n")
    assert refine(run, job, tmp_path / "a.json", "--config", tmp_path / "options.toml").returncode == 0
    assert refine(run, job, tmp_path / "b.json", "--nms", "0.55", "--passes", "2").returncode == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    (tmp_path / "options.toml").write_text("nsm = 0.55\n")
    done = refine(run, job, tmp_path / "c.json", "--config", tmp_path / "options.toml")
    assert done.returncode == 2
    assert "nsm" in done.stderr


def test_a_killed_job_resumes_to_the_same_bytes(run: Run, job: SmallJob, tmp_path: Path) -> None:
    assert refine(run, job, tmp_path / "whole.json").returncode == 0
    output = tmp_path / "out.json"
    journal = tmp_path / "out.json.partial.jsonl"
    # Slowed down in the child, so that the kill lands midway.
    code = (
        "import time, maskmend.clients.job as j; old = j._prepared\n"
        "def slow(*a):\n    time.sleep(0.4); return old(*a)\n"
        "j._prepared = slow\nfrom maskmend.clients.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "refine", job.coarse, "--images", job.images, "-o", output, "--threads", "1"]
    child = subprocess.Popen([*map(str, command), "--annotations", str(job.truth)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not output.exists()
    lines = journal.read_bytes().splitlines(keepends=True)
    assert 3 <= len(lines) < 5
    # A kill can tear the last line.
    journal.write_bytes(b"".join(lines) + lines[-1][:20])
    refused = refine(run, job, output, "--resume", "--nms", "0.5")
    assert refused.returncode == 2
    assert "resume" in refused.stderr
    done = refine(run, job, output, "--resume")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not journal.exists()


def test_report_and_profile(run: Run, job: SmallJob, tmp_path: Path) -> None:
    done = refine(run, job, tmp_path / "out.json", "--report", tmp_path / "report", "--profile")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "photo_1.png" in page
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    assert "network" in done.stderr
    assert "%" in done.stderr


def test_no_record_is_a_job_too(run: Run, job: SmallJob, tmp_path: Path) -> None:
    job.coarse.write_text("[]")
    assert refine(run, job, tmp_path / "out.json").returncode == 0
    assert (tmp_path / "out.json").read_text() == "[]"


def test_photographs_are_found_by_a_file_beside_them_or_in_the_record(run: Run, job: SmallJob, tmp_path: Path) -> None:
    plain = [run("refine", job.coarse, "--images", job.images, "-o", tmp_path / "a.json")]
    assert plain[0].returncode == 3
    (tmp_path / "instances.json").write_bytes(job.truth.read_bytes())
    assert run("refine", job.coarse, "--images", job.images, "-o", tmp_path / "b.json").returncode == 0
    (tmp_path / "instances.json").unlink()
    named = [{**record, "file_name": f"photo_{record['image_id']}.png"} for record in job.records]
    (tmp_path / "named.json").write_text(json.dumps(named))
    assert run("refine", tmp_path / "named.json", "--images", job.images, "-o", tmp_path / "c.json").returncode == 0
    masks = [[r["segmentation"] for r in json.loads((tmp_path / name).read_text())] for name in ("b.json", "c.json")]
    assert masks[0] == masks[1]


def test_degraded_files_refine_without_more_ado(run: Run, job: SmallJob, tmp_path: Path) -> None:
    run("degrade", job.truth, "--images", job.images, "-o", tmp_path / "coarse.json", "--kind", "warp")
    done = run("refine", tmp_path / "coarse.json", "--images", job.images, "-o", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr

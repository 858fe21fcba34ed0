"""`--engine ray` on a real Ray: the same bytes as here, whoever is killed on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_worker import begun, counting, digest_of
from small_job import Run, SmallJob

from maskmend.clients import ray_crew
from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import JobSummary, run_job
from maskmend.clients.ray_engine import WINDOW, RayBackend
from maskmend.clients.refiner import Refiner
from maskmend.patcher import Rle
from maskmend.patcher.errors import JobError, MaskmendError, OptionError

if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray").origin is None:  # type: ignore[union-attr]
    pytest.skip("the ray extra is not installed", allow_module_level=True)

HERE = Path(__file__).resolve().parents[1]


def refine(run: Run, job: SmallJob, output: Path, *more: str | Path) -> Any:
    return run("refine", job.coarse, "--images", job.images, "--annotations", job.truth, "-o", output, *more)


def through(backend: Any, job: SmallJob, output: Path) -> JobSummary:
    return run_job(job.coarse, job.images, output, backend, annotations=job.truth)


def here(job: SmallJob, output: Path) -> bytes:
    through(LocalBackend(Refiner(threads=1)), job, output)
    return output.read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_troubles(job: SmallJob) -> None:
    """A crowd, a damaged photograph with a damaged mask, a missing one, a name that leads out, two masks that are none."""
    truth, records = json.loads(job.truth.read_text()), json.loads(job.coarse.read_text())
    damaged = job.images / "photo_2.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    (job.images / "photo_3.png").unlink()
    truth["images"].append({"id": 9, "file_name": "../truth.json"})
    records[0]["iscrowd"] = 1
    by_image = {image: [r for r in records if r["image_id"] == image] for image in (2, 4)}
    by_image[2][0]["segmentation"] = {"size": [1, 1], "counts": "zz"}
    by_image[4][0]["segmentation"] = {"size": [5, 5], "counts": "I"}
    records += [{**records[1], "image_id": 9}, {**records[1], "image_id": "unknown"}, {"image_id": 4}]
    job.truth.write_text(json.dumps(truth))
    job.coarse.write_text(json.dumps(records))


def test_the_same_bytes_errors_report_and_exit_code(run: Run, job: SmallJob, tmp_path: Path, cluster: str) -> None:
    with_troubles(job)
    codes = []
    for name, more in (
        ("a", ["--threads", "1"]),
        ("b", ["--engine", "ray", "--ray-address", cluster, "--workers", "2"]),
    ):
        (tmp_path / name).mkdir()
        done = refine(run, job, tmp_path / name / "out.json", *more, "--report", tmp_path / name / "report")
        assert "Traceback" not in done.stderr
        codes.append(done.returncode)
        assert "2 of 11 records" in done.stderr, done.stderr
    assert codes == [3, 3]
    one, other = files(tmp_path / "a"), files(tmp_path / "b")
    assert set(one) >= {"out.json", "out.json.errors.jsonl", "report/index.html"}
    assert len(one["out.json.errors.jsonl"].splitlines()) == 8
    assert one == other


def test_a_worker_killed_midway_is_replaced(
    long_job: SmallJob, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "begun"
    monkeypatch.setattr(ray_crew, "Worker", counting(log, 0.15))
    backend = RayBackend({}, workers=2)

    def kill() -> None:
        while len(begun(log)) < 4:
            time.sleep(0.01)
        os.kill(int(log.read_text().splitlines()[-1].split()[0]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        summary = through(backend, long_job, tmp_path / "out.json")
    finally:
        backend.close()
    thread.join()
    assert summary.errors == []
    assert (tmp_path / "out.json").read_bytes() == here(long_job, tmp_path / "whole.json")
    assert (backend.lost, backend.again) == (1, 1)
    images = [digest_of(path.read_bytes()) for path in long_job.images.iterdir()]
    # Every image once, but the one that the dead worker was at; on a busy machine also one whose answer had not got away.
    assert sorted(set(begun(log))) == sorted(images)
    assert len(images) < len(begun(log)) <= len(images) + 2


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_given_up_and_the_others_are_not(
    long_job: SmallJob, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "begun"
    deadly = digest_of((long_job.images / "photo_2.png").read_bytes())
    monkeypatch.setattr(ray_crew, "Worker", counting(log, deadly=deadly))
    backend = RayBackend({}, workers=2)
    try:
        summary = through(backend, long_job, tmp_path / "out.json")
    finally:
        backend.close()
    assert {(e["image_id"], e["code"]) for e in summary.errors} == {(2, "worker_lost")}
    assert summary.refined == 22
    # An answer that the worker had not sent off when it died is lost too: then the death is counted to that image, once.
    assert 3 <= backend.lost <= 6
    assert begun(log).count(deadly) == backend.lost
    assert len(begun(log)) <= 11 + 2 * backend.lost


@pytest.mark.slow
def test_a_driver_killed_midway_goes_on_where_the_journal_ends(
    long_job: SmallJob, tmp_path: Path, cluster: str
) -> None:
    output, journal = tmp_path / "out.json", tmp_path / "out.json.partial.jsonl"
    logs = [tmp_path / "first", tmp_path / "second"]
    arguments = ["refine", long_job.coarse, "--images", long_job.images, "--annotations", long_job.truth, "-o", output]
    arguments += ["--engine", "ray", "--ray-address", cluster, "--workers", "2"]

    def driver(log: Path, *more: str) -> subprocess.Popen[str]:
        code = (
            f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
            "from pathlib import Path; from counting_worker import counting\n"
            f"import maskmend.clients.ray_crew as crew; crew.Worker = counting(Path({str(log)!r}), 0.15)\n"
            "from maskmend.clients.cli import main; main()"
        )
        command = [sys.executable, "-c", code, *map(str, arguments), *more]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    child = driver(logs[0])
    until = time.monotonic() + 90
    while time.monotonic() < until and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not output.exists()
    kept = len(journal.read_bytes().splitlines()) - 1
    assert 3 <= kept < 12
    # The workers end with their driver: then the list of what they began is complete.
    _end_of_workers(logs[0])
    lost = len(begun(logs[0])) - kept
    child = driver(logs[1], "--resume")
    _, said = child.communicate(timeout=90)
    assert child.returncode == 0, said
    assert output.read_bytes() == here(long_job, tmp_path / "whole.json")
    assert not journal.exists()
    # What the journal has is not done again; what is done twice was under way, at most four images for each worker.
    assert len(begun(logs[1])) == 12 - kept
    assert len(set(begun(logs[0])) & set(begun(logs[1]))) == lost <= 2 * WINDOW


def _end_of_workers(log: Path) -> None:
    pids = {int(line.split()[0]) for line in log.read_text().splitlines()}
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "workers outlive their driver"
        time.sleep(0.05)


def test_images_are_taken_as_there_is_room(job: SmallJob, cluster: str) -> None:
    data = (job.images / "photo_1.png").read_bytes()
    mask = Rle.from_coco(job.records[0]["segmentation"])
    taken = 0

    def items() -> Iterator[tuple[bytes, list[Rle]]]:
        nonlocal taken
        for _ in range(12):
            taken += 1
            yield data, [mask]

    backend = RayBackend({}, workers=1)
    ahead = []
    try:
        for given, _ in enumerate(backend.refine_many(items())):
            ahead.append(taken - given)
        with pytest.raises(MaskmendError, match="truncated"):
            list(backend.refine_many([(data[:-200], [mask])]))
        kept = list(backend.refine_many([(data[:-200], [mask]), (data, [mask])], return_exceptions=True))
    finally:
        backend.close()
    assert max(ahead) == WINDOW
    assert taken == 12
    assert [isinstance(result, MaskmendError) for result in kept] == [True, False]
    assert backend.stages.seconds["network"] > 0


@pytest.mark.parametrize(
    ("options", "more", "kind", "word"),
    [
        ({"weights": "nothing"}, {"workers": 1}, OptionError, "weights 'nothing'"),
        ({}, {"threads": 64}, OptionError, "has 64 CPUs"),
        ({}, {"gpus": 1.0}, OptionError, "1 GPUs"),
        ({}, {"workers": 0}, OptionError, "--workers is 0"),
        ({}, {"threads": 0}, OptionError, "--threads is 0"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    options: dict[str, Any], more: dict[str, Any], kind: type[Exception], word: str, cluster: str
) -> None:
    with pytest.raises(kind, match=word):
        RayBackend(options, **more)


def test_workers_that_differ_end_the_job(cluster: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flag = tmp_path / "first"

    class Differs(ray_crew.Worker):
        def begin(self, options: dict[str, Any]) -> Any:
            try:
                flag.touch(exist_ok=False)
            except FileExistsError:
                return {"runtime": "other"}, "1"
            return {"runtime": "one"}, "1"

        def refine(self, image: bytes, masks: list[dict[str, Any]]) -> Any:
            time.sleep(0.3)
            return MaskmendError("none")

    monkeypatch.setattr(ray_crew, "Worker", Differs)
    backend = RayBackend({}, workers=2)
    try:
        with pytest.raises(JobError, match="differ in runtime"):
            list(backend.refine_many([(b"", [])] * 20, return_exceptions=True))
    finally:
        backend.close()


def test_workers_that_die_while_they_start_end_the_job(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dies(ray_crew.Worker):
        def begin(self, options: dict[str, Any]) -> Any:
            os._exit(1)

    monkeypatch.setattr(ray_crew, "Worker", Dies)
    with pytest.raises(JobError, match="died while they started"):
        RayBackend({}, workers=1)

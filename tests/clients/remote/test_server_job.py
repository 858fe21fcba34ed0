"""`maskmend refine --server`: the same bytes as here, the same exit codes, and what a killed server leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="a real server needs the serve extra")

from running import Running, running
from small_job import Run, SmallJob

KEY = "0123456789abcdef-one"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "keys").write_text(KEY)
    with running(folder / "log", "--api-keys-file", str(folder / "keys")) as found:
        yield found


def refine(run: Run, job: SmallJob, output: Path, *more: str | Path) -> Any:
    return run("refine", job.coarse, "--images", job.images, "--annotations", job.truth, "-o", output, *more)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_the_same_bytes_as_here(
    run: Run, job: SmallJob, tmp_path: Path, server: Running, scheme: str, concurrency: str
) -> None:
    assert refine(run, job, tmp_path / "here.json", "--nms", "0.4").returncode == 0
    url = server.url if scheme == "http" else f"grpc://127.0.0.1:{server.grpc_port}"
    options = ("--nms", "0.4", "--server", url, "--api-key", KEY, "--concurrency", concurrency)
    done = refine(run, job, tmp_path / "there.json", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()
    assert "8 of 8 records refined" in done.stderr


def test_records_that_cannot_be_refined_are_kept_and_named(
    run: Run, job: SmallJob, tmp_path: Path, server: Running
) -> None:
    records = json.loads(job.coarse.read_text())
    records[2]["segmentation"]["counts"] = "~~~"
    (job.images / "photo_3.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    job.coarse.write_text(json.dumps(records))
    outputs = []
    for name, more in (("here", ()), ("there", ("--server", server.url, "--api-key", KEY))):
        done = refine(run, job, tmp_path / f"{name}.json", *more)
        assert done.returncode == 3, done.stderr
        outputs.append((tmp_path / f"{name}.json").read_bytes())
        errors = [json.loads(line) for line in (tmp_path / f"{name}.json.errors.jsonl").read_text().splitlines()]
        assert [error["index"] for error in errors] == sorted(
            {2, *(n for n, record in enumerate(records) if record["image_id"] == 3)}
        )
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--server", "ftp://example.com"), "url"),
        (("--server", "http://127.0.0.1:9", "--timeout", "3"), "cannot be reached"),
        (("--server", "URL", "--api-key", "wrong"), "key"),
        (("--server", "URL", "--api-key", KEY, "--weights", "other"), "no model"),
        (("--server", "URL", "--api-key", KEY, "--runtime", "onnx"), "--runtime"),
        (("--server", "URL", "--api-key", KEY, "--threads", "2"), "--threads"),
    ],
)
def test_a_server_that_cannot_do_it_is_told_at_once(
    run: Run, job: SmallJob, tmp_path: Path, server: Running, more: tuple[str, ...], word: str
) -> None:
    done = refine(run, job, tmp_path / "out.json", *(server.url if part == "URL" else part for part in more))
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out.json*"))


def test_a_server_that_dies_midway_leaves_a_job_to_resume(run: Run, job: SmallJob, tmp_path: Path) -> None:
    assert refine(run, job, tmp_path / "whole.json").returncode == 0
    output, journal = tmp_path / "out.json", tmp_path / "out.json.partial.jsonl"
    # Each photograph is held back for a moment, so that the end of the server comes midway.
    code = (
        "import time, maskmend.clients.job as j; old = j._prepared\n"
        "def slow(*a):\n    time.sleep(0.7); return old(*a)\n"
        "j._prepared = slow\nfrom maskmend.clients.cli import main; main()"
    )
    with running(tmp_path / "log", grpc=False) as server:
        arguments = [job.coarse, "--images", job.images, "--annotations", job.truth, "-o", output, "--concurrency", "1"]
        command = [sys.executable, "-c", code, "refine", *arguments, "--server", server.url, "--timeout", "3"]
        child = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 90
        while time.monotonic() < until and (not journal.exists() or journal.read_bytes().count(b"\n") < 2):
            time.sleep(0.02)
        os.kill(server.process.pid, signal.SIGKILL)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "--resume" in said
    assert "Traceback" not in said
    assert not output.exists()
    assert journal.read_bytes().count(b"\n") >= 2
    with running(tmp_path / "log2", grpc=False) as server:
        done = refine(run, job, output, "--server", server.url, "--resume")
        assert done.returncode == 0, done.stderr
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not journal.exists()


@pytest.mark.parametrize(
    ("key", "state", "word"), [(KEY, "works", "bpr-small on"), ("another-key-than-the-server's", "broken", "--api-key")]
)
def test_the_doctor_asks_whether_a_server_answers(server: Running, key: str, state: str, word: str) -> None:
    from maskmend.clients.doctor.examination import _probe

    (check,) = _probe("server", "there", [server.url, "30"], 60, key)
    assert (check.name, check.state) == ("there", state)
    assert word in check.said + check.remedy
    assert key not in check.said + check.remedy

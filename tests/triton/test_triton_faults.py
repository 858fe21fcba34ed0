"""A real Triton that is killed, a client that is killed, and a gateway before a Triton that goes away."""

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

import httpx
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the triton extra")
pytest.importorskip("fastapi", reason="a gateway needs the serve extra")
pytest.importorskip("onnxruntime", reason="results are compared with ONNX Runtime in process")

import real_triton
import running as services
from real_triton import Triton
from small_job import Run, SmallJob

# Each photograph is held back for a moment, so that what happens comes midway; and each that is opened leaves a line.
SLOW = """
import time, maskmend.clients.job as j
old = j._prepared
def slow(masks, numbers, *more):
    time.sleep(0.5)
    with open({noted!r}, "a") as noted:
        noted.write(f"{{numbers[0]}}\\n")
    return old(masks, numbers, *more)
j._prepared = slow
from maskmend.clients.cli import main
main()
"""


@pytest.fixture
def triton(repository: Path, tmp_path: Path) -> Iterator[Triton]:
    with real_triton.running(repository, tmp_path) as found:
        yield found


@pytest.fixture
def wanted(run: Run, job: SmallJob, tmp_path: Path) -> bytes:
    """The output of the job, in process."""
    output = tmp_path / "wanted.json"
    done = run(*command(job, output), "--runtime", "onnx")
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


def command(job: SmallJob, output: Path) -> list[str | Path]:
    return ["refine", job.coarse, "--images", job.images, "--annotations", job.truth, "-o", output]


def start(job: SmallJob, output: Path, noted: Path, *more: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", SLOW.format(noted=str(noted)), *map(str, command(job, output)), *more]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})


def until_images_are_done(output: Path, count: int, child: subprocess.Popen[str]) -> Path:
    """Wait for a journal with its first line and so many images."""
    journal = output.with_name(output.name + ".partial.jsonl")
    until = time.monotonic() + 90
    while time.monotonic() < until and child.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 1 + count:
            return journal
        time.sleep(0.02)
    raise AssertionError(f"the job did not come so far: {child.communicate()[1] if child.poll() is not None else ''}")


def test_a_triton_that_comes_back_is_waited_for(triton: Triton, job: SmallJob, wanted: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    child = start(job, output, tmp_path / "noted", "--runtime", "triton", "--triton-url", f"{triton.grpc}?wait_s=60")
    until_images_are_done(output, 1, child)
    triton.kill()
    time.sleep(1)
    triton.start()
    _, said = child.communicate(timeout=90)
    assert child.returncode == 0, said
    assert "8 of 8 records refined" in said
    assert output.read_bytes() == wanted
    # Each photograph was worked on once.
    assert len((tmp_path / "noted").read_text().split()) == 4


def test_a_triton_that_stays_away_leaves_a_job_to_resume(
    triton: Triton, run: Run, job: SmallJob, wanted: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    child = start(job, output, tmp_path / "noted", "--runtime", "triton", "--triton-url", f"{triton.http}?wait_s=2")
    journal = until_images_are_done(output, 1, child)
    triton.kill()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "--resume" in said
    assert "no Triton answered" in said
    assert "Traceback" not in said
    assert not output.exists()
    done = journal.read_bytes().count(b"\n") - 1
    assert done >= 1
    triton.start()
    again = start(
        job, output, tmp_path / "again", "--runtime", "triton", "--triton-url", f"{triton.http}?wait_s=2", "--resume"
    )
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert output.read_bytes() == wanted
    assert not journal.exists()
    # What was noted as done was not done again.
    assert len((tmp_path / "again").read_text().split()) == 4 - done


def test_a_client_that_is_killed_goes_on_where_it_was(
    triton: Triton, job: SmallJob, wanted: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    options = ("--runtime", "triton", "--triton-url", f"{triton.grpc}?shared_memory=1")
    child = start(job, output, tmp_path / "noted", *options)
    journal = until_images_are_done(output, 2, child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    done = journal.read_bytes().count(b"\n") - 1
    again = start(job, output, tmp_path / "again", *options, "--resume")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    assert output.read_bytes() == wanted
    assert len((tmp_path / "again").read_text().split()) == 4 - done


def test_a_gateway_is_ready_while_a_triton_is_there(triton: Triton, tmp_path: Path) -> None:
    flags = ("--runtime", "triton", "--triton-url", triton.grpc)
    with services.running(tmp_path / "log", *flags, grpc=False) as gateway:
        model = httpx.get(f"{gateway.url}/v1/models").json()["models"][0]
        assert (model["runtime"], model["runtime_version"]) == ("triton", "2.51.0")
        assert gateway.refine().status_code == 200
        assert metric(gateway, "maskmend_triton_circuit") == [0]
        triton.kill()
        answer = gateway.refine()
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in answer.text
        assert metric(gateway, "maskmend_triton_circuit") != [0]
        ready = httpx.get(f"{gateway.url}/healthz/ready", timeout=30)
        assert ready.status_code == 503
        assert "no Triton answers" in ready.json()["message"]
        assert httpx.get(f"{gateway.url}/healthz/live").status_code == 200
        triton.start()
        until = time.monotonic() + 30
        while httpx.get(f"{gateway.url}/healthz/ready", timeout=30).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert gateway.refine().status_code == 200
        assert metric(gateway, "maskmend_triton_circuit") == [0]
        assert metric(gateway, 'maskmend_triton_requests_total{outcome="failed"')[0] > 0
        # The log says which server it was, and no request failed for another reason.
        lines = [json.dumps(line) for line in gateway.lines()]
        assert any(f"127.0.0.1:{triton.grpc_port}" in line for line in lines)
        assert not any("Traceback" in line for line in lines)


def metric(gateway: Any, name: str) -> list[float]:
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)]

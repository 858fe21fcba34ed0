"""A Triton that goes while something hangs on it: a job, a request of the service."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the triton extra")
pytest.importorskip("fastapi", reason="the service needs the serve extra")

from fake_triton import fake
from small_job import SmallJob

from maskmend.clients import Refiner
from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import JobSummary, run_job
from maskmend.models.zoo import resolve_weights
from maskmend.patcher.errors import JobError, RuntimeLostError
from maskmend.service.batcher import Batcher, Ticket
from maskmend.service.errors import UnavailableError, network_error
from maskmend.service.served import Served


def refined(job: SmallJob, output: Path, url: str, **more: Any) -> JobSummary:
    backend = LocalBackend(Refiner(runtime="triton", triton_url=f"{url}?wait_s=0.5"))
    return run_job(job.coarse, job.images, output, backend, annotations=job.truth, **more)


def test_a_job_ends_and_can_be_resumed(job: SmallJob, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.json", tmp_path / "out.json"
    with fake() as server:
        refined(job, whole, server.url)
        server.requests = 0

        def until_it_fails(done: int, records: int) -> None:
            server.behaviour.fails = done >= 4

        with pytest.raises(JobError, match=r"no Triton answered.*--resume"):
            refined(job, output, server.url, progress=until_it_fails)
        assert not output.exists()
        # Nothing was noted as failed: the first two images are done, the others are as if never begun.
        assert (tmp_path / "out.json.partial.jsonl").read_bytes().count(b"\n") == 3
        server.behaviour.fails = False
        assert refined(job, output, server.url, resume=True).errors == []
    assert output.read_bytes() == whole.read_bytes()


def test_all_requests_of_a_batch_are_told_at_once() -> None:
    calls = []
    together = threading.Barrier(3, timeout=30)

    def forward(patches: np.ndarray) -> np.ndarray:
        calls.append(len(patches))
        raise RuntimeLostError("no Triton answered in 2 s of trying: grpc://10.1.2.3:8001: refused", retry_after=7)

    batcher = Batcher(forward, max_batch=64, max_delay=1.0)
    errors: list[Exception] = []

    def ask() -> None:
        together.wait()
        try:
            batcher.run(np.zeros((2, 4, 8, 8), np.float32), Ticket())
        except UnavailableError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    batcher.close()
    assert len(errors) == 3
    # Waited for once, not once for each request. (Three would be a batch each.)
    assert len(calls) <= 2
    for error in errors:
        assert getattr(error, "retry_after", None) == 7
        assert "10.1.2.3" not in str(error)


def test_weights_that_a_server_gets_later_are_taken_then(tmp_path: Path) -> None:
    """Only the manifest is needed here; the servers have the network."""
    manifest = tmp_path / "bpr-small.json"
    shipped = resolve_weights("bpr-small")
    shutil.copy(shipped.folder / manifest.name, manifest)
    fresh = "1" * 64
    with fake() as server:
        served = Served([str(manifest)], runtime="triton", triton_url=f"{server.url}?wait_s=0&start_s=0")
        try:
            assert served.reload() == {}
            manifest.write_text(manifest.read_text().replace(shipped.manifest.sha256["onnx"], fresh))
            for _ in range(2):
                assert "of weights" in served.reload()["bpr-small"]
            server.behaviour.sha = fresh
            assert served.reload() == {"bpr-small": ""}
            assert served.list()[0].sha256 == fresh
            assert served.reload() == {}
        finally:
            served.close()


def test_what_a_request_is_told() -> None:
    lost = network_error(RuntimeLostError("x", retry_after=3))
    assert (lost.status, lost.grpc, lost.code, lost.retry_after) == (503, "UNAVAILABLE", "unavailable", 3)
    assert network_error(MemoryError()).status == 503
    assert network_error(ValueError("x")).status == 500

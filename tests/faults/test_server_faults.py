"""Faults round a server that are not in what it is sent: no more files, no more memory, a process that stands still."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="a real server needs the serve extra")

from running import Running, png, running

from maskmend.service.errors import error_body, foreseen, grpc_status, http_status

FILES = 200
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that may have few files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
        try:
            found = stack.enter_context(running(tmp_path_factory.mktemp("server") / "log", "--threads", "1"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        yield found


def test_more_connections_than_files_pass(server: Running) -> None:
    wanted = server.refine().json()["instances"]
    with httpx.Client(base_url=server.url, timeout=30) as kept, ExitStack() as stack:
        assert kept.get("/healthz/live").status_code == 200
        for _ in range(2 * FILES):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        time.sleep(1)
        # Whoever is connected already is served as ever.
        assert kept.get("/healthz/live").status_code == 200
        assert sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir()) <= FILES
    until = time.monotonic() + 30
    while True:
        try:
            assert server.refine().json()["instances"] == wanted
            break
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.2)
    assert server.process.poll() is None
    # It says so, and does not fill a disk with it.
    said = [line for line in server.lines() if "no more connections" in str(line["message"])]
    assert 1 <= len(said) <= 4
    assert server.log.stat().st_size < 100_000


def test_memory_that_runs_out_is_a_503(server: Running) -> None:
    wanted = server.refine().json()["instances"]
    process = server.process.pid
    used = int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
    large = png(np.zeros((7000, 7000, 3), np.uint8))
    files, data = {"image": large}, {"masks": json.dumps([[[10, 10, 90, 12, 50, 80]]])}
    resource.prlimit(process, resource.RLIMIT_AS, (used + 80_000_000, resource.RLIM_INFINITY))
    try:
        answer = httpx.post(f"{server.url}/v1/refine", files=files, data=data, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert "memory" in answer.json()["message"]
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        resource.prlimit(process, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert server.refine().json()["instances"] == wanted


def test_memory_errors_have_their_status() -> None:
    told = foreseen(MemoryError("secret"))
    assert (http_status(told), grpc_status(told)) == (503, "UNAVAILABLE")
    assert "secret" not in error_body(MemoryError("secret"), "id").message


def test_a_server_that_stood_still_goes_on(server: Running) -> None:
    wanted = server.refine().json()["instances"]
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(server.refine) for _ in range(4)]
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        assert not all(one.done() for one in asked)
        server.process.send_signal(signal.SIGCONT)
        for one in asked:
            assert one.result(60).json()["instances"] == wanted


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--port", port, "--grpc-port", "-1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_folder_for_temporary_files_is_said_before_workers_die_of_it(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    command = [
        sys.executable,
        "-m",
        "maskmend.clients.cli",
        "serve",
        "--port",
        "0",
        "--grpc-port",
        "-1",
        "--workers",
        "2",
    ]
    try:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 2, done.stderr
    assert "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr

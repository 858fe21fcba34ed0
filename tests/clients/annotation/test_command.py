from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the backend needs the serve extra")

from small_job import Run

REPOSITORY = Path(__file__).resolve().parents[3]


def test_unusable_options_are_refused(run: Run, tmp_path: Path) -> None:
    for arguments, word in (
        ([], "--images or --label-studio-url"),
        (["--images", "nowhere"], "not a folder"),
        (["--images", tmp_path, "--basic-auth-user", "me"], "BASIC_AUTH_PASS"),
        (["--label-studio-url", "ftp://x"], "plain http"),
        (["--images", tmp_path, "--weights", "none-such"], "none-such"),
    ):
        done = run("label-studio", *arguments)
        assert done.returncode == 2, done.stderr
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_the_backend_starts_and_stops() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "maskmend.clients.cli", "label-studio", "--port", str(port), "--threads", "1"]
    environment = {**os.environ, "BASIC_AUTH_USER": "me", "BASIC_AUTH_PASS": "secret"}
    process = subprocess.Popen([*command, "--images", str(REPOSITORY / "samples" / "images")], env=environment)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                status = 200
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = 0
            if status:
                break
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        assert status == 401, "nobody gets in without the password"
        request = urllib.request.Request(f"http://127.0.0.1:{port}/health")
        request.add_header("authorization", "Basic bWU6c2VjcmV0")
        assert json.load(urllib.request.urlopen(request, timeout=5))["status"] == "UP"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert process.returncode in (0, -signal.SIGTERM)


def test_an_export_is_refined_as_any_other_file(run: Run, tmp_path: Path) -> None:
    fixtures = REPOSITORY / "tests" / "clients" / "formats" / "fixtures"
    jobs = {
        "label-studio/export.json": (REPOSITORY / "samples" / "images", "out.json"),
        "cvat/annotations.xml": (REPOSITORY / "samples" / "images", "out.xml"),
        "labelme/annotations": (fixtures / "labelme" / "photos", "out"),
    }
    for source, (images, name) in jobs.items():
        done = run("refine", fixtures / source, "--images", images, "--output", tmp_path / name, "--threads", "1")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).exists()
        if (fixtures / source).is_file():
            assert (tmp_path / name).read_bytes() != (fixtures / source).read_bytes()

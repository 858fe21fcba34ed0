"""Requests made up from the OpenAPI document: whatever they are, no answer is the server's own fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import Running


def test_no_request_that_the_document_allows_or_forbids_is_a_server_error(server: Running, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or shutil.which("schemathesis")
    if program is None:
        pytest.skip("schemathesis is not installed")
    command = [program, "run", f"{server.url}/openapi.json", "--checks", "not_a_server_error", "--seed", "1"]
    command += [
        "--max-examples",
        "25",
        "--phases",
        "examples,coverage,fuzzing",
        "--request-timeout",
        "60",
        "--no-color",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert server.process.poll() is None
    assert server.refine().status_code == 200

"""What `--engine ray` refuses before any cluster is looked for; none of it needs ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from small_job import SmallJob
from typer.testing import CliRunner

from maskmend.clients.cli.app import app
from maskmend.patcher.errors import JobError, OptionError


def refine(job: SmallJob, output: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["refine", str(job.coarse), "--images", str(job.images), "-o", str(output), *more])


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--engine", "abacus"), "--engine is 'abacus'"),
        (("--engine", "ray", "--server", "http://127.0.0.1:9"), "--engine is for refining without --server"),
        (("--engine", "local", "--server", "http://127.0.0.1:9", "--workers", "2"), "--workers"),
        (("--workers", "2"), "--workers is for --engine ray"),
        (("--ray-address", "auto"), "--ray-address is for --engine ray"),
        (("--gpus-per-worker", "1"), "--gpus-per-worker is for --engine ray"),
        (("--engine", "ray", "--timeout", "5"), "--timeout is for --server"),
        (("--engine", "ray", "--workers", "0"), "--workers is 0"),
        (("--engine", "ray", "--threads", "0"), "--threads is 0"),
        (("--engine", "ray", "--gpus-per-worker", "-1"), "--gpus-per-worker is -1"),
    ],
)
def test_options_that_do_not_go_together(job: SmallJob, tmp_path: Path, more: tuple[str, ...], word: str) -> None:
    done = refine(job, tmp_path / "out.json", *more)
    assert isinstance(done.exception, OptionError)
    assert word in str(done.exception)
    assert not list(tmp_path.glob("out.json*"))


def test_without_ray_the_package_is_named(job: SmallJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    # Otherwise set for the whole process.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    done = refine(job, tmp_path / "out.json", "--engine", "ray")
    assert isinstance(done.exception, JobError)
    assert "pip install 'maskmend[ray]'" in str(done.exception)

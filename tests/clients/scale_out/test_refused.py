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
        (("--engine", "ray", "--gpus-per-worker", "1.5"), "Ray takes whole numbers"),
        (("--engine", "ray", "--gpus-per-worker", "0.33333"), "up to four decimals"),
    ],
)
def test_options_that_do_not_go_together(job: SmallJob, tmp_path: Path, more: tuple[str, ...], word: str) -> None:
    done = refine(job, tmp_path / "out.json", *more)
    assert isinstance(done.exception, OptionError)
    assert word in str(done.exception)
    assert not list(tmp_path.glob("out.json*"))


@pytest.mark.parametrize("text", ["[1]", "null", '[{"nms": 0.5}]', '"nms"'])
def test_a_config_file_that_holds_no_options(job: SmallJob, tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(text)
    done = refine(job, tmp_path / "out.json", "--config", str(config))
    assert isinstance(done.exception, OptionError)
    assert "holds no options" in str(done.exception)


def test_a_shipped_name_is_no_folder_of_that_name(job: SmallJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else workers would be given another set than `--engine local` takes."""
    from contextlib import ExitStack

    from maskmend.clients import ray_engine
    from maskmend.clients.cli.refine_backends import on_ray

    asked: list[Any] = []
    monkeypatch.setattr(
        ray_engine, "RayBackend", lambda options, **more: asked.append(options["weights"]) or ExitStack()
    )
    monkeypatch.chdir(job.images)
    for name in ("bpr-small", "mine"):
        Path(name).mkdir()
        with ExitStack() as stack:
            on_ray(stack, {"weights": name}, None, 1, None, 0.0)
    assert asked == ["bpr-small", str((job.images / "mine").resolve())]


def test_without_ray_the_package_is_named(job: SmallJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    # Otherwise set for the whole process.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    done = refine(job, tmp_path / "out.json", "--engine", "ray")
    assert isinstance(done.exception, JobError)
    assert "pip install 'maskmend[ray]'" in str(done.exception)

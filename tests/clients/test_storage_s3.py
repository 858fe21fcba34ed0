"""A job with everything at s3:// URLs, at a server on this machine that speaks S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_job import SmallJob
from typer.testing import CliRunner

from maskmend.clients.cli.app import app

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
server = pytest.importorskip("moto.server", reason="moto[server] is not installed")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 that is empty but for a bucket."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "k"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    _, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    found = s3fs.S3FileSystem()
    found.mkdir("bucket")
    yield found
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def test_a_job_at_s3(s3: Any, job: SmallJob, tmp_path: Path) -> None:
    truth, records = json.loads(job.truth.read_text()), json.loads(job.coarse.read_text())
    truth["images"] += [{"id": 9, "file_name": "../secret.png"}, {"id": 10, "file_name": "none.png"}]
    records += [{**records[1], "image_id": 9}, {**records[1], "image_id": 10}]
    job.truth.write_text(json.dumps(truth))
    job.coarse.write_text(json.dumps(records))
    for path in job.images.iterdir():
        s3.put_file(str(path), f"bucket/photos/{path.name}")
    s3.put_file(str(job.images / "photo_1.png"), "bucket/secret.png")
    (tmp_path / "journal").mkdir()
    (tmp_path / "secret.png").write_bytes(b"here too")
    s3.put_file(str(job.coarse), "bucket/coarse.json")
    s3.put_file(str(job.truth), "bucket/truth.json")

    def refine(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, ["refine", *map(str, arguments), "--threads", "1"])

    here = refine(job.coarse, "--images", job.images, "--annotations", job.truth, "-o", tmp_path / "out.json")
    there = refine(
        *("s3://bucket/coarse.json", "--images", "s3://bucket/photos/", "--annotations", "s3://bucket/truth.json"),
        *("-o", "s3://bucket/done/out.json", "--journal", tmp_path / "journal"),
    )
    assert (here.exit_code, there.exit_code) == (3, 3), f"{there.output} {there.exception!r}"
    s3.invalidate_cache()
    assert s3.cat_file("bucket/done/out.json") == (tmp_path / "out.json").read_bytes()
    errors = s3.cat_file("bucket/done/out.json.errors.jsonl")
    assert len(errors.splitlines()) == 2
    assert errors == (tmp_path / "out.json.errors.jsonl").read_bytes()
    assert sorted(s3.ls("bucket/done")) == ["bucket/done/out.json", "bucket/done/out.json.errors.jsonl"]

"""A job of more images, and a Ray on this machine."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator

import pytest
from small_job import SmallJob

from maskmend.clients.ray_engine import _connected


@pytest.fixture
def long_job(job: SmallJob) -> SmallJob:
    """Twelve photographs, all different files: the four of the small job three times."""
    truth, records = json.loads(job.truth.read_text()), list(job.records)
    images = list(truth["images"])
    for turn in (1, 2):
        for image in images:
            name = f"again_{turn}_{image['file_name']}"
            shutil.copy(job.images / image["file_name"], job.images / name)
            with (job.images / name).open("ab") as file:
                file.write(bytes([turn]))
            truth["images"].append({**image, "id": image["id"] + 100 * turn, "file_name": name})
        records += [{**record, "image_id": record["image_id"] + 100 * turn} for record in job.records]
    job.truth.write_text(json.dumps(truth))
    job.coarse.write_text(json.dumps(records))
    return SmallJob(job.images, job.truth, job.coarse, records)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a Ray with two CPUs that this process is connected to, one for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        # Inherited by the drivers that the tests start. The token is what a job that starts a Ray of its own has.
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # With its tries, for a machine that is busy.
        ray, _ = _connected(None, 2)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()

"""A real Triton on the CPU: the same bits as ONNX Runtime in process, by every way there is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the triton extra")
pytest.importorskip("onnxruntime", reason="results are compared with ONNX Runtime in process")

import real_triton
from real_triton import Triton
from small_job import Run, SmallJob

from maskmend.clients import Refiner
from maskmend.models.runtimes import create_runtime
from maskmend.models.runtimes.triton import TritonRuntime
from maskmend.models.triton_repository import RepositoryOptions, write_repository
from maskmend.models.zoo import resolve_weights
from maskmend.patcher.errors import RuntimeLostError

WAYS = ("grpc", "http", "grpc-shared", "http-shared")


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with real_triton.running(repository, tmp_path_factory.mktemp("log")) as found:
        yield found


def url(triton: Triton, way: str) -> str:
    scheme, _, shared = way.partition("-")
    return (triton.grpc if scheme == "grpc" else triton.http) + ("?shared_memory=1" if shared else "")


def patches(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 4, size, size)).astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_the_same_bits_as_in_process(triton: Triton, way: str) -> None:
    weights = resolve_weights("bpr-small")
    here, there = create_runtime("onnx", weights), TritonRuntime(weights, url=url(triton, way))
    for count in (1, 5, 8, 37):
        given = patches(count, weights.manifest.input_size)
        assert there.run(given).tobytes() == here.run(given).tobytes()


def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    image = rng.integers(40, 110, (180, 240, 3), np.uint8)
    rows, columns = np.indices(image.shape[:2])
    masks = []
    for x in (60, 170):
        disk = (rows - 90) ** 2 + (columns - x) ** 2 < 45**2
        image[disk] = rng.integers(120, 250, 3)
        masks.append(np.roll(disk, (4, -3), (0, 1)))
    return image, np.stack(masks)


@pytest.mark.parametrize("way", WAYS)
def test_masks_are_the_same_as_in_process(triton: Triton, way: str) -> None:
    image, masks = scene()
    here = Refiner(runtime="onnx").refine(image, masks)
    there = Refiner(runtime="triton", triton_url=url(triton, way)).refine(image, masks)
    assert there.rles == here.rles
    assert [found.score for found in there.instances] == [found.score for found in here.instances]
    assert any(found.changed_pixels for found in here.instances)
    assert there.provenance["runtime"] == "triton"
    assert there.provenance["runtime_version"] == "2.51.0"
    assert there.provenance["weights_sha256"] == here.provenance["weights_sha256"]


def test_coco_output_of_the_command_line_is_byte_identical(
    triton: Triton, run: Run, job: SmallJob, tmp_path: Path
) -> None:
    def refine(name: str, *more: str) -> bytes:
        arguments = ["refine", job.coarse, "--images", job.images, "--annotations", job.truth]
        done = run(*arguments, "-o", tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
        return (tmp_path / name).read_bytes()

    wanted = refine("onnx.json", "--runtime", "onnx")
    assert wanted != job.coarse.read_bytes()
    for way in ("grpc", "http", "grpc-shared"):
        got = refine(f"{way}.json", "--runtime", "triton", "--triton-url", url(triton, way))
        assert got == wanted, way


def test_a_region_leaves_nothing_behind(triton: Triton) -> None:
    before = _regions()
    weights = resolve_weights("bpr-small")
    running = TritonRuntime(weights, url=url(triton, "grpc-shared"), threads=2)
    running.run(patches(32, weights.manifest.input_size))
    # The names are gone while it still works; the server keeps what it opened until it is told otherwise.
    assert _regions() <= before
    regions = httpx.get(f"{triton.http}/v2/systemsharedmemory/status").json()
    assert len([region for region in regions if region["name"].startswith(f"maskmend-{os.getpid()}-")]) >= 1
    del running
    until = time.monotonic() + 10
    while regions and time.monotonic() < until:
        regions = httpx.get(f"{triton.http}/v2/systemsharedmemory/status").json()
    assert not regions


def _regions() -> set[str]:
    """What Python's shared memory has in the file system now."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


def test_weights_that_the_server_has_not_are_refused(triton: Triton) -> None:
    for way in ("grpc", "http"):
        address = url(triton, way)
        with pytest.raises(RuntimeLostError, match="bpr-base"):
            Refiner(weights="bpr-base", runtime="triton", triton_url=f"{address}?start_s=0")
        with pytest.raises(
            RuntimeLostError, match=r"its model is of weights .*, not of bpr-base.*maskmend export bpr-base"
        ):
            Refiner(weights="bpr-base", runtime="triton", triton_url=f"{address}?model=bpr-small")


def test_a_refused_request_says_why(triton: Triton) -> None:
    """What Triton itself refuses: a patch of another size."""
    weights = resolve_weights("bpr-small")
    running = TritonRuntime(weights, url=f"{triton.grpc}?wait_s=0")
    with pytest.raises(RuntimeLostError, match="INVALID_ARGUMENT"):
        running.run(np.zeros((4, 4, 32, 32), np.float32))


def test_triton_counts_what_it_ran(triton: Triton) -> None:
    weights = resolve_weights("bpr-small")
    given = patches(32, weights.manifest.input_size)
    TritonRuntime(weights, url=triton.grpc).run(given)
    stats: dict[str, Any] = httpx.get(f"{triton.http}/v2/models/bpr-small/stats").json()["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] > 0
    assert stats["inference_stats"]["fail"]["count"] == 0
    # Batches that Triton put together are among them, and none is larger than the configuration allows.
    assert max(int(batch["batch_size"]) for batch in stats["batch_stats"]) <= 8


def test_instance_refiner(tmp_path: Path) -> None:
    """The other refiner's network, alone in a repository of its own."""
    pytest.importorskip("tritonclient.http", reason="needs the triton extra")
    weights = resolve_weights("transfiner-small")
    write_repository(weights, tmp_path / "repository", RepositoryOptions("python", max_batch=8))
    with real_triton.running(tmp_path / "repository", tmp_path) as other:
        given = patches(4, weights.manifest.input_size)
        got = TritonRuntime(weights, url=other.http).run(given)
        assert got.tobytes() == create_runtime("onnx", weights).run(given).tobytes()


def test_no_runtime_in_process_is_needed(triton: Triton, tmp_path: Path) -> None:
    """Nothing of a runtime in process is loaded: a gateway can do without."""
    code = (
        "import sys\n"
        "for name in ('onnxruntime', 'openvino', 'torch'): sys.modules[name] = None\n"
        "from maskmend.clients import Refiner\n"
        f"print(Refiner(runtime='triton', triton_url={triton.grpc!r}).provenance['runtime'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "triton", done.stderr

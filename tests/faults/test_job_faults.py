"""Faults round a job of `maskmend refine`, as they are: real processes, full disks, files that change under its hands."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_job import SmallJob

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits, signals and capabilities are Linux's")

SLOWLY = (
    "import time, maskmend.clients.job as j; old = j._prepared\n"
    "def slow(*a):\n    time.sleep(0.3); return old(*a)\n"
    "j._prepared = slow\nfrom maskmend.clients.cli import main; main()"
)
"""Each photograph is held back for a moment, so that a fault comes midway."""
PLAINLY = "from maskmend.clients.cli import main; main()"
_WHOLE: list[bytes] = []


def start(job: SmallJob, output: Path, *more: str, code: str = SLOWLY, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, "refine", job.coarse, "--images", job.images, "--annotations", job.truth]
    arguments = map(str, [*command, "-o", output, "--threads", "1", *more])
    return subprocess.Popen([*arguments], stderr=subprocess.PIPE, text=True, **options)


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and what was said, which is never a traceback."""
    _, said = child.communicate(timeout=120)
    assert "Traceback" not in said, said
    return child.returncode, said


def refined(job: SmallJob, output: Path, *more: str, **options: Any) -> tuple[int, str]:
    return ended(start(job, output, *more, code=PLAINLY, **options))


def whole(job: SmallJob) -> bytes:
    """What the job makes when nothing goes wrong; the same in every test."""
    if not _WHOLE:
        output = job.coarse.with_name("whole.json")
        assert refined(job, output)[0] == 0
        _WHOLE.append(output.read_bytes())
    return _WHOLE[0]


def journal_of(output: Path) -> Path:
    return output.with_name(output.name + ".partial.jsonl")


def wait_for_the_first_image(child: subprocess.Popen[str], output: Path) -> None:
    until = time.monotonic() + 90
    while not journal_of(output).exists() or journal_of(output).read_bytes().count(b"\n") < 2:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def held(child: subprocess.Popen[str], output: Path) -> Iterator[None]:
    """Stop a job when its first image is done; let it go on afterwards."""
    wait_for_the_first_image(child, output)
    child.send_signal(signal.SIGSTOP)
    yield
    child.send_signal(signal.SIGCONT)


def test_photographs_that_change_while_the_job_stands_still(job: SmallJob, tmp_path: Path) -> None:
    wanted, output = json.loads(whole(job)), tmp_path / "out.json"
    child = start(job, output)
    with held(child, output):
        last = job.images / "photo_4.png"
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    code, said = ended(child)
    assert code == 3, said
    errors = [json.loads(line) for line in (tmp_path / "out.json.errors.jsonl").read_text().splitlines()]
    found = json.loads(output.read_text())
    lost = {n for n, record in enumerate(job.records) if record["image_id"] == 4}
    assert {error["index"] for error in errors} == lost
    assert {error["code"] for error in errors} == {"invalid_image"}
    assert all(found[n] == (job.records if n in lost else wanted)[n] for n in range(len(found)))


def test_two_jobs_do_not_write_into_one_journal(job: SmallJob, tmp_path: Path) -> None:
    wanted, output = whole(job), tmp_path / "out.json"
    child = start(job, output)
    with held(child, output):
        code, said = refined(job, output, "--nms", "0.4")
        assert (code, "still running" in said) == (2, True), said
    assert ended(child)[0] == 0
    assert output.read_bytes() == wanted


def test_ctrl_c_leaves_a_job_to_resume(job: SmallJob, tmp_path: Path) -> None:
    wanted, output = whole(job), tmp_path / "out.json"
    # Some that run tests have their children pass over it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + SLOWLY
    child = start(job, output, code=code)
    wait_for_the_first_image(child, output)
    child.send_signal(signal.SIGINT)
    assert ended(child)[0] != 0
    assert not output.exists()
    assert refined(job, output, "--resume")[0] == 0
    assert output.read_bytes() == wanted
    assert not journal_of(output).exists()


def limited(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_journal_that_does_not_fit_leaves_a_job_to_resume(job: SmallJob, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    code, said = refined(job, output, preexec_fn=limited(2000))
    assert code == 2
    assert "File too large" in said
    assert "--resume" in said
    assert [path.name for path in tmp_path.glob("out.json*")] == ["out.json.partial.jsonl"]
    assert journal_of(output).read_bytes().count(b"\n") >= 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, as large as is said; called again it is made as large."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def disk(size: str) -> Path:
        options = f"size={size},remount" if os.path.ismount(folder) else f"size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("a file system cannot be mounted here")
        return folder

    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    yield disk
    subprocess.run(["umount", folder], capture_output=True, check=False)


def test_a_full_disk_leaves_a_job_to_resume(job: SmallJob, tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    wanted = whole(job)
    # Room for the journal, and not for the output beside it.
    output = small_disk("8k") / "out.json"
    code, said = refined(job, output)
    assert code == 2
    assert "No space left on device" in said
    assert "--resume" in said
    assert [path.name for path in output.parent.iterdir()] == ["out.json.partial.jsonl"]
    small_disk("1m")
    assert refined(job, output, "--resume")[0] == 0
    assert output.read_bytes() == wanted


def without_rights() -> None:
    """Root may write anywhere; this child may not."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def test_a_folder_that_may_not_be_written_is_said_before_the_work(job: SmallJob, tmp_path: Path) -> None:
    folder = tmp_path / "shut"
    folder.mkdir(mode=0o555)
    code, said = refined(job, folder / "out.json", preexec_fn=without_rights)
    assert code == 2
    assert f"{folder} cannot be written: Permission denied" in said
    assert not list(folder.iterdir())


def test_nobody_has_to_listen(job: SmallJob, tmp_path: Path) -> None:
    wanted, output = whole(job), tmp_path / "out.json"

    def deaf() -> None:
        # The next files that are opened would get these numbers, and what is printed.
        os.close(1)
        os.close(2)

    child = start(job, output, code=PLAINLY, preexec_fn=deaf)
    assert ended(child)[0] == 0
    assert output.read_bytes() == wanted


def test_whoever_reads_the_output_may_leave() -> None:
    command = [sys.executable, "-m", "maskmend.clients.cli", "models", "list"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) in (0, 1)
    assert said == b""


SHORT_OF_MEMORY = """
import resource, maskmend.clients.job as j
old = j._prepared
def short(masks, numbers, *more):
    if masks.instances[numbers[0]].image == "photo_4.png":
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, resource.RLIM_INFINITY))
    return old(masks, numbers, *more)
j._prepared = short
"""


def test_memory_that_runs_out_leaves_a_job_to_resume(job: SmallJob, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    last = job.images / "photo_4.png"
    cv2.imwrite(str(last), np.zeros((8000, 8000, 3), np.uint8))
    code, said = ended(start(job, output, code=SHORT_OF_MEMORY + PLAINLY))
    assert code == 2, said
    assert "not enough memory" in said
    assert not output.exists()
    assert journal_of(output).read_bytes().count(b"\n") >= 2


CUT_SHORT = """
import os, sys
from pathlib import Path
import numpy as np
from maskmend.clients import Refiner
from maskmend.models import resolve_weights
from maskmend.models.exporters import export_weights
weights = resolve_weights("bpr-small")
weights = export_weights(weights, Path(sys.argv[1]), form="openvino", precision="fp32", name="mine").weights
refiner = Refiner(weights=str(Path(sys.argv[1]) / f"{weights.manifest.name}.json"), runtime="openvino", threads=1)
mask = np.zeros((90, 120), bool)
mask[30:60, 30:80] = True
image = np.full((90, 120, 3), 90, np.uint8)
image[28:64, 33:80] = 200
before = refiner.refine(image, mask).rles
for kind in ("bin", "xml"):
    os.truncate(weights.file(kind), 10)
assert refiner.refine(image, mask).rles == before
"""


def test_weights_that_are_cut_short_under_way_change_nothing(tmp_path: Path) -> None:
    """OpenVINO's own files, which it would map into memory."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

"""Several images under way at a time: order, errors, bounds, an early end, and the same results as one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_job import Run, SmallJob

from maskmend.clients import Refiner, RefineResult
from maskmend.clients.backends import LocalBackend
from maskmend.clients.job import run_job
from maskmend.clients.side_by_side import side_by_side
from maskmend.patcher.errors import ImageError, MaskmendError, OptionError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
Check = Callable[[], None]


def result(number: int) -> RefineResult:
    return RefineResult(number, 1, [], {})


def heights(results: Any) -> list[int]:
    return [found.height for found in results]


def many() -> list[tuple[Any, Any]]:
    masks: dict[str, list[Any]] = {}
    for record in json.loads((SAMPLES / "coarse.json").read_text()):
        masks.setdefault(record["file_name"], []).append(record["segmentation"])
    return [(SAMPLES / "images" / name, found) for name, found in masks.items()]


def test_results_come_in_order_whoever_is_done_first() -> None:
    later = [threading.Event() for _ in range(8)]

    def work(image: int, masks: Any, check: Check) -> RefineResult:
        # Each waits for the one behind it, as far as that is under way with it.
        if image % 2 == 0:
            assert later[image + 1].wait(20)
        later[image].set()
        return result(image)

    assert heights(side_by_side(work, ((n, None) for n in range(8)), 2, return_exceptions=False)) == list(range(8))


def test_an_error_stays_with_its_image() -> None:
    def work(image: int, masks: Any, check: Check) -> RefineResult:
        if image == 1:
            raise ImageError("bad")
        return result(image)

    items = [(n, None) for n in range(4)]
    found = list(side_by_side(work, items, 2, return_exceptions=True))
    assert [getattr(each, "height", type(each)) for each in found] == [0, ImageError, 2, 3]
    # Those before it come as if there were one at a time.
    results = side_by_side(work, items, 2, return_exceptions=False)
    assert next(results).height == 0
    with pytest.raises(ImageError, match="bad"):
        next(results)


def test_results_of_the_images_before_come_before_an_error_of_the_items() -> None:
    def items() -> Iterator[tuple[int, None]]:
        yield from ((n, None) for n in range(3))
        raise MaskmendError("no more")

    results = side_by_side(lambda image, masks, check: result(image), items(), 2, return_exceptions=True)
    assert [next(results).height for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MaskmendError, match="no more"):
        next(results)


@pytest.mark.parametrize(("size", "most"), [(1, 3), (2**27, 2)])
def test_images_are_taken_as_there_is_room(size: int, most: int) -> None:
    """One more than threads, and of large ones (memory that nobody touches) fewer."""
    taken = ended = 0
    lock = threading.Lock()
    under_way = []

    def items() -> Iterator[tuple[np.ndarray, None]]:
        nonlocal taken
        for _ in range(12):
            with lock:
                taken += 1
                under_way.append(taken - ended)
            yield np.empty(size, np.uint8), None

    def work(image: np.ndarray, masks: Any, check: Check) -> RefineResult:
        nonlocal ended
        time.sleep(0.01)
        with lock:
            ended += 1
        return result(0)

    assert len(list(side_by_side(work, items(), 2, return_exceptions=False))) == 12
    assert 2 <= max(under_way) <= most


def test_results_that_nobody_takes_stop_the_work() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(image: int, masks: Any, check: Check) -> RefineResult:
        begun.append(image)
        try:
            while image:
                check()
                time.sleep(0.001)
        finally:
            ended.append(image)
        return result(image)

    with closing(side_by_side(work, ((n, None) for n in range(100)), 2, return_exceptions=False)) as results:
        assert next(results).height == 0
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("maskmend-image")]


def test_two_at_a_time_refine_as_one_does() -> None:
    items = many()[:4]
    items.insert(2, (b"no image", []))
    one, two = (list(Refiner(threads=2, concurrency=n).refine_many(items, return_exceptions=True)) for n in (1, 2))
    assert str(one[2]) == str(two[2])
    for a, b in zip(one[:2] + one[3:], two[:2] + two[3:], strict=True):
        assert isinstance(a, RefineResult)
        assert isinstance(b, RefineResult)
        assert a.instances == b.instances
        assert a.timings.keys() == b.timings.keys()
    with pytest.raises(OptionError, match="concurrency"):
        Refiner(threads=1, concurrency=0)


def test_a_refiner_may_be_called_from_several_threads_and_keeps_their_times_apart() -> None:
    refiner, items = Refiner(threads=1), many()[:3]
    wanted = [refiner.refine(*item).instances for item in items]
    before = dict(refiner.stages.seconds)
    found: dict[int, RefineResult] = {}

    def call(number: int) -> None:
        found[number] = refiner.refine(*items[number])

    threads = [threading.Thread(target=call, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n].instances for n in range(3)] == wanted
    spent = sum(found[n].timings["network"] for n in range(3))
    assert refiner.stages.seconds["network"] - before["network"] == pytest.approx(spent)


def test_a_job_writes_the_same_bytes_and_the_journal_in_order(job: SmallJob, tmp_path: Path) -> None:
    (job.images / "photo_2.png").write_bytes(b"not a picture")
    files, orders = [], []
    for number in (1, 2):
        output, done = tmp_path / f"{number}.json", []
        backend = LocalBackend(Refiner(threads=1, concurrency=number))
        run_job(
            job.coarse, job.images, output, backend, annotations=job.truth, progress=lambda n, _, d=done: d.append(n)
        )
        files.append((output.read_bytes(), (tmp_path / f"{number}.json.errors.jsonl").read_bytes()))
        orders.append(done)
    assert files[0] == files[1]
    assert orders[0] == orders[1]


def test_ctrl_c_ends_a_job_that_can_be_resumed(run: Run, job: SmallJob, tmp_path: Path) -> None:
    output, journal = tmp_path / "out.json", tmp_path / "out.json.partial.jsonl"
    # Slowed down in the child, so that the signal lands midway.
    code = (
        # Some that run tests have their children pass over the signal.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import time, maskmend.service.engine as e; old = e.Engine.propose\n"
        "def slow(*a):\n    time.sleep(0.5); yield from old(*a)\n"
        "e.Engine.propose = slow\nfrom maskmend.clients.cli import main; main()"
    )
    shared = ["refine", job.coarse, "--images", job.images, "--threads", "1", "--annotations", job.truth]
    child = subprocess.Popen([*map(str, [sys.executable, "-c", code, *shared, "-o", output])], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode not in (0, -signal.SIGABRT, -signal.SIGSEGV), said.decode()
    assert not output.exists()
    assert journal.read_bytes().count(b"\n") >= 2
    assert run(*shared, "-o", output, "--resume").returncode == 0
    assert run(*shared, "-o", tmp_path / "whole.json").returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.json").read_bytes()

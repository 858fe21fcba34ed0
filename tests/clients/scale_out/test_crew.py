"""How work is handed out and what happens when workers die, on a stand-in for Ray: threads that die when told to."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmend.clients import ray_crew, ray_engine
from maskmend.clients.ray_crew import Crew, Needs
from maskmend.clients.ray_engine import WINDOW, RayBackend
from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import JobError, MaskmendError, WeightsError


class ActorLostError(Exception):
    """What calls of a dead actor end with."""


class TaskError(Exception):
    """What a call ends with in which something went wrong that maskmend has no word for."""


class DeathError(Exception):
    """Raised by a worker that dies."""


class Actor:
    """One thread that does one call after the other, as an actor of Ray."""

    def __init__(self, kind: type) -> None:
        self._worker = kind()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._more = threading.Condition()
        self._alive = True
        threading.Thread(target=self._work, daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self._call(lambda: getattr(self._worker, name)(*given)))

    def _call(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._more:
            if self._alive:
                self._calls.append((future, call))
                self._more.notify()
            else:
                future.set_exception(ActorLostError())
        return future

    def _work(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._calls or not self._alive)
                if not self._alive:
                    return
                future, call = self._calls[0]
            try:
                said = call()
            except DeathError:
                self.die()
                return
            except Exception as error:
                future.set_exception(TaskError(f"a trace\n  of lines\n{error!r}\n"))
                with self._more:
                    self._calls.popleft()
                continue
            with self._more:
                if self._alive:
                    self._calls.popleft()
                    future.set_result(said)

    def die(self) -> None:
        with self._more:
            self._alive = False
            for future, _ in self._calls:
                future.set_exception(ActorLostError())
            self._calls.clear()
            self._more.notify()


def stand_in() -> Any:
    def wait_for(futures: list[Future[Any]], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
        done, rest = wait(futures, timeout, return_when=FIRST_COMPLETED)
        return list(done)[:num_returns], list(rest)

    def remote(kind: type) -> Any:
        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=lambda: Actor(kind)))

    names = ("RayActorError", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "ObjectLostError")
    return SimpleNamespace(
        remote=remote,
        wait=wait_for,
        get=lambda future: future.result(),
        kill=lambda actor: actor.die(),
        exceptions=SimpleNamespace(**dict.fromkeys(names, ActorLostError), RayTaskError=TaskError),
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 5.0}}, {"Alive": False, "Resources": {"CPU": 90.0}}],
    )


def worker(
    begun: list[bytes], dies: Callable[[bytes], bool], said: Callable[[], Any] = lambda: ({"a": 1}, "1")
) -> type:
    class Pretends:
        def begin(self, options: dict[str, Any]) -> Any:
            return said()

        def refine(self, image: bytes, masks: list[Any]) -> RefineResult | MaskmendError:
            begun.append(image)
            time.sleep(random.random() / 500)
            if dies(image):
                raise DeathError
            return (
                MaskmendError("no image") if image == b"bad" else RefineResult(len(image), 1, [], {}, {"network": 0.5})
            )

    return Pretends


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RayBackend]]:
    made: list[RayBackend] = []

    def make(kind: type, **more: Any) -> RayBackend:
        monkeypatch.setattr(ray_crew, "Worker", kind)
        monkeypatch.setattr(ray_engine, "_connected", lambda *given: (stand_in(), False))
        made.append(RayBackend({}, **more))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def heights(results: Any) -> list[int]:
    return [result.height if isinstance(result, RefineResult) else 0 for result in results]


@settings(max_examples=30, deadline=None)
@given(
    deaths=st.dictionaries(st.integers(0, 19), st.integers(1, 4), max_size=6),
    workers=st.integers(1, 4),
)
def test_whoever_dies_all_results_come_in_order(deaths: dict[int, int], workers: int) -> None:
    left, begun = dict(deaths), []
    lock = threading.Lock()

    def dies(image: bytes) -> bool:
        with lock:
            left[len(image)] = left.get(len(image), 0) - 1
            return left[len(image)] >= 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_crew, "Worker", worker(begun, dies))
        patch.setattr(ray_engine, "_connected", lambda *given: (stand_in(), False))
        backend = RayBackend({}, workers=workers)
        results = list(backend.refine_many(((bytes(n), []) for n in range(20)), return_exceptions=True))
        backend.close()
    given_up = {n for n, count in deaths.items() if count >= 3}
    assert heights(results) == [0 if n in given_up else n for n in range(20)]
    assert {n for n, result in enumerate(results) if isinstance(result, MaskmendError)} == given_up
    assert all(result.code == "worker_lost" for result in results if isinstance(result, MaskmendError))
    # Each death costs its own image one more try, and no other image any.
    tried = {n: 1 + min(deaths.get(n, 0), 2) for n in range(20)}
    assert {n: sum(len(image) == n for image in begun) for n in range(20)} == tried
    assert backend.lost == sum(min(count, 3) for count in deaths.values())
    assert backend.again == sum(min(count, 2) for count in deaths.values())


def test_an_answer_that_is_lost_with_its_machine_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class ObjectLostError(Exception):
        pass

    ray, begun, lost = stand_in(), [], []
    ray.exceptions.ObjectLostError = ObjectLostError

    def get(future: Future[Any]) -> Any:
        said = future.result()
        if isinstance(said, RefineResult) and said.height == 3 and lost in ([], [future]):
            lost[:] = [future]
            raise ObjectLostError
        return said

    ray.get = get
    monkeypatch.setattr(ray_crew, "Worker", worker(begun, lambda image: False))
    monkeypatch.setattr(ray_engine, "_connected", lambda *given: (ray, False))
    backend = RayBackend({}, workers=2)
    assert heights(backend.refine_many((bytes(n), []) for n in range(8))) == list(range(8))
    assert (len(lost), backend.lost) == (1, 1)
    assert sum(len(image) == 3 for image in begun) == 2
    backend.close()


def test_images_are_taken_as_there_is_room(engine: Callable[..., RayBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = engine(worker([], lambda image: False), workers=2)
    taken = 0

    def items() -> Iterator[tuple[bytes, list[Any]]]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield bytes(100), []

    assert max(taken - given for given, _ in enumerate(backend.refine_many(items()))) <= 2 * WINDOW
    assert taken == 40
    assert backend.stages.seconds["network"] == 20
    # A few large photographs fill the room as well as many small ones, but one at a time there always is.
    backend = engine(worker([], lambda image: False), workers=1)
    monkeypatch.setattr(ray_engine, "_BYTES", 150)
    taken = 0
    assert max(taken - given for given, _ in enumerate(backend.refine_many(items()))) <= 3
    monkeypatch.setattr(ray_engine, "_BYTES", 1)
    assert len(list(backend.refine_many(items()))) == 40


def test_errors_of_images_are_given_back_or_raised(engine: Callable[..., RayBackend]) -> None:
    backend = engine(worker([], lambda image: False), workers=1)
    items = [(b"1", []), (b"bad", []), (b"333", [])]
    assert heights(backend.refine_many(items, return_exceptions=True)) == [1, 0, 3]
    with pytest.raises(MaskmendError, match="no image"):
        list(backend.refine_many(items))


def test_as_many_workers_as_there_is_room_for(engine: Callable[..., RayBackend]) -> None:
    assert engine(worker([], lambda image: False), threads=2)._crew.size == 2
    with pytest.raises(MaskmendError, match="has 6 CPUs"):
        engine(worker([], lambda image: False), threads=6)
    with pytest.raises(MaskmendError, match=r"and 0\.5 GPUs"):
        engine(worker([], lambda image: False), gpus=0.5)


@pytest.mark.parametrize(
    ("gpus", "each", "room"),
    [([4.0], 1, 4), ([4.0], 2, 2), ([2.0], 0.5, 4), ([2.0], 0.6, 2), ([1.0, 1.0, 1.0], 0.6, 3), ([1.0], 0.1, 10)],
)
def test_parts_of_gpus_are_counted_as_ray_gives_them(gpus: list[float], each: float, room: int) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 64.0, "GPU": count}} for count in gpus]
    assert ray_engine._room(SimpleNamespace(nodes=lambda: nodes), Needs(1, each)) == room


def test_workers_that_cannot_start_end_the_job(engine: Callable[..., RayBackend]) -> None:
    def dies() -> Any:
        raise DeathError

    with pytest.raises(JobError, match="3 workers in a row died"):
        engine(worker([], lambda image: False, dies), workers=1)

    def cannot() -> Any:
        raise ImportError("libvino.so")

    with pytest.raises(JobError, match=r"a worker cannot start: ImportError\('libvino.so'\)"):
        engine(worker([], lambda image: False, cannot), workers=1)
    with pytest.raises(WeightsError, match="none of that name"):
        engine(worker([], lambda image: False, lambda: WeightsError("none of that name")), workers=2)


def test_workers_that_differ_end_the_job(engine: Callable[..., RayBackend]) -> None:
    said = iter([({"runtime": "one"}, "1"), ({"runtime": "other"}, "2")])

    def slowly() -> Any:
        mine = next(said)
        time.sleep(0.1 if mine[1] == "2" else 0)
        return mine

    backend = engine(worker([], lambda image: False, slowly), workers=2)
    assert backend.provenance["runtime"] in ("one", "other")

    def items() -> Iterator[tuple[bytes, list[Any]]]:
        while True:
            yield b"1", []

    with pytest.raises(JobError, match="differ in release of maskmend, runtime"):
        for _ in backend.refine_many(items()):
            pass


def test_no_room_in_the_cluster_is_said_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_crew, "_PATIENCE", 0.05)
    kind = worker([], lambda image: False, lambda: time.sleep(0.5))
    monkeypatch.setattr(ray_crew, "Worker", kind)
    with pytest.raises(JobError, match="no worker has started"):
        Crew(stand_in(), {}, 1, Needs(1, 0.0))

"""`Crew`: the actors of a job. Each holds a `Refiner`; one that dies is replaced, and what it had is done again."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from maskmend.clients.backends import Provenance
from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import JobError, MaskmendError

_EACH = 2
"""Calls that a worker has at a time: the second is there when the first is done."""
_TRIES = 3
"""Workers that may die over one image before it is given up, or while they start before the job is."""
_PATIENCE = 600
"""Seconds until the first worker must have started: a cluster may have to get a machine for it."""


class WorkerLostError(MaskmendError):
    """Worker after worker died over one image."""

    code = "worker_lost"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker takes of the cluster."""

    cpus: int
    gpus: float


@dataclass(eq=False, slots=True)
class Call:
    """One image on its way.

    Attributes:
        image: an encoded file.
        masks: compressed COCO RLE dicts.
        tries: workers that died over it.
        result: what came of it; None while it is under way.
    """

    image: bytes
    masks: list[dict[str, Any]]
    tries: int = 0
    result: RefineResult | MaskmendError | None = None


class Worker:
    """What runs in each actor. Errors of maskmend are given back, not raised: Ray would wrap them."""

    def begin(self, options: dict[str, Any]) -> tuple[Provenance, str] | MaskmendError:
        """Load the network; what it refines with, and the release of maskmend."""
        from maskmend.clients.refiner import Refiner

        try:
            self._refiner = Refiner(**options)
        except MaskmendError as error:
            return error
        return self._refiner.provenance, version("maskmend")

    def refine(self, image: bytes, masks: list[dict[str, Any]]) -> RefineResult | MaskmendError:
        """See `Refiner.refine`."""
        try:
            return self._refiner.refine(image, masks)
        except MaskmendError as error:
            return error


@dataclass(eq=False, slots=True)
class _Actor:
    handle: Any
    ready: bool = False
    calls: deque[Call] = field(default_factory=deque)


class Crew:
    """So many workers, and the calls that they have.

    Args:
        ray: the module, connected to a cluster.
        options: of the `Refiner` that each worker makes.
        size: number of workers.
        needs: of each.

    Attributes:
        size: number of workers.
        provenance: what all of them refine with.
        lost: workers that died and were replaced.
        again: calls that were begun by one of these, and begun again.

    Raises:
        MaskmendError: what kept the first worker from starting.
        JobError: none has started in ten minutes, or they die while they start.
    """

    provenance: Provenance

    def __init__(self, ray: Any, options: dict[str, Any], size: int, needs: Needs) -> None:
        self.size, self.lost, self.again = size, 0, 0
        self._ray, self._options = ray, options
        errors = ray.exceptions
        # A large answer stays on the worker's machine until it is asked for: an object can be lost with it.
        self._deaths = (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
        )
        # Restarts and tries are counted here: Ray would try what waits behind a deadly image as often as that one.
        remote = ray.remote(Worker)
        self._kind = remote.options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0)
        self._todo: deque[Call] = deque()
        self._actors: list[_Actor] = []
        self._under_way: dict[Any, tuple[_Actor, Call | None]] = {}
        self._said: tuple[Provenance, str] | None = None
        self._failed_starts = 0
        try:
            for _ in range(size):
                self._start()
            while self._said is None:
                self.wait()
        except BaseException:
            self.close()
            raise
        self.provenance = self._said[0]

    def take(self, call: Call) -> None:
        """Have a worker do a call as soon as one is free."""
        self._todo.append(call)
        self._hand_out()

    def wait(self) -> None:
        """Wait until a worker has something to say.

        Raises:
            MaskmendError: a worker cannot start, or refines with something else than the others.
            JobError: there is no worker for ten minutes, or they die while they start.
        """
        patience = None if any(actor.ready for actor in self._actors) else _PATIENCE
        done, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=patience)
        if not done:
            raise JobError(
                f"no worker has started in {_PATIENCE} s; does the Ray cluster have the CPUs and GPUs that one takes, free "
                "of other jobs? What is done is kept for --resume",
                field="engine",
            )
        for reference in done:
            # Gone, if its worker died on the way.
            if reference in self._under_way:
                self._heard(reference)
        self._hand_out()

    def close(self) -> None:
        """End all workers."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors, self._under_way = [], {}

    def _start(self) -> None:
        actor = _Actor(self._kind.remote())
        self._actors.append(actor)
        self._under_way[actor.handle.begin.remote(self._options)] = actor, None

    def _hand_out(self) -> None:
        for have in range(_EACH):
            for actor in self._actors:
                if self._todo and actor.ready and len(actor.calls) == have:
                    call = self._todo.popleft()
                    actor.calls.append(call)
                    self._under_way[actor.handle.refine.remote(call.image, call.masks)] = actor, call

    def _heard(self, reference: Any) -> None:
        actor, call = self._under_way[reference]
        try:
            said = self._ray.get(reference)
        except self._deaths as error:
            self._replace(actor, error)
            return
        except self._ray.exceptions.RayTaskError as error:
            if call is not None:
                raise
            raise JobError(
                f"a worker cannot start: {_told(error)}; is the same maskmend, with a runtime, installed on every machine "
                "of the cluster?",
                field="engine",
            ) from error
        del self._under_way[reference]
        if call is not None:
            _done(actor, call, said)
        elif isinstance(said, MaskmendError):
            raise said
        else:
            self._agree(said)
            actor.ready, self._failed_starts = True, 0

    def _agree(self, said: tuple[Provenance, str]) -> None:
        """See that a worker refines with what the first one does: then its masks are the same, whoever makes them."""
        if self._said is None:
            self._said = said
        if said != self._said:
            known = {**self._said[0], "release of maskmend": self._said[1]}
            other = {**said[0], "release of maskmend": said[1]}
            differ = sorted(key for key in known | other if known.get(key) != other.get(key))
            raise JobError(
                f"workers of the Ray cluster differ in {', '.join(differ)[:200]}; install the same on every machine, and "
                "choose --runtime and --weights",
                field="engine",
            )

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Another worker for one that died; the call that it was at, and those behind it, go to the front of the queue."""
        self._actors.remove(actor)
        # What it said before it died may not have been heard yet.
        calls = {
            reference: call for reference, (one, call) in self._under_way.items() if one is actor and call is not None
        }
        said, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0) if calls else ([], [])
        for reference in said:
            with suppress(*self._deaths):
                _done(actor, calls[reference], self._ray.get(reference))
        self._under_way = {r: (a, c) for r, (a, c) in self._under_way.items() if a is not actor}
        # It may only be out of reach; then it must not go on.
        self._ray.kill(actor.handle)
        self.lost += 1
        if actor.calls:
            first = actor.calls[0]
            first.tries += 1
            if first.tries >= _TRIES:
                actor.calls.popleft()
                first.result = WorkerLostError(
                    f"{_TRIES} workers died over this image, which may take more memory than they have; fewer workers, or "
                    "--engine local, leave more to each",
                    field="image",
                )
            else:
                self.again += 1
        elif not actor.ready:
            self._failed_starts += 1
            if self._failed_starts >= _TRIES:
                raise JobError(
                    f"{_TRIES} workers in a row died while they started: {_told(error)}; is the same maskmend installed on "
                    "every machine of the cluster, and memory left?",
                    field="engine",
                ) from error
        self._todo.extendleft(reversed(actor.calls))
        self._start()


def _done(actor: _Actor, call: Call, said: RefineResult | MaskmendError) -> None:
    actor.calls.remove(call)
    call.result, call.image, call.masks = said, b"", []


def _told(error: Exception) -> str:
    """The last line that says something, of what Ray says of a death in many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__

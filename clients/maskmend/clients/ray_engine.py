"""Refining on the workers of a Ray cluster: actors that hold the network, images handed out in a bounded stream."""

from __future__ import annotations

import os
import secrets
import sys
from collections import deque
from collections.abc import Generator, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from maskmend.clients.backends import Provenance
from maskmend.clients.ray_crew import Call, Crew, Needs
from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import JobError, MaskmendError, OptionError
from maskmend.patcher.image_size import image_size
from maskmend.patcher.images import ExifPolicy, read_image_file
from maskmend.service import StageTimes

WINDOW = 4
"""Images under way for each worker: one in work, one waiting there, the rest in reserve behind a slow one."""
_BYTES = 2**30
"""Photographs under way take no more memory than this, as files, whatever the window; a single one may."""
_LOOPBACK = "127.0.0.1"
_STARTS = 3


class RayBackend:
    """Refines on Ray.

    Args:
        options: of the `Refiner` that each worker makes.
        address: of a cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None to start one on this machine for as long as
            the backend lives, or to use the one that this process is connected to already.
        workers: actors; None for as many as the cluster has room for.
        threads: of the network in each, and the CPUs that it takes of the cluster.
        gpus: that each takes of the cluster; may be a fraction.

    Raises:
        OptionError: a number out of range, or more than the cluster has.
        RuntimeUnavailableError: a worker finds no runtime.
        JobError: ray is not installed, no cluster answers, or no worker starts.
    """

    def __init__(
        self,
        options: dict[str, Any],
        *,
        address: str | None = None,
        workers: int | None = None,
        threads: int = 1,
        gpus: float = 0.0,
    ) -> None:
        if workers is not None and not 1 <= workers <= 10_000:
            raise OptionError(f"--workers is {workers}; use 1 to 10000", field="workers")
        if threads < 1:
            raise OptionError(f"--threads is {threads}; use 1 or more", field="threads")
        if not 0 <= gpus <= 64:
            raise OptionError(f"--gpus-per-worker is {gpus}; use 0 to 64", field="gpus_per_worker")
        if gpus != (int(gpus) if gpus > 1 else round(gpus, 4)):
            raise OptionError(
                f"--gpus-per-worker is {gpus}; Ray takes whole numbers, or a part of 1 with up to four decimals",
                field="gpus_per_worker",
            )
        self.stages = StageTimes()
        self._ray, self._connected = _connected(address, None if workers is None else workers * threads)
        try:
            needs = Needs(threads, gpus)
            count = workers or _room(self._ray, needs)
            self._crew = Crew(self._ray, {**options, "threads": threads}, count, needs)
        except BaseException:
            self._disconnect()
            raise

    @property
    def provenance(self) -> Provenance:
        """See `Backend`. The same as that of a job in this process, if the workers have the same runtime."""
        return dict(self._crew.provenance)

    @property
    def lost(self) -> int:
        """Workers that died and were replaced."""
        return self._crew.lost

    @property
    def again(self) -> int:
        """Images that were begun by a worker that died, and were begun again."""
        return self._crew.again

    def open(self, photograph: Path, exif_policy: ExifPolicy) -> tuple[Any, int, int]:
        """See `Backend`: the file as it is; only its header is read here."""
        with self.stages.measure("decode"):
            data = read_image_file(photograph)
            height, width = image_size(data, exif_policy=exif_policy)
            return data, height, width

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Generator[RefineResult | MaskmendError, None, None]:
        """Refine many images, in order; see `Refiner.refine_many`.

        At most `WINDOW` images for each worker are under way: begun, waiting, or finished before one that is ahead of
        them. Items are taken as there is room.

        Raises:
            JobError: workers die while they start, again and again, or do not agree in what they refine with.
        """
        incoming = iter(items)
        waiting: deque[Call] = deque()
        more = True
        while more or waiting:
            while more and self._has_room(waiting):
                item = next(incoming, None)
                if item is None:
                    more = False
                else:
                    waiting.append(Call(bytes(item[0]), [mask.to_coco() for mask in item[1]]))
                    self._crew.take(waiting[-1])
            if not waiting:
                return
            result = waiting[0].result
            if result is None:
                self._crew.wait()
                continue
            waiting.popleft()
            if isinstance(result, RefineResult):
                for stage, seconds in result.timings.items():
                    self.stages.seconds[stage] = self.stages.seconds.get(stage, 0.0) + seconds
            elif not return_exceptions:
                raise result
            yield result

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self._crew.close()
        self._disconnect()

    def _has_room(self, waiting: deque[Call]) -> bool:
        if not waiting:
            return True
        return len(waiting) < WINDOW * self._crew.size and sum(len(call.image) for call in waiting) < _BYTES

    def _disconnect(self) -> None:
        if self._connected:
            self._ray.shutdown()


def _connected(address: str | None, cpus: int | None) -> tuple[Any, bool]:
    """The `ray` module, with a cluster behind it, and whether it was connected to here."""
    known = sys.modules.get("ray")
    if address is None and known is not None and known.is_initialized():
        return known, False
    # Read when ray is imported. Nothing about jobs is told to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None and known is None and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on every address of the machine, and whoever is let in can run programs: only who knows this word is.
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise JobError("--engine ray needs ray: pip install 'maskmend[ray]'", field="engine") from None
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except Exception as error:  # Ray has no class of its own for this.
            raise _no_cluster(f"at {address[:200]}", error) from error
        return ray, True
    for tries in range(_STARTS):
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, _node_ip_address=_LOOPBACK, **quiet)
            break
        except Exception as error:
            # A machine that is busy may need longer than the 30 s that Ray gives itself.
            ray.shutdown()
            if tries + 1 == _STARTS:
                raise _no_cluster(f"could be started on this machine, in {_STARTS} tries", error) from error
    return ray, True


def _no_cluster(where: str, error: Exception) -> JobError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return JobError(f"no Ray cluster {where}: {said[:300]}", field="ray_address")


def _room(ray: Any, needs: Needs) -> int:
    """How many workers the cluster has room for."""
    total = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            room = int(has.get("CPU", 0) // needs.cpus)
            total += min(room, _on_gpus(has.get("GPU", 0), needs.gpus)) if needs.gpus else room
    if total < 1:
        gpus = f" and {needs.gpus:g} GPUs" if needs.gpus else ""
        raise OptionError(
            f"no machine of the Ray cluster has {needs.cpus} CPUs{gpus} for a worker; use fewer --threads or "
            "--gpus-per-worker, or give --workers if machines are still to join",
            field="workers",
        )
    return total


def _on_gpus(count: float, each: float) -> int:
    """How many workers find room on the GPUs of a machine; one that takes a part of a GPU takes it of a single one."""
    return int(count // each) if each >= 1 else int(count) * int(10_000 // round(each * 10_000))

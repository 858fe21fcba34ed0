"""The models a service holds: loaded, checked, listed, exchanged while it runs."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskmend.models import load_refiner, resolve_weights
from maskmend.models.refiner import NetworkRefiner
from maskmend.models.runtimes.triton_fleet import ReportsHealth, TritonHealth
from maskmend.models.runtimes.triton_url import with_patience
from maskmend.models.zoo import Weights
from maskmend.patcher.errors import MaskmendError, OptionError, RuntimeLostError
from maskmend.service.batcher import Batcher, Patches, Ticket
from maskmend.service.errors import BadRequestError, InvalidRequestError, NotFoundError
from maskmend.service.schema import ModelInfo

logger = logging.getLogger("maskmend.served")

_WAIT_S, _START_S = 2.0, 60.0
"""For a Triton that is gone: those who wait for an answer rather hear so soon; at the start nobody waits yet."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """See `Batcher`; `max_patches` is what one request may need, all passes together."""

    max_batch: int = 32
    max_delay: float = 0.002
    max_patches: int = 20_000


class ServedModel:
    """One set of weights on one runtime, with its batcher."""

    def __init__(
        self, weights: Weights, refiner: NetworkRefiner, batching: BatchSettings, observe: Callable[[int], None] | None
    ) -> None:
        self.weights, self.refiner, self.max_patches = weights, refiner, batching.max_patches
        self.batcher = Batcher(
            refiner.forward, max_batch=batching.max_batch, max_delay=batching.max_delay, observe=observe
        )
        self.users = 0
        self.retired = False

    def info(self, *, default: bool) -> ModelInfo:
        """What `GET /v1/models` says of it."""
        manifest, made = self.weights.manifest, self.refiner.provenance
        return ModelInfo(
            name=manifest.name,
            refiner=manifest.refiner,
            default=default,
            runtime=str(made["runtime"]),
            runtime_version=str(made["runtime_version"]),
            precision=str(made["precision"]),
            parameters=manifest.parameters,
            gmac=manifest.gmac,
            input_size=manifest.input_size,
            sha256=str(made["weights_sha256"]),
            license=manifest.license,
            source=manifest.source,
        )

    def for_ticket(self, ticket: Ticket) -> TicketRefiner:
        """A refiner for an engine that works on one request."""
        return TicketRefiner(self, ticket)

    def check(self, ticket: Ticket) -> None:
        """A real forward of one patch, through the queue like everyone's.

        Raises:
            ServiceError: it did not come back, or not in time.
        """
        size = self.refiner.input_size
        out = self.batcher.run(np.zeros((1, 4, size, size), np.float32), ticket)
        if not np.isfinite(out).all():
            raise BadRequestError(f"model {self.weights.manifest.name} gives values that are not finite")


class TicketRefiner:
    """What `Engine` needs of a refiner, by way of the common batches."""

    def __init__(self, model: ServedModel, ticket: Ticket) -> None:
        refiner = model.refiner
        self.patch, self.input_size, self.padding = refiner.patch, refiner.input_size, refiner.padding
        self.provenance, self.boxes, self.calibration = refiner.provenance, refiner.boxes, refiner.calibration
        self._batcher, self._ticket = model.batcher, ticket
        self._most = self._left = model.max_patches

    def forward(self, patches: NDArray[np.float32]) -> Patches:
        """See `NetworkRefiner.forward`.

        Raises:
            InvalidRequestError: the masks need more patches than one request may.
        """
        if not len(patches):
            return np.zeros((0, self.patch, self.patch), np.float32)
        self._left -= len(patches)
        if self._left < 0:
            raise InvalidRequestError(
                f"the masks' edges need more than {self._most} patches; send fewer masks at a time, or a lower nms",
                field="masks",
            )
        return self._batcher.run(patches, self._ticket)


class Served:
    """All models of a service, the first one being the default.

    Args:
        names: of shipped weights, or paths.
        runtime: see `create_runtime`.
        precision: of all of them.
        threads: of each network.
        device: see `create_runtime`.
        triton_url: where the servers of the triton runtime are. Where it does not say otherwise, a batch waits 2 s for one
            that is gone, and loading a minute for a first one.
        batching: of each batcher.
        observe: told the size of each batch.

    Raises:
        MaskmendError: one of them cannot be loaded, or two have the same name.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        runtime: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        device: str | None = None,
        triton_url: str | None = None,
        batching: BatchSettings | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        if not names:
            raise OptionError("weights is empty; name at least one set to serve", field="weights")
        self._runtime, self._precision, self._threads, self._device = runtime, precision, threads, device
        self._triton_url = triton_url and with_patience(triton_url, wait_s=_WAIT_S, start_s=_START_S)
        self._batching, self._observe = batching or BatchSettings(), observe
        self._lock = threading.Lock()
        self._models: dict[str, ServedModel] = {}
        self._stamps: dict[str, tuple[str, tuple[int, int]]] = {}
        for given in names:
            model = self._load(given)
            name = model.weights.manifest.name
            if name in self._models:
                raise OptionError(f"weights names {name} twice; each model needs its own name", field="weights")
            self._models[name] = model
            self._stamps[name] = (given, _stamp(model.weights))
        self.default = next(iter(self._models))

    def get(self, name: str | None, refiner: str | None = None, precision: str | None = None) -> ServedModel:
        """The model asked for: by its name, or the first that serves a refiner, or the default.

        Raises:
            BadRequestError: the name is not a plain one.
            NotFoundError: it is not served, or not in this way.
        """
        wanted = self._first(refiner) if name is None else name
        if not _NAME.fullmatch(wanted):
            raise BadRequestError(
                "weights must be a name of letters, digits, dots, dashes and underscores; see GET /v1/models",
                field="weights",
            )
        with self._lock:
            model = self._models.get(wanted)
        if model is None:
            raise NotFoundError("no model of this name is served; GET /v1/models lists them", field="weights")
        if refiner is not None and model.weights.manifest.refiner != refiner:
            raise NotFoundError(
                f"refiner of {wanted} is {model.weights.manifest.refiner}; ask for that, or for other weights",
                field="refiner",
            )
        if precision is not None and precision != model.refiner.provenance["precision"]:
            raise NotFoundError(
                f"precision of {wanted} is {model.refiner.provenance['precision']} here; leave precision out",
                field="precision",
            )
        return model

    def _first(self, refiner: str | None) -> str:
        with self._lock:
            fit = [name for name, model in self._models.items() if model.weights.manifest.refiner == refiner]
        # Where none fits, the default is named in what is said of it.
        return self.default if refiner is None or self.default in fit or not fit else fit[0]

    def list(self) -> list[ModelInfo]:
        """All of them, the default first."""
        with self._lock:
            models = dict(self._models)
        return [model.info(default=name == self.default) for name, model in models.items()]

    @property
    def depth(self) -> int:
        """Patches that wait, for all models together."""
        with self._lock:
            models = list(self._models.values())
        return sum(model.batcher.depth for model in models)

    def tritons(self) -> Sequence[TritonHealth]:
        """How the servers of the triton runtime do, for each model; empty for other runtimes."""
        with self._lock:
            models = list(self._models.values())
        return [
            found
            for model in models
            if isinstance(model.refiner.runtime, ReportsHealth)
            for found in model.refiner.runtime.health()
        ]

    def reload(self) -> dict[str, str]:
        """Exchange models whose manifest changed on disk. One that cannot be loaded is refused, and the old one goes on.

        Returns:
            For each manifest that changed since the last look: its model's name, and "" or why it was refused. One that is
            refused by a Triton is looked at again.
        """
        found = {}
        for name, (given, stamp) in list(self._stamps.items()):
            try:
                now = _stamp(self._models[name].weights)
                if now == stamp:
                    continue
                self._stamps[name] = (given, now)
                fresh = self._load(given)
                if fresh.weights.manifest.name != name:
                    fresh.batcher.close()
                    raise OptionError(f"weights are now called {fresh.weights.manifest.name}", field="weights")
            except (MaskmendError, OSError) as error:
                logger.exception("model %s was not reloaded; the old one goes on", name)
                found[name] = str(error)
                if isinstance(error, RuntimeLostError):
                    # The servers may get these weights yet: tried again at the next look.
                    self._stamps[name] = (given, stamp)
                continue
            with self._lock:
                old, self._models[name] = self._models[name], fresh
                old.retired = True
            self._close_if_idle(old)
            logger.info("model %s reloaded", name)
            found[name] = ""
        return found

    @contextmanager
    def lease(self, model: ServedModel) -> Iterator[ServedModel]:
        """Hold a model while a request is under way: exchanged meanwhile, it goes on until the last one is done."""
        with self._lock:
            model.users += 1
        try:
            yield model
        finally:
            with self._lock:
                model.users -= 1
            self._close_if_idle(model)

    def _close_if_idle(self, model: ServedModel) -> None:
        if model.retired and not model.users:
            model.batcher.close()

    def close(self) -> None:
        """Finish what waits."""
        for model in self._models.values():
            model.batcher.close()

    def _load(self, given: str) -> ServedModel:
        weights = resolve_weights(given)
        refiner = load_refiner(
            weights.manifest.refiner,
            weights=given,
            runtime=self._runtime,
            precision=self._precision,
            threads=self._threads,
            device=self._device,
            triton_url=self._triton_url,
        )
        return ServedModel(weights, refiner, self._batching, self._observe)


def _stamp(weights: Weights) -> tuple[int, int]:
    manifest = weights.folder / f"{weights.manifest.name}.json"
    # An exported set may have no ONNX graph.
    graph = weights.file(next(iter(weights.manifest.sha256)))
    # And one that a Triton runs need not be here.
    return manifest.stat().st_mtime_ns, graph.stat().st_mtime_ns if graph.is_file() else 0

"""NVIDIA Triton Inference Server, one or several: patches go there in micro-batches, by gRPC or HTTP.

Each request holds whole micro-batches, as in process (see `pool`), so that a server that runs them the same way gives the
same bits. Before a server is used, after each of its failures, and every few seconds, its model is held against the weights:
a server that comes back with other ones is not used.
"""

from __future__ import annotations

import threading
import time

from maskmend.models.runtimes.pool import MICRO_BATCH, Batch, Pool
from maskmend.models.runtimes.triton_client import TritonConnection
from maskmend.models.runtimes.triton_fleet import Fleet, TritonFailure, TritonHealth
from maskmend.models.runtimes.triton_model import ServedModel, check_model
from maskmend.models.runtimes.triton_url import TritonServer, parse_triton_url
from maskmend.models.zoo import Weights

PER_REQUEST = 2 * MICRO_BATCH
"""Patches of a request at most. More would leave instances of the model idle while one is busy."""
_IN_FLIGHT = 4
_MOST_IN_FLIGHT = 32
_CHECK_AGAIN_S = 5.0


class TritonRuntime:
    """The network at one or several servers; see `Runtime`.

    Args:
        weights: what the servers' model must be of; their files are not needed here, only their manifest.
        url: see `parse_triton_url`.
        precision: what the servers' model must compute in.
        threads: requests in flight; None takes 4 for each server, at most 32.

    Attributes:
        name: `triton`.
        version: of the servers that answered at the start.
        precision: of their model.

    Raises:
        OptionError: a malformed URL.
        RuntimeLostError: no server answers, or none has a model of these weights.
    """

    name = "triton"

    def __init__(
        self,
        weights: Weights,
        *,
        url: str,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self._target = parse_triton_url(url)
        self._weights, self._precision = weights, precision
        self._model = self._target.model or weights.manifest.name
        self._side, self._size = weights.manifest.patch, weights.manifest.input_size
        servers = list(self._target.servers)
        self._per_request = PER_REQUEST
        self._checked: dict[TritonServer, float] = {}
        self._fleet = Fleet(servers, [server.url for server in servers], wait_s=self._target.wait_s)
        found = self._look_round()
        self.precision = found[0].precision
        self.version = ", ".join(sorted({model.server_version for model in found}))
        self._per_request = min(PER_REQUEST, *(model.max_batch // MICRO_BATCH * MICRO_BATCH for model in found))
        if threads is None:
            threads = min(_MOST_IN_FLIGHT, _IN_FLIGHT * len(servers))
        self._own = threading.local()
        self._pool = Pool(threads, part=self._per_request)

    def run(self, batch: Batch) -> Batch:
        """See `Runtime.run`.

        Raises:
            RuntimeLostError: no server did it in time.
        """
        return self._pool.run(self._run_part, batch)

    def health(self) -> list[TritonHealth]:
        """How each server does, as far as is known from the requests so far."""
        return self._fleet.health()

    def _look_round(self) -> list[ServedModel]:
        """Ask every server once what it has, and wait for a first one where none answers."""
        found: list[ServedModel] = []

        def ask(server: TritonServer) -> None:
            connection = self._connect(server)
            try:
                found.append(self._check(connection, server))
            finally:
                connection.close()

        self._fleet.run(ask, wait_s=self._target.start_s)
        for _ in self._target.servers[1:]:
            # The others in turn, each once: which of them fail now is noted, and is no reason to wait.
            self._fleet.try_next(ask)
        return found

    def _run_part(self, part: Batch) -> Batch:
        return self._fleet.run(lambda server: self._ask(server, part))

    def _ask(self, server: TritonServer, part: Batch) -> Batch:
        connections: dict[TritonServer, TritonConnection] = self._own.__dict__.setdefault("connections", {})
        connection = connections.get(server)
        try:
            if connection is None:
                connection = connections[server] = self._connect(server)
                self._checked.pop(server, None)
            if time.monotonic() - self._checked.get(server, -_CHECK_AGAIN_S) >= _CHECK_AGAIN_S:
                self._check(connection, server)
            return connection.infer(part)
        except TritonFailure:
            self._checked.pop(server, None)
            broken = connections.pop(server, None)
            if broken is not None:
                broken.close()
            raise

    def _connect(self, server: TritonServer) -> TritonConnection:
        sizes = {"most": self._per_request, "size": self._size, "side": self._side}
        return TritonConnection(server, self._target, self._model, **sizes)

    def _check(self, connection: TritonConnection, server: TritonServer) -> ServedModel:
        said = connection.describe()
        try:
            model = check_model(*said, self._weights, self._precision)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TritonFailure("what it says of its model is not what a Triton says", passing=False) from error
        if getattr(self, "version", None) is not None and model.max_batch < self._per_request:
            raise TritonFailure(
                f"its model takes {model.max_batch} patches a request, others take {self._per_request}; write all "
                "repositories with one --max-batch",
                passing=False,
            )
        self._checked[server] = time.monotonic()
        return model

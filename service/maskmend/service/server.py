"""A service from its settings: built, started, drained."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from maskmend.models import resolve_weights
from maskmend.models.precision import settle
from maskmend.models.runtimes import check_options
from maskmend.patcher.errors import OptionError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core
from maskmend.service.grpc import GrpcServer
from maskmend.service.held import Budget
from maskmend.service.http import build_app
from maskmend.service.inputs import InputLimits
from maskmend.service.logs import FullHouse, set_up
from maskmend.service.metrics import MULTIPROCESS, Metrics, check_room
from maskmend.service.protocol import WRITE_TIMEOUT, Connection
from maskmend.service.served import BatchSettings, Served
from maskmend.service.settings import HANDED_OVER, Settings, load_settings
from maskmend.service.tracing import tracer

logger = logging.getLogger("maskmend.server")

_GAUGE_SECONDS = 1.0


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application with everything in it; the gRPC server lives and dies with it.

    Args:
        settings: those of the environment when not given, as in a worker process.

    Raises:
        MaskmendError: a model or a key file cannot be loaded.
    """
    settings = settings or load_settings()
    set_up(settings.log_format, settings.log_level)
    metrics = Metrics()
    served = Served(
        settings.weights,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=settings.threads,
        device=settings.device,
        triton_url=settings.triton_url,
        batching=BatchSettings(settings.max_batch, settings.max_delay_ms / 1000, settings.max_patches),
        observe=metrics.batch_size.observe,
    )
    core = Core(
        served,
        metrics,
        InputLimits(int(settings.max_image_mp * 1e6), settings.max_instances),
        concurrency=settings.concurrency,
        queue=settings.queue,
        timeout=settings.timeout_s,
        tracer=tracer() if settings.tracing else None,
    )
    keys, rate = Keys(settings.api_keys_file), RateLimit(settings.rate_limit)
    budget = Budget(int(settings.max_held_mb * 1e6))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        asyncio.get_running_loop().set_exception_handler(FullHouse())
        await core.warm_up()
        rpc = None
        if settings.grpc_port >= 0:
            rpc = _grpc_server(core, keys, rate, budget, settings)
            await rpc.start()
            logger.info("gRPC listens", extra={"host": settings.host, "port": rpc.port})
        drain = _Drain(app, rpc, settings)
        watchers = [asyncio.create_task(_watch_weights(core, metrics, settings.reload_s))]
        if settings.workers > 1:
            watchers.append(asyncio.create_task(_share_gauges(metrics)))
        try:
            yield {WRITE_TIMEOUT: settings.read_timeout_s}
        finally:
            for watcher in watchers:
                watcher.cancel()
            core.admission.draining = True
            drain.begin()
            await drain.rpc_stopped()
            await core.close(drain.left)
            logger.info("drained")

    return build_app(core, metrics, keys, rate, budget, settings, lifespan)


class _Drain:
    """The way to the end, with one deadline for all that is under way, whatever protocol it came by.

    On SIGTERM the service is not ready any more; after the delay it takes nothing new, which is when the time for what is
    under way begins. A second SIGTERM, or SIGINT, spares the delay.
    """

    def __init__(self, app: FastAPI, rpc: GrpcServer | None, settings: Settings) -> None:
        self._app, self._rpc = app, rpc
        self._delay, self._seconds = settings.drain_delay_s, settings.drain_s
        self._until: float | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if callable(before):
                    signal.signal(number, partial(self._on_signal, before))

    @property
    def left(self) -> float:
        """Seconds that are left for what is under way."""
        return max(0.0, (self._until or 0.0) - time.monotonic())

    def begin(self) -> None:
        """Take nothing new. May be called again."""
        if self._until is not None:
            return
        self._app.state.draining = True
        self._until = time.monotonic() + self._seconds
        if self._rpc is not None:
            self._rpc.refuse_new()
            self._stopping = asyncio.ensure_future(self._stop(self._rpc))

    async def rpc_stopped(self) -> None:
        """Wait until gRPC has ended; it ends in time."""
        if self._stopping is not None:
            await self._stopping

    async def _stop(self, rpc: GrpcServer) -> None:
        await rpc.say_unready()
        await rpc.stop(self.left)

    def _on_signal(self, before: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        again, self._app.state.draining = self._app.state.draining, True
        rpc = self._rpc
        if rpc is not None and not again:
            self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(rpc.say_unready()))

        def end() -> None:
            self.begin()
            before(number, frame)

        if number == signal.SIGINT:
            before(number, frame)
            self._loop.call_soon_threadsafe(self.begin)
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, 0.0 if again else self._delay, end)


def _grpc_server(core: Core, keys: Keys, rate: RateLimit, budget: Budget, settings: Settings) -> GrpcServer:
    tls = (settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return GrpcServer(
        core,
        keys,
        rate,
        budget,
        f"{host}:{settings.grpc_port}",
        int(settings.max_body_mb * 1e6),
        # Streams and health checks are calls too.
        settings.concurrency + settings.queue + 64,
        settings.read_timeout_s,
        tls,
        share_port=settings.workers > 1,
    )


async def _watch_weights(core: Core, metrics: Metrics, every: float) -> None:
    """Look from time to time whether weights changed on disk."""
    loop = asyncio.get_running_loop()
    while every:
        await asyncio.sleep(every)
        for name, reason in (await loop.run_in_executor(None, core.served.reload)).items():
            metrics.reloads.labels(name, "refused" if reason else "exchanged").inc()


async def _share_gauges(metrics: Metrics) -> None:
    """Whichever process answers `/metrics` adds up what the others have said last."""
    while True:
        metrics.set_gauges()
        await asyncio.sleep(_GAUGE_SECONDS)


def serve(settings: Settings) -> int:
    """Run until a signal ends it.

    Returns:
        Exit code.

    Raises:
        MaskmendError: a model or a key file cannot be loaded.
    """
    listening = _bound(settings.host, settings.port, "port")
    listening.listen(2048)
    listening.set_inheritable(True)
    held = _grpc_port(settings)
    port = listening.getsockname()[1]
    several = settings.workers > 1
    app = None if several else create_app(settings)
    if several:
        # A worker that cannot start would be started again and again.
        _check_before_workers(settings)
    config = uvicorn.Config(
        app or "maskmend.service.server:create_app",
        factory=several,
        http=Connection,
        ws="none",
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        ssl_certfile=str(settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
        timeout_worker_healthcheck=30,
    )
    scheme = "https" if settings.tls_cert else "http"
    set_up(settings.log_format, settings.log_level)
    logger.info("HTTP listens", extra={"url": f"{scheme}://{settings.host}:{port}", "port": port})
    if app is not None:
        server = uvicorn.Server(config)
        # uvicorn raises the signal that stopped it once more at the end; by then there is nothing left to do.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listening])
        return 0 if server.started else 3
    with tempfile.TemporaryDirectory(prefix="maskmend-metrics-") as folder:
        check_room(folder, settings.workers)
        os.environ[MULTIPROCESS] = folder
        logger.info("workers share their metrics", extra={"folder": folder})
        os.environ[HANDED_OVER] = settings.model_dump_json()
        Multiprocess(config, [listening]).run()
    if held is not None:
        held.close()
    return 0


def _check_before_workers(settings: Settings) -> None:
    Keys(settings.api_keys_file)
    for given in settings.weights:
        weights, precision = settle(
            resolve_weights(given), runtime=settings.runtime, precision=settings.precision, device=settings.device
        )
        chosen = check_options(
            settings.runtime,
            precision=precision,
            threads=settings.threads,
            device=settings.device,
            triton_url=settings.triton_url,
        )
        # Those that a Triton has are compared with its own.
        if chosen != "triton":
            weights.verify(("onnx",) if chosen == "onnx" or "onnx" in weights.manifest.sha256 else None)


def _bound(host: str, port: int, field: str, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OptionError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --{field.replace('_', '-')}",
            field=field,
        ) from error
    return bound


def _grpc_port(settings: Settings) -> socket.socket | None:
    """Make sure that the port of gRPC is free; when processes are to share it, hold it so that nobody else does.

    Raises:
        OptionError: it is taken.
    """
    if settings.grpc_port <= 0:
        return None
    _bound(settings.host, settings.grpc_port, "grpc_port").close()
    if settings.workers == 1:
        return None
    return _bound(settings.host, settings.grpc_port, "grpc_port", shared=True)

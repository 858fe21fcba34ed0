"""A service from its settings: built, started, drained."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from maskmend.models import resolve_weights
from maskmend.patcher.errors import OptionError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core
from maskmend.service.grpc import GrpcServer
from maskmend.service.held import Budget
from maskmend.service.http import build_app
from maskmend.service.inputs import InputLimits
from maskmend.service.logs import set_up
from maskmend.service.metrics import MULTIPROCESS, Metrics
from maskmend.service.schema import ErrorBody
from maskmend.service.served import BatchSettings, Served
from maskmend.service.settings import HANDED_OVER, Settings, load_settings
from maskmend.service.tracing import tracer

logger = logging.getLogger("maskmend.server")

_GAUGE_SECONDS = 1.0
HEAD_SECONDS = 20.0
"""Longest time that the head of a connection's first request may take."""


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
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await core.warm_up()
        rpc = None
        if settings.grpc_port >= 0:
            rpc = _grpc_server(core, keys, rate, budget, settings)
            await rpc.start()
            logger.info("gRPC listens", extra={"host": settings.host, "port": rpc.port})
        _drain_on_sigterm(app, rpc, settings.drain_delay_s)
        watchers = [asyncio.create_task(_watch_weights(core, metrics, settings.reload_s))]
        if settings.workers > 1:
            watchers.append(asyncio.create_task(_share_gauges(metrics)))
        try:
            yield
        finally:
            for watcher in watchers:
                watcher.cancel()
            core.admission.draining = True
            if rpc is not None:
                await rpc.say_unready()
                await rpc.stop(settings.drain_s)
            await core.close(settings.drain_s)
            logger.info("drained")

    return build_app(core, metrics, keys, rate, budget, settings, lifespan)


def _drain_on_sigterm(app: FastAPI, rpc: GrpcServer | None, delay: float) -> None:
    """On SIGTERM be not ready any more, and after a while let the server's own handler end it; on a second one at once."""
    stop = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(stop):
        return
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        again, app.state.draining = app.state.draining, True
        if rpc is not None and not again:
            loop.call_soon_threadsafe(lambda: asyncio.ensure_future(rpc.say_unready()))

        def end() -> None:
            if rpc is not None:
                rpc.refuse_new()
            stop(number, frame)

        loop.call_soon_threadsafe(loop.call_later, 0.0 if again else delay, end)

    signal.signal(signal.SIGTERM, drain)


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


class JsonRefusals(H11Protocol):
    """uvicorn's protocol, which refuses what is not even HTTP in our words, and does not wait for ever for a request."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """As uvicorn, but the clock of a request's head goes on until the head is whole."""
        self.conn.receive_data(data)
        self.handle_events()

    def send_400_response(self, msg: str) -> None:
        """Answer and close."""
        body = ErrorBody(
            code="bad_request", message="this is not valid HTTP; see the log of your client", field="", request_id=""
        )
        data = body.model_dump_json().encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            ("connection", "close"),
        ]
        # An answer may be under way already; then all that is left is to hang up.
        with suppress(h11.LocalProtocolError):
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def serve(settings: Settings) -> int:
    """Run until a signal ends it.

    Returns:
        Exit code.

    Raises:
        MaskmendError: a model or a key file cannot be loaded.
    """
    listening = _listen(settings)
    port = listening.getsockname()[1]
    several = settings.workers > 1
    app = None if several else create_app(settings)
    if several:
        # A worker that cannot start would be started again and again.
        Keys(settings.api_keys_file)
        for given in settings.weights:
            resolve_weights(given).verify(("onnx",))
    config = uvicorn.Config(
        app or "maskmend.service.server:create_app",
        factory=several,
        http=JsonRefusals,
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
        os.environ[MULTIPROCESS] = folder
        logger.info("workers share their metrics", extra={"folder": folder})
        os.environ[HANDED_OVER] = settings.model_dump_json()
        Multiprocess(config, [listening]).run()
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise OptionError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another --port",
            field="port",
        ) from error
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening

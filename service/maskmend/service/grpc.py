"""The gRPC face: `maskmend.v1.RefineService`, health and reflection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskmend.patcher.errors import MaskmendError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core
from maskmend.service.errors import UnavailableError, foreseen, grpc_status
from maskmend.service.logs import request_id, request_name
from maskmend.service.messages import read_job, write_answer, write_error, write_mask
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.proto import maskmend_pb2_grpc as pb_grpc
from maskmend.service.schema import RefinedMask

logger = logging.getLogger("maskmend.grpc")

SERVICE = pb.DESCRIPTOR.services_by_name["RefineService"].full_name
_AT_ONCE = 4
"""Images of one stream at work."""


class RefineServicer(pb_grpc.RefineServiceServicer):
    """The two calls."""

    def __init__(self, core: Core, keys: Keys, rate: RateLimit) -> None:
        self._core, self._keys, self._rate = core, keys, rate
        self.closing = False

    async def Refine(  # noqa: N802 - the protocol's name
        self, request: pb.RefineRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RefineResponse:
        """See maskmend.proto."""
        name = request_name(request.request_id)
        request_id.set(name)
        try:
            self._admit(context)
            job = await _aside(lambda: read_job(request, name, self._core.limits))
            return write_answer(await self._core.refine(job, left=context.time_remaining()))
        except Exception as error:
            await self._abort(context, error, name)
            raise AssertionError("unreachable") from error

    async def RefineStream(  # noqa: N802 - the protocol's name
        self, requests: AsyncIterator[pb.RefineRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.RefineEvent]:
        """See maskmend.proto. A failed image does not end the stream."""
        try:
            self._known(context)
        except MaskmendError as error:
            await self._abort(context, error, "")
        ready: asyncio.Queue[pb.RefineEvent | None] = asyncio.Queue(maxsize=64)
        feeder = asyncio.create_task(self._feed(requests, context, ready))
        try:
            while (event := await ready.get()) is not None:
                yield event
            await feeder
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _feed(
        self,
        requests: AsyncIterator[pb.RefineRequest],
        context: grpc.aio.ServicerContext[Any, Any],
        ready: asyncio.Queue[pb.RefineEvent | None],
    ) -> None:
        """Work on a few images at a time; the client is read no faster than that."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(request: pb.RefineRequest) -> None:
            try:
                async with aclosing(self._events(request, context)) as events:
                    async for event in events:
                        await ready.put(event)
            finally:
                places.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for request in requests:
                    await places.acquire()
                    group.create_task(one(request))
        finally:
            # Whatever happened, nobody may wait for more.
            await ready.put(None)

    async def _events(
        self, request: pb.RefineRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.RefineEvent, None]:
        name = request_name(request.request_id)
        request_id.set(name)
        try:
            self._admit(context)
            job = await _aside(lambda: read_job(request, name, self._core.limits))
            async with aclosing(self._core.stream(job, left=context.time_remaining())) as items:
                async for item in items:
                    if isinstance(item, RefinedMask):
                        yield pb.RefineEvent(request_id=name, instance=write_mask(item))
                    else:
                        yield pb.RefineEvent(request_id=name, done=write_answer(item))
        except Exception as error:
            if not isinstance(error, MaskmendError):
                logger.error("an image of a stream failed for a reason that nobody foresaw", exc_info=error)
            self._core.metrics.rejects.labels(foreseen(error).code).inc()
            yield pb.RefineEvent(request_id=name, error=write_error(error, name))

    def _admit(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self.closing:
            raise UnavailableError("the service is stopping; try again elsewhere", retry_after=5)
        caller = self._known(context)
        # Of `ipv4:10.0.0.1:5000` the port is another with every connection.
        self._rate.take(caller or context.peer().rpartition(":")[0])

    def _known(self, context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
        sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return self._keys.caller(sent.get("authorization"), sent.get("x-api-key"))

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], error: Exception, name: str) -> None:
        """End the call with the status of an error; its code, field and request id go into the trailing metadata."""
        if not isinstance(error, MaskmendError):
            logger.error("a call failed for a reason that nobody foresaw", exc_info=error)
        told = write_error(error, name)
        self._core.metrics.rejects.labels(told.code).inc()
        trailing = [("maskmend-code", told.code), ("maskmend-field", told.field), ("x-request-id", name)]
        retry_after = getattr(error, "retry_after", None)
        if retry_after is not None:
            trailing.append(("retry-after", str(retry_after)))
        await context.abort(grpc.StatusCode[grpc_status(foreseen(error))], told.message, tuple(trailing))


async def _aside(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


class GrpcServer:
    """The server around the calls.

    Args:
        core: what does the work.
        keys: who may ask.
        rate: how often.
        address: to listen on, `HOST:PORT`; port 0 lets the system choose.
        max_message: bytes of a message.
        max_calls: under way at a time; more are refused with RESOURCE_EXHAUSTED.
        tls: certificate chain and private key, PEM files; None for plain text.
    """

    def __init__(
        self,
        core: Core,
        keys: Keys,
        rate: RateLimit,
        address: str,
        max_message: int,
        max_calls: int,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
            ],
        )
        self._servicer = RefineServicer(core, keys, rate)
        pb_grpc.add_RefineServiceServicer_to_server(self._servicer, self._server)  # type: ignore[no-untyped-call]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            chain, key = (file.read_bytes() for file in tls)
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))

    async def start(self) -> None:
        """Begin to listen."""
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def say_unready(self) -> None:
        """Have health checks answer that no more requests are welcome."""
        await self._health.enter_graceful_shutdown()

    def refuse_new(self) -> None:
        """From now on answer new calls with UNAVAILABLE."""
        self._servicer.closing = True

    async def stop(self, seconds: float) -> None:
        """Take nothing new; wait for calls under way, but no longer than this."""
        await self._server.stop(seconds)

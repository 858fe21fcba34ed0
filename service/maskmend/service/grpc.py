"""The gRPC face: `maskmend.v1.RefineService`, health and reflection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maskmend.patcher.errors import MaskmendError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core, Job
from maskmend.service.errors import BadRequestError, DeadlineError, UnavailableError, foreseen, grpc_status
from maskmend.service.held import Budget, Share
from maskmend.service.logs import request_id, request_name
from maskmend.service.messages import read_job, write_answer, write_error, write_mask
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.schema import RefinedMask
from maskmend.service.streams import FewStreams

logger = logging.getLogger("maskmend.grpc")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE = pb.DESCRIPTOR.services_by_name["RefineService"].full_name
_AT_ONCE = 4
"""Images of one stream at work."""
_IDLE_SECONDS = 300.0
"""How long a stream may be silent while nothing of it is at work."""


class RefineServicer:
    """The two calls.

    Messages come as bytes, and only once the caller's key is known to be good: to the wire a unary call is a stream of one
    message, so `Refine` is registered as one that reads its message when it wants to.

    Args:
        core: what does the work.
        keys: who may ask.
        rate: how often.
        budget: of memory, for messages.
        read_timeout: seconds until the message of a unary call must be there.
    """

    def __init__(self, core: Core, keys: Keys, rate: RateLimit, budget: Budget, read_timeout: float) -> None:
        self._core, self._keys, self._rate = core, keys, rate
        self._budget, self._read_timeout = budget, read_timeout
        self.closing = False

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server takes the calls from."""
        calls = {
            "Refine": grpc.stream_unary_rpc_method_handler(
                self.refine, response_serializer=pb.RefineResponse.SerializeToString
            ),
            "RefineStream": grpc.stream_stream_rpc_method_handler(
                self.refine_stream, response_serializer=pb.RefineEvent.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, calls)

    async def refine(self, messages: AsyncIterator[bytes], context: Context) -> pb.RefineResponse:
        """See maskmend.proto."""
        name = ""
        share = self._budget.share()
        try:
            self._admit(context)
            message = await self._only(messages)
            share.take(len(message))
            request = await self._core.read(partial(_parsed, message))
            name = request_name(request.request_id)
            request_id.set(name)
            job = await self._job(request, name, context)
            return write_answer(await self._core.refine(job, left=context.time_remaining()))
        except Exception as error:
            await self._abort(context, error, name)
            raise AssertionError("unreachable") from error
        finally:
            share.give_back()

    async def _only(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            return await asyncio.wait_for(anext(messages), self._read_timeout)
        except TimeoutError:
            raise DeadlineError("the message of the call did not arrive in time; send it again") from None
        except StopAsyncIteration:
            raise BadRequestError("the call came without a message") from None

    async def refine_stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[pb.RefineEvent]:
        """See maskmend.proto. A failed image does not end the stream."""
        try:
            self._known(context)
        except MaskmendError as error:
            await self._abort(context, error, "")
        ready: asyncio.Queue[pb.RefineEvent | None] = asyncio.Queue(maxsize=64)
        feeder = asyncio.create_task(self._feed(messages, context, ready))
        try:
            while (event := await ready.get()) is not None:
                yield event
            try:
                await feeder
            except* MaskmendError as group:
                await self._abort(context, group.exceptions[0], "")
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _feed(
        self, messages: AsyncIterator[bytes], context: Context, ready: asyncio.Queue[pb.RefineEvent | None]
    ) -> None:
        """Work on a few images at a time; the client is read no faster than that."""
        places = asyncio.Semaphore(_AT_ONCE)
        working: set[asyncio.Task[None]] = set()

        async def one(message: bytes, share: Share) -> None:
            try:
                async with aclosing(self._events(message, context)) as events:
                    async for event in events:
                        await ready.put(event)
            finally:
                share.give_back()
                places.release()

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await places.acquire()
                    message = await self._next(messages, working)
                    if message is None:
                        return
                    share = self._budget.share()
                    share.take(len(message))
                    task = group.create_task(one(message, share))
                    working.add(task)
                    task.add_done_callback(working.discard)
        finally:
            # Whatever happened, nobody may wait for more.
            await ready.put(None)

    async def _next(self, messages: AsyncIterator[bytes], working: Collection[object]) -> bytes | None:
        """The next message of a stream; None at its end."""
        coming = asyncio.ensure_future(anext(messages, None))
        try:
            while True:
                busy = bool(working)
                done, _ = await asyncio.wait({coming}, timeout=_IDLE_SECONDS)
                if done:
                    return coming.result()
                if not busy and not working:
                    raise DeadlineError(f"the stream was silent for {_IDLE_SECONDS:.0f} s; open it again when needed")
        finally:
            coming.cancel()

    async def _events(self, message: bytes, context: Context) -> AsyncGenerator[pb.RefineEvent, None]:
        name = ""
        try:
            self._admit(context)
            request = await self._core.read(partial(_parsed, message))
            name = request_name(request.request_id)
            request_id.set(name)
            job = await self._job(request, name, context)
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

    async def _job(self, request: pb.RefineRequest, name: str, context: Context) -> Job:
        job = await self._core.read(partial(read_job, request, name, self._core.limits))
        return replace(job, traceparent=_metadata(context).get("traceparent"))

    def _admit(self, context: Context) -> None:
        if self.closing:
            raise UnavailableError("the service is stopping; try again elsewhere", retry_after=5)
        caller = self._known(context)
        # Of `ipv4:10.0.0.1:5000` the port is another with every connection.
        self._rate.take(caller or context.peer().rpartition(":")[0])

    def _known(self, context: Context) -> str | None:
        sent = _metadata(context)
        return self._keys.caller(sent.get("authorization"), sent.get("x-api-key"))

    async def _abort(self, context: Context, error: Exception, name: str) -> None:
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


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parsed(message: bytes) -> pb.RefineRequest:
    try:
        request: pb.RefineRequest = pb.RefineRequest.FromString(message)
    except DecodeError:
        raise BadRequestError("the message is no maskmend.v1.RefineRequest; see maskmend.proto") from None
    return request


class GrpcServer:
    """The server around the calls.

    Args:
        core: what does the work.
        keys: who may ask.
        rate: how often.
        budget: of memory, for messages.
        address: to listen on, `HOST:PORT`; port 0 lets the system choose.
        max_message: bytes of a message.
        max_calls: under way at a time; more are refused with RESOURCE_EXHAUSTED. Of streams and health watches a quarter
            each, so that those which only wait leave room for those that work.
        read_timeout: seconds until the message of a unary call must be there.
        tls: certificate chain and private key, PEM files; None for plain text.
    """

    def __init__(
        self,
        core: Core,
        keys: Keys,
        rate: RateLimit,
        budget: Budget,
        address: str,
        max_message: int,
        max_calls: int,
        read_timeout: float,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._server = grpc.aio.server(
            interceptors=(FewStreams(max(1, max_calls // 4)),),
            maximum_concurrent_rpcs=max_calls,
            options=[
                ("grpc.max_receive_message_length", max_message),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
            ],
        )
        self._servicer = RefineServicer(core, keys, rate, budget, read_timeout)
        self._server.add_generic_rpc_handlers((self._servicer.handler(),))
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

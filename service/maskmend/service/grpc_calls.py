"""The two calls of `maskmend.v1.RefineService`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from maskmend.patcher.errors import MaskmendError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.core import Core
from maskmend.service.errors import (
    BadRequestError,
    DeadlineError,
    StalledError,
    UnavailableError,
    foreseen,
    grpc_status,
)
from maskmend.service.held import SLOWEST, Budget, Share
from maskmend.service.job import Job
from maskmend.service.logs import request_id, request_name
from maskmend.service.messages import read_job, write_answer, write_error, write_mask
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.schema import RefinedMask

logger = logging.getLogger("maskmend.grpc")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Ready: TypeAlias = "asyncio.Queue[tuple[pb.RefineEvent, float] | None]"

SERVICE = pb.DESCRIPTOR.services_by_name["RefineService"].full_name
_AT_ONCE = 4
"""Images of one stream at work."""
_IDLE_SECONDS = 300.0
"""How long a stream may be silent while nothing of it is at work."""
_GRACE_SECONDS = 5.0
"""How long past the deadline of an image a client may take to read what came of it."""
_LAST_WORD_SECONDS = 1.0


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
        self._closing = asyncio.Event()

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
        share = self._budget.share()
        try:
            self._admit(context)
            brought = [await self._only(messages)]
            share.take(len(brought[0]))
            job = await self._job(brought, share, context)
            return write_answer(await self._core.refine(job, left=context.time_remaining()))
        except Exception as error:
            await self._abort(context, error, request_id.get())
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

    async def refine_stream(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """See maskmend.proto. A failed image does not end the stream."""
        try:
            self._known(context)
        except MaskmendError as error:
            await self._abort(context, error, "")
        ready: Ready = asyncio.Queue(maxsize=64)
        feeder = asyncio.create_task(self._feed(messages, context, ready))
        try:
            while (item := await ready.get()) is not None:
                await _write(context, *item)
            await feeder
        except (MaskmendError, ExceptionGroup) as error:
            first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            # Behind an answer that is not read nobody reads this error either: it is left there, and not waited for.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._abort(context, first, ""), _LAST_WORD_SECONDS)
            raise asyncio.CancelledError from None
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _feed(self, messages: AsyncIterator[bytes], context: Context, ready: Ready) -> None:
        """Work on a few images at a time; the client is read no faster than that."""
        places = asyncio.Semaphore(_AT_ONCE)
        working: set[asyncio.Task[None]] = set()
        stopping: UnavailableError | None = None

        async def one(brought: list[bytes], share: Share) -> None:
            try:
                async with aclosing(self._events(brought, share, context)) as items:
                    async for item in items:
                        await ready.put(item)
            finally:
                share.give_back()
                places.release()

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await places.acquire()
                    try:
                        message = await self._next(messages, working)
                    except UnavailableError as error:
                        stopping = error
                        break
                    if message is None:
                        break
                    share = self._budget.share()
                    share.take(len(message))
                    task = group.create_task(one([message], share))
                    del message
                    working.add(task)
                    task.add_done_callback(working.discard)
            if stopping is not None:
                raise stopping
        except asyncio.CancelledError:
            # Nobody reads any more.
            raise
        except BaseException:
            await ready.put(None)
            raise
        await ready.put(None)

    async def _next(self, messages: AsyncIterator[bytes], working: Collection[object]) -> bytes | None:
        """The next message of a stream; None at its end.

        Raises:
            DeadlineError: the stream was silent for too long.
            UnavailableError: the service is stopping, and nothing has come.
        """
        coming = asyncio.ensure_future(anext(messages, None))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                busy = bool(working)
                await asyncio.wait({coming, closing}, timeout=_IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return coming.result()
                if closing.done():
                    raise _stopping()
                if not busy and not working:
                    raise DeadlineError(f"the stream was silent for {_IDLE_SECONDS:.0f} s; open it again when needed")
        finally:
            coming.cancel()
            closing.cancel()

    async def _events(
        self, brought: list[bytes], share: Share, context: Context
    ) -> AsyncGenerator[tuple[pb.RefineEvent, float], None]:
        """What there is to say about one image, and until when it may be read."""
        until = time.monotonic()
        try:
            self._admit(context)
            job = await self._job(brought, share, context)
            left = self._core.allowed(job, context.time_remaining())
            until += left
            name = job.request_id
            async with aclosing(self._core.stream(job, left=left)) as items:
                async for item in items:
                    if isinstance(item, RefinedMask):
                        yield pb.RefineEvent(request_id=name, instance=write_mask(item)), until
                    else:
                        yield pb.RefineEvent(request_id=name, done=write_answer(item)), until
        except Exception as error:
            if not isinstance(error, MaskmendError):
                logger.error("an image of a stream failed for a reason that nobody foresaw", exc_info=error)
            self._core.metrics.rejects.labels(foreseen(error).code).inc()
            name = request_id.get()
            yield pb.RefineEvent(request_id=name, error=write_error(error, name)), until

    async def _job(self, brought: list[bytes], share: Share, context: Context) -> Job:
        """The job of a message, which is taken out of where it was brought in."""
        request = await self._core.read(partial(_parsed, brought.pop()))
        name = request_name(request.request_id)
        request_id.set(name)
        job = await self._core.read(partial(read_job, request, name, self._core.limits))
        job.traceparent, job.ended = _metadata(context).get("traceparent"), share.give_back
        return job

    def close(self) -> None:
        """Take nothing new: calls are answered with UNAVAILABLE, and streams end as soon as nothing of them is at work."""
        self._closing.set()

    def _admit(self, context: Context) -> None:
        if self._closing.is_set():
            raise _stopping()
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
        retry_after = getattr(foreseen(error), "retry_after", None)
        if retry_after is not None:
            trailing.append(("retry-after", str(retry_after)))
        await context.abort(grpc.StatusCode[grpc_status(foreseen(error))], told.message, tuple(trailing))


async def _write(context: Context, event: pb.RefineEvent, until: float) -> None:
    """Write one event.

    Raises:
        StalledError: the client did not take it.
    """
    seconds = max(0.0, until - time.monotonic()) + _GRACE_SECONDS + event.ByteSize() / SLOWEST
    try:
        await asyncio.wait_for(context.write(event), seconds)
    except TimeoutError:
        raise StalledError("the answers were not read in time; read them while sending") from None


def _stopping() -> UnavailableError:
    return UnavailableError("the service is stopping; try again elsewhere", retry_after=5)


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _parsed(message: bytes) -> pb.RefineRequest:
    try:
        request: pb.RefineRequest = pb.RefineRequest.FromString(message)
    except DecodeError:
        raise BadRequestError("the message is no maskmend.v1.RefineRequest; see maskmend.proto") from None
    return request

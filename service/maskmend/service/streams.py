"""Calls that are open, counted: streams of each kind may take a quarter of the places."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

Handler = Callable[[Any, Any], Awaitable[Any]]


class FewCalls(grpc.aio.ServerInterceptor):
    """Lets so many calls be at work; refuses more with RESOURCE_EXHAUSTED. Short calls about the server are not counted.

    A call counts for as long as something here works on it or waits for it; that its answer is on its way does not count.

    Args:
        most: calls at a time; of streams of one method a quarter.
        service: the one whose streams end by themselves; all others only watch the server, and end with `close`.
    """

    def __init__(self, most: int, service: str) -> None:
        self._most, self._prefix = most, f"/{service}/"
        self._open: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End the streams that only watch."""
        self._closing.set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """See gRPC."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(self._stream(method, handler.stream_stream or handler.unary_stream), **codec)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._single(method, handler.stream_unary), **codec)
        return handler

    def _single(self, method: str, inner: Handler) -> Handler:
        async def call(request: Any, context: Any) -> Any:
            await self._check(sum(self._open.values()) < self._most, context)
            with self._counted(method):
                return await inner(request, context)

        return call

    def _stream(self, method: str, inner: Callable[[Any, Any], Any]) -> Handler:
        async def call(request: Any, context: Any) -> None:
            few = self._open[method] < max(1, self._most // 4)
            await self._check(few and sum(self._open.values()) < self._most, context)
            with self._counted(method):
                if method.startswith(self._prefix):
                    await _answered(inner, request, context)
                else:
                    await self._until_closing(inner, request, context)

        return call

    async def _until_closing(self, inner: Callable[[Any, Any], Any], request: Any, context: Any) -> None:
        answering = asyncio.ensure_future(_answered(inner, request, context))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({answering, closing}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                return
        finally:
            closing.cancel()
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        trailing = (("maskmend-code", "unavailable"), ("retry-after", "5"))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping; try again elsewhere", trailing)

    async def _check(self, room: bool, context: Any) -> None:
        if not room:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many calls of this kind are open already; try again later",
                (("maskmend-code", "overloaded"), ("retry-after", "5")),
            )

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        self._open[method] += 1
        try:
            yield
        finally:
            self._open[method] -= 1


async def _answered(inner: Callable[[Any, Any], Any], request: Any, context: Any) -> None:
    if inspect.isasyncgenfunction(inner):
        async with aclosing(inner(request, context)) as items:
            async for item in items:
                await context.write(item)
    else:
        await inner(request, context)

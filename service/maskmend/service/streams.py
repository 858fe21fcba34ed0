"""Calls that stay open, counted: each kind may take its part of the places, and no more."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc


class FewStreams(grpc.aio.ServerInterceptor):
    """Lets so many calls of each method be open that answer with a stream; refuses more with RESOURCE_EXHAUSTED.

    Args:
        most: calls of one method.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """See gRPC."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.response_streaming:
            return handler
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        inner = handler.stream_stream or handler.unary_stream
        return make(
            self._counted(handler_call_details.method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _counted(self, method: str, inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[None]]:
        async def call(request: Any, context: Any) -> None:
            if self._open[method] >= self._most:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._most} calls of this kind are open already; try again later",
                    (("maskmend-code", "overloaded"), ("retry-after", "5")),
                )
            self._open[method] += 1
            try:
                if inspect.isasyncgenfunction(inner):
                    async with aclosing(inner(request, context)) as items:
                        async for item in items:
                            await context.write(item)
                else:
                    await inner(request, context)
            finally:
                self._open[method] -= 1

        return call

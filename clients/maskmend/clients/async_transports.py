"""The two ways to a server for asyncio: twins of those in transports.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol, TypeVar

import httpx

from maskmend.clients import http_wire
from maskmend.clients.calls import Call
from maskmend.clients.errors import broken_off, late
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.clients.transports import (
    grpc_credentials,
    grpc_modules,
    http_settings,
    http_timeout,
    stub,
    translated,
)

Result = TypeVar("Result")


class AsyncTransport(Protocol):
    """A way to a server."""

    async def refine(self, call: Call, left: float) -> RefineResult:
        """One try. `left`: seconds for it."""

    def stream(self, call: Call, left: float) -> AsyncGenerator[tuple[int, RefinedInstance], None]:
        """One try; index and instance as they come."""

    async def close(self) -> None:
        """Close connections."""


class AsyncHttpTransport:
    """See `HttpTransport`."""

    def __init__(self, url: str, api_key: str | None, verify: bool | str | Path, connections: int) -> None:
        self._url = url
        self._client = httpx.AsyncClient(**http_settings(api_key, verify, connections))

    async def refine(self, call: Call, left: float) -> RefineResult:
        """See `AsyncTransport`."""
        async with aclosing(self._chunks(http_wire.REFINE, call, left)) as chunks:
            return http_wire.result(b"".join([chunk async for chunk in chunks]))

    async def stream(self, call: Call, left: float) -> AsyncGenerator[tuple[int, RefinedInstance], None]:
        """See `AsyncTransport`."""
        lines = http_wire.Lines()
        async with aclosing(self._chunks(http_wire.STREAM, call, left)) as chunks:
            async for chunk in chunks:
                for found in lines.feed(chunk):
                    yield found
        lines.end()

    async def _chunks(self, path: str, call: Call, left: float) -> AsyncGenerator[bytes, None]:
        until = time.monotonic() + left
        # Writing PNGs takes a while, in which others go on.
        form = await asyncio.to_thread(http_wire.form, call, left)
        with translated():
            request = self._client.build_request("POST", self._url + path, **form, timeout=http_timeout(left))
            answer = await _in_time(self._client.send(request, stream=True), until)
            try:
                body, chunks = http_wire.Body(answer.status_code, answer.headers), answer.aiter_bytes()
                while True:
                    # Not over the whole loop: what the caller does between two chunks is its own time.
                    chunk = await _in_time(anext(chunks, None), until)
                    if chunk is None:
                        break
                    yield body.take(chunk)
            finally:
                await answer.aclose()
        body.end()

    async def close(self) -> None:
        """See `AsyncTransport`."""
        await self._client.aclose()


class AsyncGrpcTransport:
    """See `GrpcTransport`."""

    def __init__(self, address: str, secure: bool, api_key: str | None, verify: bool | str | Path) -> None:
        grpc, self._wire = grpc_modules()
        self._channel = (
            grpc.aio.secure_channel(address, grpc_credentials(verify), self._wire.CHANNEL)
            if secure
            else grpc.aio.insecure_channel(address, self._wire.CHANNEL)
        )
        self._stub = stub(self._channel)
        self._metadata = (("x-api-key", api_key),) if api_key else ()
        self._failure: type[Exception] = grpc.RpcError

    async def refine(self, call: Call, left: float) -> RefineResult:
        """See `AsyncTransport`."""
        try:
            message = await asyncio.to_thread(self._wire.message, call)
            answer = await self._stub.Refine(message, timeout=left, metadata=self._metadata)
        except self._failure as error:
            raise self._wire.refusal(error) from None
        result: RefineResult = self._wire.result(answer)
        return result

    async def stream(self, call: Call, left: float) -> AsyncGenerator[tuple[int, RefinedInstance], None]:
        """See `AsyncTransport`."""
        message = await asyncio.to_thread(self._wire.message, call)
        events = self._stub.RefineStream(iter([message]), timeout=left, metadata=self._metadata)
        try:
            async for item in events:
                found = self._wire.event(item)
                if not isinstance(found, tuple):
                    return
                yield found
        except self._failure as error:
            raise self._wire.refusal(error) from None
        finally:
            events.cancel()
        raise broken_off()

    async def close(self) -> None:
        """See `AsyncTransport`."""
        await self._channel.close()


async def _in_time(work: Awaitable[Result], until: float) -> Result:
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            return await work
    except TimeoutError:
        raise late() from None

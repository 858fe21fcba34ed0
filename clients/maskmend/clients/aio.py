"""`AsyncClient`: the twin of `Client` for asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import Any

from maskmend.clients.async_transports import AsyncGrpcTransport, AsyncHttpTransport, AsyncTransport
from maskmend.clients.remote import Remote
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.patcher.errors import MaskmendError


class AsyncClient(Remote):
    """Refines masks on a server without blocking the event loop. Belongs to the loop it is first used in.

        async with AsyncClient("grpc://127.0.0.1:8001") as client:
            result = await client.refine("cat.jpg", masks)

    Args and errors of the constructor: see `Remote`.
    """

    def _set_up(self) -> None:
        self._opened: AsyncTransport | None = None

    async def refine(self, image: Any, masks: Any) -> RefineResult:
        """See `Client.refine`."""
        call, attempts = await asyncio.to_thread(self._prepare, image, masks)
        if not call.masks:
            return await asyncio.to_thread(call.nothing)
        while True:
            try:
                return call.fits(await self._transport.refine(call, attempts.left))
            except MaskmendError as error:
                await asyncio.sleep(attempts.wait_after(error))

    async def stream(self, image: Any, masks: Any) -> AsyncGenerator[tuple[int, RefinedInstance], None]:
        """See `Client.stream`."""
        call, attempts = await asyncio.to_thread(self._prepare, image, masks)
        while call.masks:
            async with aclosing(self._transport.stream(call, attempts.left)) as items:
                try:
                    first = await anext(items, None)
                except MaskmendError as error:
                    wait = attempts.wait_after(error)
                else:
                    if first is not None:
                        yield first[0], call.fits_one(first[1])
                        async for index, instance in items:
                            yield index, call.fits_one(instance)
                    return
            await asyncio.sleep(wait)

    async def refine_many(
        self,
        items: Iterable[tuple[Any, Any]] | AsyncIterable[tuple[Any, Any]],
        *,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[RefineResult | MaskmendError, None]:
        """See `Client.refine_many`."""
        places = asyncio.Semaphore(self._concurrency)
        waiting: deque[asyncio.Task[RefineResult | MaskmendError]] = deque()

        async def one(image: Any, masks: Any) -> RefineResult | MaskmendError:
            async with places:
                try:
                    return await self.refine(image, masks)
                except MaskmendError as error:
                    if return_exceptions:
                        return error
                    raise

        try:
            async for image, masks in _each(items):
                waiting.append(asyncio.create_task(one(image, masks)))
                if len(waiting) >= 2 * self._concurrency:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """Close connections. Calls after this are refused."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    @property
    def _transport(self) -> AsyncTransport:
        """Made when first needed: gRPC's belongs to the loop that runs then."""
        if self._opened is None:
            self._opened = (
                AsyncGrpcTransport(self._address, self._scheme == "grpcs", self._api_key, self._verify)
                if self._is_grpc
                else AsyncHttpTransport(self.url, self._api_key, self._verify, self._concurrency)
            )
        return self._opened

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item

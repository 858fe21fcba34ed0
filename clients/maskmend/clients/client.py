"""`Client`: masks refined by a server, with the face of `Refiner`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

from maskmend.clients.remote import Remote
from maskmend.clients.results import RefinedInstance, RefineResult
from maskmend.clients.transports import GrpcTransport, HttpTransport, Transport
from maskmend.patcher.errors import MaskmendError


class Client(Remote):
    """Refines masks on a server, over HTTP or gRPC. May be used by several threads at a time.

        from maskmend.clients import Client

        with Client("http://127.0.0.1:8000") as client:
            result = client.refine("cat.jpg", masks)

    Args and errors of the constructor: see `Remote`.
    """

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._transport: Transport = (
            GrpcTransport(self._address, self._scheme == "grpcs", self._api_key, self._verify)
            if self._is_grpc
            else HttpTransport(self.url, self._api_key, self._verify, self._concurrency)
        )

    def refine(self, image: Any, masks: Any) -> RefineResult:
        """Refine the masks of one image; see `Refiner.refine`.

        Raises:
            MaskmendError: what the server refused, as the class that it was raised as there; `ConnectionFailedError`,
                `UnexpectedAnswerError`, or `DeadlineError` once the time is up.
        """
        call, attempts = self._prepare(image, masks)
        while True:
            try:
                return call.fits(self._transport.refine(call, attempts.left))
            except MaskmendError as error:
                time.sleep(attempts.wait_after(error))

    def stream(self, image: Any, masks: Any) -> Iterator[tuple[int, RefinedInstance]]:
        """Index and instance as soon as each is ready, in any order. Tried again only while nothing has come.

        Raises:
            MaskmendError: as `refine`.
        """
        call, attempts = self._prepare(image, masks)
        while True:
            with closing(self._transport.stream(call, attempts.left)) as items:
                try:
                    first = next(items, None)
                except MaskmendError as error:
                    wait = attempts.wait_after(error)
                else:
                    if first is not None:
                        yield first
                        yield from items
                    return
            time.sleep(wait)

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Iterator[RefineResult | MaskmendError]:
        """Refine many images, `concurrency` of them at a time; see `Refiner.refine_many`."""
        threads = ThreadPoolExecutor(self._concurrency, "maskmend-client")
        waiting: deque[Future[RefineResult]] = deque()
        try:
            for image, masks in items:
                waiting.append(threads.submit(self.refine, image, masks))
                # One in reserve for each thread: none is idle while an early answer is waited for.
                if len(waiting) >= 2 * self._concurrency:
                    yield _taken(waiting.popleft(), return_exceptions)
            while waiting:
                yield _taken(waiting.popleft(), return_exceptions)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Close connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _taken(future: Future[RefineResult], return_exceptions: bool) -> RefineResult | MaskmendError:
    try:
        return future.result()
    except MaskmendError as error:
        if return_exceptions:
            return error
        raise

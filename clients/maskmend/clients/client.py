"""`Client`: masks refined by a server, with the face of `Refiner`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
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

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._opened: Transport | None = None
        if not isinstance(self._verify, bool) or self._is_grpc:
            # What is missing or unreadable shows now, not with the first call.
            _ = self._transport

    def refine(self, image: Any, masks: Any) -> RefineResult:
        """Refine the masks of one image; see `Refiner.refine`.

        Raises:
            MaskmendError: what the server refused, as the class that it was raised as there; `ConnectionFailedError`,
                `UnexpectedAnswerError`, or `DeadlineError` once the time is up.
        """
        call, attempts = self._prepare(image, masks)
        if not call.masks:
            return call.nothing()
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
        while call.masks:
            with closing(self._transport.stream(call, attempts.left)) as items:
                try:
                    first = next(items, None)
                except MaskmendError as error:
                    wait = attempts.wait_after(error)
                else:
                    if first is not None:
                        yield first[0], call.fits_one(first[1])
                        for index, instance in items:
                            yield index, call.fits_one(instance)
                    return
            time.sleep(wait)

    def refine_many(
        self, items: Iterable[tuple[Any, Any]], *, return_exceptions: bool = False
    ) -> Generator[RefineResult | MaskmendError, None, None]:
        """Refine many images, `concurrency` of them at a time; see `Refiner.refine_many`."""
        places = threading.Semaphore(self._concurrency)
        waiting: deque[Future[RefineResult]] = deque()
        try:
            for image, masks in items:
                waiting.append(self._begun(image, masks, places))
                # One in reserve for each place: none is idle while an early answer is waited for.
                if len(waiting) >= 2 * self._concurrency:
                    yield _taken(waiting.popleft(), return_exceptions)
            while waiting:
                yield _taken(waiting.popleft(), return_exceptions)
        finally:
            for future in waiting:
                future.cancel()

    def _begun(self, image: Any, masks: Any, places: threading.Semaphore) -> Future[RefineResult]:
        """`refine` in a thread of its own, which does not keep the program alive when that wants to end."""
        future: Future[RefineResult] = Future()

        def work() -> None:
            with places:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    future.set_result(self.refine(image, masks))
                except BaseException as error:
                    future.set_exception(error)

        threading.Thread(target=work, name="maskmend-client", daemon=True).start()
        return future

    def close(self) -> None:
        """Close connections. Calls after this are refused."""
        self._closed = True
        with self._lock:
            if self._opened is not None:
                self._opened.close()

    @property
    def _transport(self) -> Transport:
        """Made when first needed."""
        with self._lock:
            if self._opened is None:
                self._opened = (
                    GrpcTransport(self._address, self._scheme == "grpcs", self._api_key, self._verify)
                    if self._is_grpc
                    else HttpTransport(self.url, self._api_key, self._verify, self._concurrency)
                )
            return self._opened

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

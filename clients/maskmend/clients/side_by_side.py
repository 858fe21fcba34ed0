"""Several images under way in this process, results in their order: while the network has one, others are read or judged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any

import numpy as np

from maskmend.clients.results import RefineResult
from maskmend.patcher.errors import MaskmendError

_WINDOW = 4
"""Images for each thread that may be waiting, at work, or finished behind one that takes longer."""
_BYTES = 2**27
"""No image is taken while those that wait or are worked on are arrays of more bytes than this together."""

Work = Callable[[Any, Any, Callable[[], None]], RefineResult]
"""Refines an image and its masks, and calls now and then what it is given third: that raises when it is to stop."""


class _Stopped(Exception):  # noqa: N818
    """Nobody waits for the result any more."""


def side_by_side(
    work: Work, items: Iterable[tuple[Any, Any]], threads: int, *, return_exceptions: bool
) -> Generator[RefineResult | MaskmendError, None, None]:
    """Refine images in as many threads.

    The thread that asks for results takes the items, one more than there are threads for: what an item costs to make,
    such as decoding it, is done while others are worked on. Where that fails, the results of all images before come first.

    Args:
        work: what to do; called from several threads.
        items: image and masks of each.
        threads: images worked on at a time.
        return_exceptions: give the error of an image in the place of its result, and go on.

    Yields:
        One result per image, in order.

    Raises:
        MaskmendError: of an image, unless they are returned.
    """
    incoming, waiting = iter(items), deque[tuple[Future[RefineResult], int]]()
    stop, more, failed = Event(), True, None

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    workers = ThreadPoolExecutor(threads, "maskmend-image")
    try:
        while more or waiting:
            begun = [(future, size) for future, size in waiting if not future.done()]
            if waiting and waiting[0][0].done():
                # Before anything else is read: what is done is soon in the journal, and seen.
                yield _taken(waiting.popleft()[0], return_exceptions)
            elif more and _has_room(len(waiting), begun, threads):
                try:
                    image, masks = next(incoming)
                except StopIteration:
                    more = False
                    continue
                except Exception as error:
                    more, failed = False, error
                    continue
                size = image.nbytes if isinstance(image, np.ndarray) else 0
                waiting.append((workers.submit(work, image, masks, check), size))
                # Held by nobody but who works on it.
                del image, masks
            else:
                wait([future for future, _ in begun], return_when=FIRST_COMPLETED)
    finally:
        stop.set()
        workers.shutdown(cancel_futures=True)
    if failed is not None:
        raise failed


def _has_room(waiting: int, begun: list[tuple[Future[RefineResult], int]], threads: int) -> bool:
    return waiting < _WINDOW * threads and len(begun) <= threads and sum(size for _, size in begun) <= _BYTES


def _taken(future: Future[RefineResult], return_exceptions: bool) -> RefineResult | MaskmendError:
    try:
        return future.result()
    except MaskmendError as error:
        if return_exceptions:
            return error
        raise

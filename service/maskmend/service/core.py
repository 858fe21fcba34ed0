"""One request through the service, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TypeVar, get_args

import numpy as np

from maskmend.patcher import Rle
from maskmend.patcher.errors import MaskmendError
from maskmend.service.admission import Admission
from maskmend.service.batcher import Ticket
from maskmend.service.engine import GROUP, Engine, PatchRefiner
from maskmend.service.errors import CancelledError, ServiceError, UnavailableError
from maskmend.service.inputs import IndexMask, InputLimits, check_count, read_image, read_masks
from maskmend.service.job import Job
from maskmend.service.metrics import Metrics
from maskmend.service.outputs import describe, index_picture
from maskmend.service.schema import Encoding, RefineAnswer, RefinedMask, RefineOptions
from maskmend.service.served import Served, ServedModel
from maskmend.service.stages import StageTimes
from maskmend.service.tracing import Tracer

_LOG = logging.getLogger("maskmend")

Read = TypeVar("Read")
WARM_UP_SECONDS = 600.0
"""Compiling every kernel on a busy machine without a cache takes longer than any request may."""


class Core:
    """Decodes, refines and encodes in threads; the event loop only waits.

    Args:
        served: the models.
        metrics: told what happens.
        limits: of what a request may bring.
        concurrency: requests at work.
        queue: requests that may wait.
        timeout: longest deadline in seconds, and that of requests which name none.
        tracer: makes a span of each request; None for none.
    """

    def __init__(
        self,
        served: Served,
        metrics: Metrics,
        limits: InputLimits,
        *,
        concurrency: int = 4,
        queue: int = 64,
        timeout: float = 60.0,
        tracer: Tracer | None = None,
    ) -> None:
        self.served, self.metrics, self.limits = served, metrics, limits
        self.admission = Admission(concurrency, queue)
        self._timeout, self._tracer = timeout, tracer
        self._threads = ThreadPoolExecutor(concurrency, "maskmend-geometry")
        self._readers = ThreadPoolExecutor(concurrency, "maskmend-reading")
        metrics.watch(metrics.waiting, lambda: self.admission.waiting)
        metrics.watch(metrics.busy, lambda: self.admission.busy)
        metrics.watch(metrics.patches, lambda: served.depth)
        metrics.watch_tritons(served.tritons)

    async def read(self, work: Callable[[], Read]) -> Read:
        """Have a thread read what a request brought; as many at a time as are at work, for it grows when it is read."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def refine(self, job: Job, *, left: float | None = None) -> RefineAnswer:
        """Refine the masks of one image.

        Args:
            job: what to do, once: its image and masks are taken out of it. When the calling task is cancelled, work on it
                ends at the next check.
            left: seconds that the caller's own deadline leaves.

        Raises:
            MaskmendError: see `maskmend.service.errors`.
        """
        found: list[RefinedMask] = []
        answer: RefineAnswer | None = None
        async for item in self._run(job, left):
            if isinstance(item, RefinedMask):
                found.append(item)
            else:
                answer = item
        assert answer is not None
        found.sort(key=lambda mask: mask.index)
        return answer.model_copy(update={"instances": found})

    def stream(self, job: Job, *, left: float | None = None) -> AsyncGenerator[RefinedMask | RefineAnswer, None]:
        """Refine, instance by instance as they are ready; last an answer without instances: size, timings, provenance."""
        return self._run(job, left)

    def allowed(self, job: Job, left: float | None) -> float:
        """Seconds that a job may take, when the caller's own deadline leaves `left`."""
        most = WARM_UP_SECONDS if job.protocol == "warm-up" else self._timeout
        return min(t for t in (most, job.options.timeout_s, left) if t is not None)

    async def warm_up(self) -> None:
        """Load every kernel and run every network once, so that the first request is as quick as the next.

        A Triton that is too busy to answer just then is no reason to end: readiness says how it does.
        """
        rows, columns = np.indices((96, 128))
        disk = (rows - 48) ** 2 + (columns - 64) ** 2 < 30**2
        image = np.repeat(np.where(disk, 200, 40).astype(np.uint8)[..., None], 3, axis=2)
        for info in self.served.list():
            for encoding in get_args(Encoding):
                options = RefineOptions(weights=info.name, encoding=encoding)
                job = Job(image, [np.roll(disk, 3, 1), disk], options, "warm-up", "warm-up")
                try:
                    await self.refine(job)
                except UnavailableError as error:
                    _LOG.warning("%s was not warmed up: %s", info.name, error)

    async def close(self, seconds: float) -> None:
        """Take nothing new, finish what was begun, but wait no longer than this, stop the threads."""
        self.admission.draining = True
        until = time.monotonic() + seconds
        while (self.admission.busy or self.admission.waiting) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for threads in (self._threads, self._readers):
            threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.get_running_loop().run_in_executor(None, self.served.close)

    async def _run(self, job: Job, left: float | None) -> AsyncGenerator[RefinedMask | RefineAnswer, None]:
        began = time.monotonic()
        code = "ok"
        try:
            async with aclosing(self._admitted(job, left, began)) as items:
                async for item in items:
                    yield item
        except MaskmendError as error:
            code = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = CancelledError.code
            raise
        except Exception:
            code = ServiceError.code
            raise
        finally:
            self.metrics.requests.labels(job.protocol, code).inc()
            self.metrics.seconds.labels(job.protocol).observe(time.monotonic() - began)
            if self._tracer is not None:
                self._tracer(job.request_id, job.protocol, code, time.monotonic() - began, job.traceparent)

    async def _admitted(
        self, job: Job, left: float | None, began: float
    ) -> AsyncGenerator[RefinedMask | RefineAnswer, None]:
        if not isinstance(job.masks, IndexMask):
            check_count(job.masks, self.limits)
        options = job.options
        model = self.served.get(options.weights, options.refiner, options.precision)
        ticket = Ticket(began + self.allowed(job, left))
        ticket.check()
        with self.served.lease(model):
            large = job.large
            await self.admission.enter(ticket, large=large)
            async with aclosing(self._working(job, model, ticket, began, large)) as items:
                async for item in items:
                    yield item

    async def _working(
        self, job: Job, model: ServedModel, ticket: Ticket, began: float, large: bool
    ) -> AsyncGenerator[RefinedMask | RefineAnswer, None]:
        """Have a thread do it, in the place that admission gave."""
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[RefinedMask | RefineAnswer | BaseException] = asyncio.Queue()

        def emit(item: RefinedMask | RefineAnswer | BaseException) -> None:
            loop.call_soon_threadsafe(ready.put_nowait, item)

        def leave() -> None:
            self.admission.leave(large=large, began=started)
            job.ended()

        def work() -> None:
            try:
                # Once more: when the request is given up, its own lease ends before this thread does.
                with self.served.lease(model):
                    emit(self._work(job, model.for_ticket(ticket), ticket, started - began, emit))
            except BaseException as error:
                emit(error)
            finally:
                loop.call_soon_threadsafe(leave)

        self._threads.submit(work)
        try:
            while True:
                item = await ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, RefineAnswer):
                    return
        finally:
            ticket.cancel()
            model.batcher.drop(ticket)

    def _work(
        self,
        job: Job,
        refiner: PatchRefiner,
        ticket: Ticket,
        waited: float,
        emit: Callable[[RefinedMask], None],
    ) -> RefineAnswer:
        """In a thread: the whole way of one job."""
        options = job.options
        times = StageTimes()
        ticket.check()
        with times.measure("decode"):
            source, given = job.take()
            image = read_image(source, options.exif_policy, self.limits)
            height, width = image.shape[:2]
            masks = read_masks(given, height, width, self.limits, ticket.check)
            del source, given
        # All patches of a group go to the batcher at once: it makes the batches.
        engine = Engine(refiner, options.engine_options(), batch_size=GROUP)
        refined: dict[int, Rle] = {}
        for index, result in engine.refine_each(image, masks):
            ticket.check()
            with times.measure("encode"):
                found = describe(index, masks[index], result, options.encoding, report=options.report)
            if options.encoding == "index_png":
                refined[index] = result.mask
            self._count(found)
            emit(found)
        picture = None
        if options.encoding == "index_png":
            with times.measure("encode"):
                picture = index_picture([refined[n] for n in range(len(masks))], height, width)
        for stage, seconds in engine.stages.seconds.items():
            times.seconds[stage] += seconds
        timings = self._timings(times, waited)
        return RefineAnswer(
            request_id=job.request_id,
            width=width,
            height=height,
            instances=[],
            index_png=picture,
            timings=timings if options.report else None,
            provenance=engine.provenance,
        )

    def _timings(self, times: StageTimes, waited: float) -> dict[str, float]:
        for stage, seconds in times.seconds.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        self.metrics.stage_seconds.labels("queue").observe(waited)
        every = {**times.seconds, "queue": waited, "total": times.total + waited}
        return {stage: round(seconds, 6) for stage, seconds in every.items()}

    def _count(self, found: RefinedMask) -> None:
        if found.abstained is None:
            self.metrics.instances.labels("refined").inc()
        else:
            self.metrics.instances.labels("kept").inc()
            self.metrics.abstains.labels(found.abstained).inc()

"""The HTTP face: routes, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, StreamingResponse

from maskmend.patcher.errors import MaskmendError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.batcher import Ticket
from maskmend.service.compressed import unpacked
from maskmend.service.core import Core
from maskmend.service.errors import (
    CancelledError,
    NotFoundError,
    UnavailableError,
    error_body,
)
from maskmend.service.examples import DESCRIPTION, ERRORS, REFINE_BODY, STREAM_ANSWER
from maskmend.service.fetch import Fetcher
from maskmend.service.held import Budget, Share
from maskmend.service.job import Job
from maskmend.service.metrics import Metrics
from maskmend.service.middleware import Gate, as_json, as_ours
from maskmend.service.requests import read_job
from maskmend.service.schema import ModelInfo, ModelList, RefineAnswer, RefinedMask
from maskmend.service.settings import Settings

WEB = Path(__file__).parent / "web"
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_READY_SECONDS = 10.0
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]


def build_app(
    core: Core,
    metrics: Metrics,
    keys: Keys,
    rate: RateLimit,
    budget: Budget,
    settings: Settings,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """The HTTP application.

    Args:
        core: what does the work.
        metrics: for `/metrics`.
        keys: who may ask.
        rate: how often.
        budget: of memory, for what requests bring.
        settings: limits and switches.
        lifespan: run around the application's life.
    """
    app = FastAPI(
        title="maskmend",
        version=version("maskmend"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        docs_url="/docs",
    )
    app.state.core, app.state.metrics, app.state.settings = core, metrics, settings
    app.state.draining = False
    app.state.fetcher = Fetcher(settings.url_hosts, _bytes(settings.max_body_mb)) if settings.url_hosts else None
    _add_refining(app)
    _add_models(app)
    _add_operations(app)
    _add_page(app)
    app.add_exception_handler(HTTPException, as_ours)
    app.add_exception_handler(MaskmendError, as_json)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "x-api-key", "content-type", "x-request-id"],
        )
    app.add_middleware(
        Gate,
        keys=keys,
        rate=rate,
        max_body=_bytes(settings.max_body_mb),
        read_timeout=settings.read_timeout_s,
        budget=budget,
        count=lambda code: metrics.rejects.labels(code).inc(),
    )
    return app


def _bytes(megabytes: float) -> int:
    return int(megabytes * 1e6)


async def _job(request: Request) -> Job:
    """The request's job: its body read, unpacked and parsed, its image fetched if need be."""
    body = b"".join([chunk async for chunk in request.stream()])
    job: Job = await _unless_gone(request, _parsed(request, body))
    return job


async def _parsed(request: Request, body: bytes) -> Job:
    state = request.app.state
    core: Core = state.core
    settings: Settings = state.settings
    share: Share = request.state.share
    encoding = request.headers.get("content-encoding", "identity")
    plain = await core.read(partial(unpacked, body, encoding, _bytes(settings.max_body_mb)))
    if plain is not body:
        share.take(len(plain))
    kind, name = request.headers.get("content-type", ""), request.state.request_id
    job = await core.read(
        partial(read_job, kind, plain, name, settings.max_parts, allow_urls=state.fetcher is not None)
    )
    job.traceparent, job.ended = request.headers.get("traceparent"), share.give_back
    if job.image_url is None:
        return job
    image = await state.fetcher.fetch_aside(job.image_url)
    share.take(len(image))
    job.image, job.image_url = image, None
    return job


def _add_refining(app: FastAPI) -> None:
    @app.post(
        "/v1/refine",
        summary="Refine the masks of one image",
        tags=["refine"],
        response_model=RefineAnswer,
        responses=ERRORS,
        openapi_extra={"requestBody": REFINE_BODY},
    )
    async def refine(request: Request) -> Response:
        core: Core = request.app.state.core
        answer = await _unless_gone(request, core.refine(await _job(request)))
        return Response(_dump(answer), media_type="application/json")

    @app.post(
        "/v1/refine/stream",
        summary="Refine the masks of one image; each instance as soon as it is ready",
        tags=["refine"],
        response_class=StreamingResponse,
        responses={**ERRORS, 200: STREAM_ANSWER},
        openapi_extra={"requestBody": REFINE_BODY},
    )
    async def refine_stream(request: Request) -> Response:
        core: Core = request.app.state.core
        items = core.stream(await _job(request))
        # The first item is waited for, so that a request which fails at once gets a status of its own.
        first = await _unless_gone(request, anext(items))
        return StreamingResponse(_lines(first, items, request.state.request_id), media_type="application/x-ndjson")


async def _lines(
    first: RefinedMask | RefineAnswer, items: AsyncGenerator[RefinedMask | RefineAnswer, None], name: str
) -> AsyncIterator[bytes]:
    """One JSON object a line: instances, last what holds for all of them; or the error that ended it."""
    try:
        async with aclosing(items):
            yield _line(first)
            async for item in items:
                yield _line(item)
    except MaskmendError as error:
        yield orjson.dumps({"error": error_body(error, name).model_dump()}) + b"\n"


def _line(item: RefinedMask | RefineAnswer) -> bytes:
    kind = "instance" if isinstance(item, RefinedMask) else "done"
    content = _plain(item)
    if kind == "done":
        content.pop("instances")
    return orjson.dumps({kind: content}) + b"\n"


def _plain(item: RefinedMask | RefineAnswer) -> dict[str, Any]:
    content = item.model_dump(exclude_none=True)
    for mask in (content, *content.get("instances", ())):
        if "confidence" in mask:
            mask.setdefault("abstained", None)
    return content


def _dump(answer: RefineAnswer) -> bytes:
    return orjson.dumps(_plain(answer))


async def _unless_gone(request: Request, work: Any) -> Any:
    """Wait for work, and give it up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CancelledError("the client went away")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_models(app: FastAPI) -> None:
    @app.get("/v1/models", summary="The models that are served", tags=["models"], responses=ERRORS)
    async def models(request: Request) -> ModelList:
        return ModelList(models=request.app.state.core.served.list())

    @app.get("/v1/models/{name:path}", summary="One model", tags=["models"], responses=ERRORS)
    async def model(request: Request, name: str) -> ModelInfo:
        served = request.app.state.core.served
        found = served.get(name)
        info: ModelInfo = found.info(default=name == served.default)
        return info


async def _check_models(core: Core) -> None:
    loop = asyncio.get_running_loop()
    for info in core.served.list():
        ticket = Ticket(time.monotonic() + _READY_SECONDS)
        try:
            await loop.run_in_executor(None, core.served.get(info.name).check, ticket)
        except MaskmendError as error:
            raise UnavailableError(f"model {info.name} does not answer: {error}", retry_after=5) from error


def _add_operations(app: FastAPI) -> None:
    checking = asyncio.Lock()
    app.state.ready_at = float("-inf")

    @app.get("/healthz/live", summary="Whether the process is there", tags=["operations"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get(
        "/healthz/ready",
        summary="Whether requests are welcome: a patch goes through every network",
        tags=["operations"],
        responses={503: ERRORS[503]},
    )
    async def ready(request: Request) -> dict[str, str]:
        core: Core = request.app.state.core
        if request.app.state.draining or core.admission.draining:
            raise UnavailableError("the service is stopping", retry_after=5)
        # One check at a time, and not more than one a second: anyone may ask.
        async with checking:
            if time.monotonic() - app.state.ready_at > 1.0:
                await _check_models(core)
                app.state.ready_at = time.monotonic()
        return {"status": "ready"}

    @app.get("/metrics", summary="Prometheus metrics", tags=["operations"], response_class=Response)
    async def numbers(request: Request) -> Response:
        metrics: Metrics = request.app.state.metrics
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return _file("index.html")

    @app.api_route("/static/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static(name: str) -> Response:
        return _file(name)


def _file(name: str) -> Response:
    file = (WEB / name).resolve()
    if not file.is_relative_to(WEB.resolve()) or not file.is_file():
        raise NotFoundError("there is nothing at this path")
    return FileResponse(file, headers={"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"})

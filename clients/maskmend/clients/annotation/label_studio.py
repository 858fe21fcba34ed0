"""The HTTP face of the Label Studio ML backend: its routes, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from maskmend.clients.annotation.predictions import predictions
from maskmend.clients.annotation.refiners import Refines, model_version
from maskmend.clients.annotation.task_images import TaskImages
from maskmend.patcher.errors import MaskmendError
from maskmend.service.errors import (
    InvalidRequestError,
    OverloadedError,
    StalledError,
    TooLargeError,
    foreseen,
    http_status,
)
from maskmend.service.strict_json import read_json

MAX_BODY = 64_000_000
READ_SECONDS = 60.0
MOST_WAITING = 16
"""Requests that wait while another one is refined."""


def build_app(
    refines: Refines,
    images: TaskImages,
    *,
    tolerance: float = 0.5,
    basic_auth: tuple[str, str] | None = None,
    max_body: int = MAX_BODY,
) -> FastAPI:
    """The application that Label Studio calls.

    Args:
        refines: see there; called from one thread at a time.
        images: where photographs come from.
        tolerance: farthest, in px, that a written polygon may lie from its mask's outline.
        basic_auth: user and password that every request must show; None lets anyone ask.
        max_body: bytes of a request.
    """
    app = FastAPI(title="maskmend for Label Studio", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = asyncio.Lock()
    waiting = 0

    @app.get("/")
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "maskmend"}

    @app.get("/metrics")
    async def metrics() -> dict[str, Any]:
        return {}

    @app.get("/versions")
    async def versions() -> dict[str, list[str]]:
        return {"versions": [model_version(refines)]}

    @app.post("/setup")
    async def setup(request: Request) -> dict[str, str]:
        # Host and token that come with it are not used: a request must not say where images are fetched.
        await _body(request, max_body)
        return {"model_version": model_version(refines)}

    @app.post("/webhook")
    async def webhook(request: Request) -> dict[str, str]:
        await _body(request, max_body)
        return {"status": "nothing is trained here"}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        nonlocal waiting
        body = await _body(request, max_body)
        params = body.get("params") or {}
        context = params.get("context") if isinstance(params, dict) else None
        if waiting >= MOST_WAITING:
            raise OverloadedError("too many requests at once; try again in a while", retry_after=5)
        waiting += 1
        try:
            async with one_at_a_time:
                found = await asyncio.to_thread(predictions, body.get("tasks"), context, refines, images, tolerance)
        finally:
            waiting -= 1
        return {"results": found, "model_version": model_version(refines)}

    app.add_exception_handler(MaskmendError, _refused)
    app.add_exception_handler(HTTPException, _not_there)
    if basic_auth is not None:
        app.add_middleware(_BasicAuth, user=basic_auth[0], password=basic_auth[1])
    return app


class _BasicAuth:
    """ASGI middleware: nobody gets past it without the user and the password."""

    def __init__(self, app: ASGIApp, user: str, password: str) -> None:
        self._app, self._expected = app, f"{user}:{password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._knows(dict(scope["headers"]).get(b"authorization", b"")):
            headers = {"www-authenticate": 'Basic realm="maskmend"'}
            await PlainTextResponse("Unauthorized", 401, headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, header: bytes) -> bool:
        scheme, _, text = header.partition(b" ")
        try:
            given = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(given, self._expected)


async def _body(request: Request, most: int) -> dict[str, Any]:
    """The JSON object that a request carries."""
    try:
        data = await asyncio.wait_for(_read(request, most), READ_SECONDS)
    except TimeoutError:
        raise StalledError("the body stalled; send it again") from None
    body = await asyncio.to_thread(read_json, data)
    if not isinstance(body, dict):
        raise InvalidRequestError("the body must be a JSON object", field="body")
    return body


async def _read(request: Request, most: int) -> bytes:
    data = bytearray()
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > most:
        raise _too_large(most)
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise _too_large(most)
    return bytes(data)


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {most} bytes; send fewer tasks", field="body")


async def _refused(_: Request, error: Exception) -> JSONResponse:
    ours = foreseen(error)
    retry_after = getattr(ours, "retry_after", None)
    headers = {"connection": "close"} | ({} if retry_after is None else {"retry-after": str(retry_after)})
    return JSONResponse({"error": str(ours)[:1500], "code": ours.code}, http_status(ours), headers)


async def _not_there(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "there is nothing at this path"}, getattr(error, "status_code", 404))

"""Around every HTTP request: its name, its limits, its key, its log line, and errors as JSON."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskmend.patcher.errors import MaskmendError
from maskmend.service.auth import Keys, RateLimit
from maskmend.service.errors import (
    BadRequestError,
    CancelledError,
    MethodError,
    NotFoundError,
    StalledError,
    TooLargeError,
    error_body,
    foreseen,
    http_status,
)
from maskmend.service.held import SLOWEST, Budget, Share
from maskmend.service.logs import request_id, request_name

logger = logging.getLogger("maskmend.http")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
GUARDED = "/v1/"
"""Paths below this need a key, where keys are asked for."""

_DISCARD_SECONDS, _DISCARD_BYTES = 2.0, 1 << 24

SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}


class Gate:
    """ASGI middleware; the outermost.

    Args:
        app: what is behind it.
        keys: who may ask.
        rate: how often.
        max_body: bytes of a request's body.
        read_timeout: seconds until a body must be there, and one more for each `SLOWEST` bytes of it.
        budget: of memory, for all bodies that are being read or worked on.
        count: told the code of every refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        rate: RateLimit,
        max_body: int,
        read_timeout: float,
        budget: Budget,
        count: Callable[[str], None],
    ) -> None:
        self._app, self._keys, self._rate, self._count = app, keys, rate, count
        self._max_body, self._read_timeout = max_body, read_timeout
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        name = request_name(headers.get("x-request-id") or "")
        scope.setdefault("state", {})["request_id"] = name
        token = request_id.set(name)
        began = time.monotonic()
        status = 0

        share = self._budget.share()
        scope["state"]["share"] = share
        limited = _LimitedBody(receive, self._max_body, self._read_timeout, share)
        has_body = headers.get("content-length") not in (None, "0") or headers.get("transfer-encoding") is not None

        left_over = False

        async def answer(message: Message) -> None:
            nonlocal status, left_over
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {key.lower() for key, _ in message["headers"]}
                more = {**SECURITY_HEADERS, b"x-request-id": name.encode()}
                if status >= 400 and has_body and not limited.ended:
                    # What is left of the body would be taken for the next request.
                    more[b"connection"] = b"close"
                    left_over = True
                message["headers"] = [*message["headers"], *((k, v) for k, v in more.items() if k not in known)]
            elif left_over and not message.get("more_body", False):
                # Closed with bytes unread, the connection would be reset, and the answer could be lost on its way.
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, limited, answer)
        except ClientDisconnect:
            scope["state"]["refusal"] = CancelledError.code
        except Exception as error:
            if status:
                raise
            scope["state"]["refusal"] = foreseen(error).code
            if not isinstance(error, MaskmendError):
                logger.exception("a request failed for a reason that nobody foresaw")
            await error_response(error, name)(scope, receive, answer)
        finally:
            share.give_back()
            if refusal := scope["state"].get("refusal"):
                self._count(refusal)
            extra = {"method": scope["method"], "path": scope["path"][:200], "status": status}
            extra["seconds"] = round(time.monotonic() - began, 4)
            level = logging.DEBUG if scope["path"].startswith(("/healthz/", "/metrics")) else logging.INFO
            logger.log(level, "request", extra=extra)
            request_id.reset(token)

    def _check(self, scope: Scope, headers: _Headers) -> None:
        path: str = scope["path"]
        if path.startswith(GUARDED) and scope["method"] != "OPTIONS":
            caller = self._keys.caller(headers.get("authorization"), headers.get("x-api-key"))
            self._rate.take(caller or str((scope.get("client") or ("",))[0]))
        hosts = headers.all("host")
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            raise BadRequestError("the host header is missing or malformed", field="host")
        lengths = headers.all("content-length")
        if lengths and headers.get("transfer-encoding"):
            raise BadRequestError("a request has either content-length or transfer-encoding", field="content-length")
        if lengths and int(lengths[0]) > self._max_body:
            raise _too_large(self._max_body)


class _Headers:
    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._raw = list(raw)

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self._raw if key == name.encode()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


class _LimitedBody:
    """The request's body, cut off when it grows too large or stalls, or when there are too many beside it."""

    def __init__(self, receive: Receive, most: int, seconds: float, share: Share) -> None:
        self._receive, self._most, self._seconds, self._share = receive, most, seconds, share
        self._began: float | None = None
        self.received = 0
        self.ended = False

    async def __call__(self) -> Message:
        if self.ended:
            return await self._receive()
        now = time.monotonic()
        if self._began is None:
            self._began = now
        left = self._began + self._seconds + self.received / SLOWEST - now
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(left, self._seconds)))
        except TimeoutError:
            raise StalledError(f"the body stalled, or came slower than {SLOWEST // 1000} kB/s; send it again") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.received += size
            if self.received > self._most:
                raise _too_large(self._most)
            self._share.take(size)
            self.ended = not message.get("more_body", False)
        return message


async def _discard(receive: Receive) -> None:
    """Read what is left of a refused body, for a while."""
    read = 0
    until = time.monotonic() + _DISCARD_SECONDS
    while read < _DISCARD_BYTES:
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            return
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        read += len(message.get("body", b""))


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {most} bytes; send a smaller image, or fewer masks", field="body")


def error_response(error: BaseException, name: str) -> JSONResponse:
    """The answer to a request that failed."""
    ours = foreseen(error)
    status = http_status(ours)
    headers = {}
    retry_after = getattr(ours, "retry_after", None)
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error, name).model_dump(), status, headers)


async def as_json(request: Request, error: Exception) -> JSONResponse:
    """Our errors, as the application's handler of them answers."""
    request.state.refusal = foreseen(error).code
    return error_response(error, request.state.request_id)


async def as_ours(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own refusals in our words."""
    status = getattr(error, "status_code", 500)
    ours = foreseen(error)
    if status == 404:
        ours = NotFoundError("there is nothing at this path; /docs says what there is")
    elif status == 405:
        ours = MethodError("this path is there, but not for this method; /docs says which")
    elif status < 500:
        ours = BadRequestError("the request cannot be read")
    return await as_json(request, ours)

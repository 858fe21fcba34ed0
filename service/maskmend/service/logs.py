"""Log lines: one JSON object each, or plain text, on standard error; never the reason that a request fails."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that the running task works on."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def request_name(given: str) -> str:
    """The name that a client gave its request, if it is a plain one, or a new one."""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class JsonLines(logging.Formatter):
    """Time, level, logger, message, request id, and whatever `extra` held."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Forgiving(logging.StreamHandler[Any]):
    """Standard error, given up quietly: a full disk behind it must not take the service down."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Drop the line."""


def set_up(format_: str, level: str) -> None:
    """Send all loggers to standard error."""
    handler = Forgiving(sys.stderr)
    handler.setFormatter(
        JsonLines() if format_ == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # What it says per request, our own line says better.
    logging.getLogger("uvicorn.access").disabled = True


class FullHouse:
    """Says once in a while that no connection can be taken, where asyncio would say it thousands of times a second.

    An exception handler of an event loop; everything else is left to the loop's own.
    """

    _EVERY_S = 10.0
    _CODES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

    def __init__(self) -> None:
        self._silent_until = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """See `asyncio.AbstractEventLoop.set_exception_handler`."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in self._CODES:
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + self._EVERY_S
            logging.getLogger("maskmend.server").error(
                "no more connections can be taken: %s; raise the limit of open files, or keep clients away",
                error.strerror,
            )

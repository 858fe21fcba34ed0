"""One HTTP connection: uvicorn's protocol, with refusals in our words, and no waiting for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from maskmend.service.held import SLOWEST
from maskmend.service.schema import ErrorBody

HEAD_SECONDS = 20.0
"""Longest time that the head of a connection's first request may take."""
WRITE_TIMEOUT = "write_timeout"
"""Where the application's state says for how many seconds an answer may lie there without being taken."""
_WRITE_SECONDS = 30.0


class Connection(H11Protocol):
    """Refuses what is not even HTTP, and hangs up on who neither sends a request nor takes its answer."""

    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn, but the clock of a request's head goes on until the head is whole."""
        self.conn.receive_data(data)
        self.handle_events()

    def pause_writing(self) -> None:
        """The client takes less than there is for it: from now on see to it that it takes something."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        super().resume_writing()
        self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn, but what is still to be sent then does not keep the connection for ever."""
        super().timeout_keep_alive_handler()
        if self._watching is None:
            self._watch()

    def _watch(self) -> None:
        """Hang up unless the client takes all there is, or `SLOWEST`, until the next look."""
        self._stop_watching()
        waiting = self.transport.get_write_buffer_size()
        seconds = float(self.app_state.get(WRITE_TIMEOUT, _WRITE_SECONDS))

        def look() -> None:
            now = self.transport.get_write_buffer_size()
            if now > max(0.0, waiting - seconds * SLOWEST):
                self.transport.abort()
            elif now:
                self._watch()

        self._watching = self.loop.call_later(seconds, look)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def send_400_response(self, msg: str) -> None:
        """Answer and close."""
        body = ErrorBody(
            code="bad_request", message="this is not valid HTTP; see the log of your client", field="", request_id=""
        )
        data = body.model_dump_json().encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(data))),
            ("connection", "close"),
        ]
        # An answer may be under way already; then all that is left is to hang up.
        with suppress(h11.LocalProtocolError):
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

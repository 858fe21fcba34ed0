"""A server that does wrong, in the way and as often as a test says; after that it replays what a real one answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from maskmend.patcher import Rle


def changed(good: dict[str, Any], rle: dict[str, Any] | None) -> bytes:
    """An answer with another mask in the place of the last, or without that instance."""
    instances = [dict(instance) for instance in good["instances"]]
    if rle is None:
        instances.pop()
    else:
        instances[-1]["segmentation"] = rle
    return orjson.dumps({**good, "instances": instances})


NOT_OURS = b"<html>proxy error</html>"


def answer(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


@dataclass
class Misbehaving:
    """What to do with each connection in turn; what is left over is answered with `good`."""

    url: str
    faults: list[str]
    good: bytes
    asked: list[float] = field(default_factory=list)

    def handle(self, connection: socket.socket) -> None:
        fault = self.faults[len(self.asked)] if len(self.asked) < len(self.faults) else "good"
        self.asked.append(time.monotonic())
        if fault == "closes at once":
            return
        _read_request(connection)
        if fault == "stalls":
            time.sleep(60)
        elif fault in ("trickles its head", "says continue for ever"):
            begin, more = {
                "trickles its head": (b"HTTP/1.1 200 OK\r\nx-long: ", b"y"),
                "says continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            }[fault]
            with suppress(OSError):
                connection.sendall(begin)
                for _ in range(600):
                    connection.sendall(more)
                    time.sleep(0.1)
        elif fault == "good but never ends":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + self.good)
            time.sleep(60)
        elif fault == "trickles":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
            with suppress(OSError):
                for _ in range(600):
                    connection.sendall(b"{")
                    time.sleep(0.1)
        else:
            connection.sendall(self.bytes_of(fault))

    def bytes_of(self, fault: str) -> bytes:
        refusal = b'{"code": "overloaded", "message": "too many", "field": "", "request_id": "r-1"}'
        failed = b'{"code": "internal", "message": "see the log", "field": "", "request_id": "r-2"}'
        answered = orjson.loads(self.good) if b"instances" in self.good else {"instances": [{}]}
        small = Rle.from_dense(np.ones((4, 4), bool)).to_coco()
        return {
            "a mask of another size": answer("200 OK", changed(answered, small)),
            "a damaged mask": answer("200 OK", changed(answered, {**small, "counts": "~~~"})),
            "an instance too few": answer("200 OK", changed(answered, None)),
            "good": answer("200 OK", self.good),
            "half a body": answer("200 OK", self.good[: len(self.good) // 2], length=len(self.good)),
            "garbage": answer("200 OK", bytes(range(256)) * 4),
            "another kind of JSON": answer("200 OK", b'{"hello": ["world"]}'),
            "garbage for gzip": answer("200 OK", b"not gzip", "content-encoding: gzip"),
            "not even HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
            "429": answer("429 Too Many Requests", refusal, "retry-after: 1"),
            "429 for an hour": answer("429 Too Many Requests", refusal, "retry-after: 3000"),
            "500": answer("500 Internal Server Error", failed),
            "502 of a proxy": answer("502 Bad Gateway", NOT_OURS),
            "404 of another server": answer("404 Not Found", NOT_OURS),
            "a redirect": answer("302 Found", b"", "location: http://127.0.0.1:1/"),
        }[fault]


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)


@contextmanager
def misbehaving(good: bytes, *faults: str) -> Iterator[Misbehaving]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = Misbehaving(f"http://127.0.0.1:{listening.getsockname()[1]}", list(faults), good)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            server.handle(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server
    finally:
        listening.close()

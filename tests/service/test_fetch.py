from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskmend.service.errors import ForbiddenError, InvalidRequestError, TooLargeError
from maskmend.service.fetch import Fetcher

PUBLIC = "93.184.216.34"


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/picture":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"picture of " + self.headers["host"].encode())
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("location", self.path[4:])
            self.end_headers()
        elif self.path == "/slow-headers":
            # Each byte comes well within a socket's own timeout.
            for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        elif self.path == "/slow-body":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif self.path == "/broken-off":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"x")
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 5000)
        else:
            self.send_response(404)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield site.server_address[1]
    site.shutdown()


def local(port: int) -> Fetcher:
    """A fetcher that may look inside, so that a test can be its site."""
    ports = {"http": port, "https": 443}
    return Fetcher(["pics.example"], 1000, resolve=lambda host, port: ["127.0.0.1"], inside=True, ports=ports)


def test_a_file_comes_from_a_listed_host_also_by_redirect(port: int) -> None:
    assert local(port).fetch("http://pics.example/picture") == b"picture of pics.example"
    assert local(port).fetch("http://PICS.example./to?/picture") == b"picture of pics.example"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://other.example/picture", ForbiddenError),
        ("http://pics.example:22/picture", ForbiddenError),
        ("http://169.254.169.254/latest/meta-data", ForbiddenError),
        ("http://pics.example@other.example/picture", InvalidRequestError),
        ("http://pics.example/to?http://other.example/picture", ForbiddenError),
        ("http://pics.example/to?http://169.254.169.254/", ForbiddenError),
        ("http://pics.example/to?file:///etc/passwd", InvalidRequestError),
        ("http://pics.example/to?/to?/to?/to?/to?/picture", InvalidRequestError),
        ("http://pics.example/none", InvalidRequestError),
        ("http://pics.example/a b", InvalidRequestError),
        ("http://pics.example/\r\nx: y", InvalidRequestError),
        ("http://[", InvalidRequestError),
        ("http://pics.example:x/", InvalidRequestError),
        ("file:///etc/passwd", InvalidRequestError),
        ("ftp://pics.example/picture", InvalidRequestError),
        ("http://pics.example/large", TooLargeError),
        ("http://pics.example/broken-off", InvalidRequestError),
    ],
)
def test_everything_else_is_refused(port: int, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        local(port).fetch(url)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["192.168.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["::1"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["2002:7f00:0001::"],
        ["64:ff9b::a9fe:a9fe"],
        ["::7f00:1"],
        ["fec0::1"],
        [PUBLIC, "127.0.0.1"],
        [],
    ],
)
def test_a_listed_name_that_leads_inside_is_refused(port: int, addresses: list[str]) -> None:
    fetcher = Fetcher(["pics.example"], 1000, resolve=lambda host, port: addresses)
    with pytest.raises(ForbiddenError, match="not public"):
        fetcher.fetch("http://pics.example/picture")


def test_a_name_that_changes_its_mind_is_asked_once(port: int) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    ports = {"http": port, "https": 443}
    fetcher = Fetcher(["pics.example"], 1000, resolve=lambda *_: next(answers), inside=True, ports=ports)
    assert fetcher.fetch("http://pics.example/picture") == b"picture of pics.example"
    assert next(answers) == ["10.0.0.1"]


@pytest.mark.parametrize("path", ["slow-headers", "slow-body"])
def test_a_site_that_trickles_is_hung_up_on(port: int, path: str) -> None:
    fetcher = Fetcher(
        ["pics.example"],
        1000,
        1.0,
        resolve=lambda host, port: ["127.0.0.1"],
        inside=True,
        ports={"http": port, "https": 443},
    )
    began = time.monotonic()
    with pytest.raises(InvalidRequestError):
        fetcher.fetch(f"http://pics.example/{path}")
    assert time.monotonic() - began < 5

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from maskmend.clients.annotation.host_files import HostFiles
from maskmend.clients.annotation.task_images import TaskImages
from maskmend.patcher.errors import ImageError, OptionError
from maskmend.service.errors import ForbiddenError, InvalidRequestError, TooLargeError

PERSONAL = "head.body.tail"


class LabelStudio(BaseHTTPRequestHandler):
    """Answers as Label Studio does where it has files, and remembers what it was asked."""

    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        given = self.headers.get("authorization", "")
        self.seen.append((self.path, given))
        path = self.path.partition("?")[0]
        if path.endswith("/open.jpg"):
            self.answer(200, b"open")
        elif path.endswith("/slow.jpg"):
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif path.endswith("/headers.jpg"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-a: ")
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif path.endswith("/empty.jpg"):
            self.answer(200, b"")
        elif path.endswith("/cut.jpg"):
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"short")
        elif path.endswith("/round.jpg"):
            self.answer(302, b"", location="/data/upload/1/round.jpg")
        elif path.endswith("/moved.jpg"):
            self.answer(302, b"", location="open.jpg")
        elif path.endswith("/away.jpg"):
            self.answer(302, b"", location="http://127.0.0.1:9/data/upload/1/open.jpg")
        elif path.endswith("/api.jpg"):
            self.answer(302, b"", location="/api/users")
        elif given in ("Token secret", "Bearer fresh"):
            self.answer(200, b"photograph")
        else:
            self.answer(401, b"no" * 100_000)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append((self.path, self.headers.get("authorization", "")))
        known = self.path == "/api/token/refresh" and body == {"refresh": PERSONAL}
        self.answer(200 if known else 401, b'{"access": "fresh"}' if known else b"{}")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    LabelStudio.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), LabelStudio)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "reference",
    ["/data/upload/1/a.jpg", "/data/local-files/?d=b/a.jpg", "{host}/data/upload/1/a.jpg", "/storage-data/x"],
)
def test_files_of_the_host_are_fetched_with_its_token(host: str, reference: str) -> None:
    assert HostFiles(host, "secret").fetch(reference.format(host=host)) == b"photograph"
    assert LabelStudio.seen == [(reference.format(host=""), "Token secret")]


def test_a_personal_token_is_exchanged_once(host: str) -> None:
    files = HostFiles(host, PERSONAL)
    assert files.fetch("/data/upload/1/a.jpg") == b"photograph"
    assert files.fetch("/data/upload/1/a.jpg") == b"photograph"
    assert [given for _, given in LabelStudio.seen] == ["", "", "Bearer fresh", "Bearer fresh"]
    assert all(PERSONAL not in given for _, given in LabelStudio.seen)
    with pytest.raises(InvalidRequestError, match="personal access token"):
        HostFiles(host, "other.wrong.token").fetch("/data/upload/1/a.jpg")


@pytest.mark.parametrize(
    "reference",
    [
        "http://example.com/data/upload/1/a.jpg",
        "//example.com/data/upload/1/a.jpg",
        "http://127.0.0.1:1/data/upload/1/a.jpg",
        "https://127.0.0.1/data/upload/1/a.jpg",
        "file:///etc/passwd",
        "s3://bucket/a.jpg",
        "data:image/png;base64,AAAA",
        "ftp://127.0.0.1/data/a.jpg",
        "/api/users",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/..%2fapi",
        "/data/..\\api",
        "data/upload/1/a.jpg",
        "",
    ],
)
def test_nothing_else_is_asked(host: str, reference: str) -> None:
    with pytest.raises(ForbiddenError):
        HostFiles(host, "secret").fetch(reference)
    assert not LabelStudio.seen


@pytest.mark.parametrize(
    "reference", ["/data/a b.jpg", "/data/a\r\nx: y", "/data/é.jpg", "http://[/data/", "http://a:b/data/"]
)
def test_odd_urls_are_refused(host: str, reference: str) -> None:
    with pytest.raises((InvalidRequestError, ForbiddenError)):
        HostFiles(host, "secret").fetch(reference)
    assert not LabelStudio.seen


def test_credentials_in_a_url_are_refused(host: str) -> None:
    with pytest.raises(ForbiddenError):
        HostFiles(host).fetch(host.replace("//", "//user:x@") + "/data/upload/1/open.jpg")


def test_redirects_stay_on_the_host_and_below_its_data(host: str) -> None:
    files = HostFiles(host, "secret")
    assert files.fetch("/data/upload/1/moved.jpg") == b"open"
    for name in ("away", "api"):
        with pytest.raises(ForbiddenError):
            files.fetch(f"/data/upload/1/{name}.jpg")
    with pytest.raises(InvalidRequestError, match="too often"):
        files.fetch("/data/upload/1/round.jpg")


@pytest.mark.parametrize("name", ["headers", "slow"])
def test_the_time_is_that_of_the_whole_answer(host: str, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match="too long"):
        HostFiles(host, "secret", seconds=0.5).fetch(f"/data/upload/1/{name}.jpg")
    assert time.monotonic() - began < 2


def test_an_empty_image_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        HostFiles(host, "secret").fetch("/data/upload/1/empty.jpg")


def test_limits(host: str) -> None:
    with pytest.raises(TooLargeError):
        HostFiles(host, "secret", most=3).fetch("/data/upload/1/open.jpg")
    began = time.monotonic()
    with pytest.raises(InvalidRequestError, match="too long"):
        HostFiles(host, seconds=0.4).fetch("/data/upload/1/slow.jpg")
    assert time.monotonic() - began < 3
    with pytest.raises(InvalidRequestError):
        HostFiles(host).fetch("/data/upload/1/cut.jpg")
    with pytest.raises(InvalidRequestError, match="401"):
        HostFiles(host, "wrong").fetch("/data/upload/1/a.jpg")
    with pytest.raises(InvalidRequestError, match="cannot be fetched"):
        HostFiles("http://127.0.0.1:9").fetch("/data/upload/1/a.jpg")


def test_a_host_below_a_path(host: str) -> None:
    files = HostFiles(f"{host}/tool/", "secret")
    assert files.fetch("/data/upload/1/a.jpg") == files.fetch("/tool/data/upload/1/a.jpg") == b"photograph"
    assert {path for path, _ in LabelStudio.seen} == {"/tool/data/upload/1/a.jpg"}


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://a", "http://", "http://u:p@a", "http://a:b", "http://a/?q=1"]
)
def test_a_host_must_be_a_plain_url(url: str) -> None:
    with pytest.raises(OptionError):
        HostFiles(url)


def test_the_folder_comes_first_and_the_host_is_asked_for_the_rest(host: str, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"local")
    both = TaskImages(tmp_path, HostFiles(host, "secret"))
    assert both.load("/data/upload/1/0123abcd-cat.jpg") == b"local"
    assert not LabelStudio.seen
    assert both.load("/data/upload/1/dog.jpg") == b"photograph"
    with pytest.raises(ImageError, match="images folder"):
        TaskImages(tmp_path, None).load("/data/upload/1/dog.jpg")
    with pytest.raises(ForbiddenError, match="--images"):
        TaskImages(None, None).load("/data/upload/1/dog.jpg")
    with pytest.raises(ImageError, match="names no image"):
        both.load("")

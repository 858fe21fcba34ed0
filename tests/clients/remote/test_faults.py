"""What clients do when a server is killed, stalls, refuses or answers nonsense: a typed error, or success after a retry."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

pytest.importorskip("fastapi", reason="a real server needs the serve extra")

from misbehaving import misbehaving
from running import png, running, scene

from maskmend.clients import AsyncClient, Client, ConnectionFailedError, RefineResult, Retries, UnexpectedAnswerError
from maskmend.patcher.errors import MaskmendError
from maskmend.service.errors import DeadlineError, OverloadedError, ServiceError

IMAGE, MASKS = scene()
QUICK = Retries(most=3, first_wait=0.05, longest_wait=0.2, seed=1)
PASSING = [
    "closes at once",
    "half a body",
    "garbage",
    "another kind of JSON",
    "garbage for gzip",
    "not even HTTP",
    "429",
    "500",
    "502 of a proxy",
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a real server answers."""
    with running(tmp_path_factory.mktemp("server") / "log", grpc=False) as server:
        files = {"image": png(IMAGE)}
        data = {"masks": orjson.dumps([mask.to_coco() for mask in MASKS]).decode()}
        return httpx.post(f"{server.url}/v1/refine", files=files, data=data, timeout=60).content


def ask(twin: str, url: str, timeout: float = 20.0, retries: Retries = QUICK) -> RefineResult:
    if twin == "sync":
        with Client(url, timeout=timeout, retries=retries) as client:
            return client.refine(IMAGE, MASKS)

    async def main() -> RefineResult:
        async with AsyncClient(url, timeout=timeout, retries=retries) as client:
            return await client.refine(IMAGE, MASKS)

    return asyncio.run(main())


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(good: bytes, fault: str, twin: str) -> None:
    with misbehaving(good, fault, fault) as server:
        assert len(ask(twin, server.url)) == 2
        assert len(server.asked) == 3
        if fault == "429":
            assert server.asked[1] - server.asked[0] >= 1


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("closes at once", ConnectionFailedError),
        ("half a body", ConnectionFailedError),
        ("garbage", UnexpectedAnswerError),
        ("another kind of JSON", UnexpectedAnswerError),
        ("garbage for gzip", UnexpectedAnswerError),
        ("not even HTTP", ConnectionFailedError),
        ("a mask of another size", UnexpectedAnswerError),
        ("a damaged mask", UnexpectedAnswerError),
        ("an instance too few", UnexpectedAnswerError),
        ("500", ServiceError),
        ("502 of a proxy", UnexpectedAnswerError),
    ],
)
def test_what_does_not_pass_is_an_error_of_its_kind(
    good: bytes, fault: str, kind: type[MaskmendError], twin: str
) -> None:
    with misbehaving(good, *[fault] * 9) as server:
        with pytest.raises(kind):
            ask(twin, server.url)
        assert len(server.asked) == 1 + QUICK.most


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize("fault", ["404 of another server", "a redirect"])
def test_what_another_try_cannot_mend_is_not_tried_again(good: bytes, fault: str, twin: str) -> None:
    with misbehaving(good, *[fault] * 9) as server:
        with pytest.raises(UnexpectedAnswerError, match=r"30\d|404"):
            ask(twin, server.url)
        assert len(server.asked) == 1


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize("fault", ["stalls", "trickles", "trickles its head", "says continue for ever"])
def test_it_never_hangs(good: bytes, fault: str, twin: str) -> None:
    with misbehaving(good, *[fault] * 9) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            ask(twin, server.url, timeout=1.5)
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_nobody_waits_for_longer_than_there_is_time(good: bytes, twin: str) -> None:
    with misbehaving(good, "429 for an hour") as server:
        began = time.monotonic()
        with pytest.raises(OverloadedError) as caught:
            ask(twin, server.url)
        assert time.monotonic() - began < 5
        assert caught.value.retry_after == 3000
        assert caught.value.request_id == "r-1"


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there(scheme: str, twin: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionFailedError):
        ask(twin, f"{scheme}://127.0.0.1:9")
    assert time.monotonic() - began < 15


def test_a_stream_that_stalls_after_its_first_instance(good: bytes) -> None:
    first = orjson.dumps({"instance": orjson.loads(good)["instances"][0]}) + b"\n"
    with misbehaving(first, "good but never ends") as server, Client(server.url, timeout=2) as client:
        items = client.stream(IMAGE, MASKS)
        assert next(items)[0] == 0
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            next(items)
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("fault", ["half a body", "garbage", "stalls", "good"])
def test_a_stream_that_is_none(good: bytes, fault: str) -> None:
    """`good` is the answer of the other path: no line of a stream."""
    with (
        misbehaving(good, *[fault] * 9) as server,
        Client(server.url, timeout=2, retries=Retries(0)) as client,
        pytest.raises((ConnectionFailedError, UnexpectedAnswerError, DeadlineError)),
    ):
        list(client.stream(IMAGE, MASKS))


def call_in_background(url: str, outcome: list[Any], **settings: Any) -> threading.Thread:
    def call() -> None:
        image, masks = scene((1200, 1200), count=12)
        try:
            # Long enough for the server to be still at work when it is hit.
            with Client(url, nms=0.7, passes=5, **settings) as client:
                outcome.append(client.refine(image, masks))
        except MaskmendError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_killed_at_work(tmp_path: Path, scheme: str) -> None:
    with running(tmp_path / "log") as server:
        ports = ("--port", str(server.port), "--grpc-port", str(server.grpc_port))
        url = server.url if scheme == "http" else f"grpc://127.0.0.1:{server.grpc_port}"
        lost: list[Any] = []
        thread = call_in_background(url, lost, retries=Retries(0))
        time.sleep(0.4)
        os.kill(server.process.pid, signal.SIGKILL)
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(lost[0], ConnectionFailedError)
    # One who is patient meets the next server at the same address.
    saved: list[Any] = []
    thread = call_in_background(url, saved, retries=Retries(60, 0.2, 1.0), timeout=120)
    with running(tmp_path / "log2", *ports):
        thread.join(120)
        assert isinstance(saved[0], RefineResult)


@pytest.mark.parametrize("twin", ["sync", "async"])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_stopped(tmp_path: Path, scheme: str, twin: str) -> None:
    with running(tmp_path / "log") as server:
        url = server.url if scheme == "http" else f"grpc://127.0.0.1:{server.grpc_port}"
        os.kill(server.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            ask(twin, url, timeout=2)
        assert time.monotonic() - began < 8
        os.kill(server.process.pid, signal.SIGCONT)
        assert len(ask(twin, url)) == 2


def test_a_program_can_end_while_a_server_stalls(good: bytes) -> None:
    code = """
import signal, sys, numpy as np
# Some that run tests have their children pass over it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from maskmend.clients import Client
client = Client(sys.argv[1], timeout=60)
for _ in client.refine_many([(np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=bool))] * 9):
    pass
"""
    with misbehaving(good, *["stalls"] * 9) as server:
        child = subprocess.Popen([sys.executable, "-c", code, server.url], stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while not server.asked and time.monotonic() < until:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        child.communicate(timeout=30)
        assert child.returncode != 0
        assert time.monotonic() - began < 10


def test_a_grpc_server_that_is_back_is_found_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "log") as server:
        ports = ("--port", str(server.port), "--grpc-port", str(server.grpc_port))
        client = Client(f"grpc://127.0.0.1:{server.grpc_port}", retries=Retries(0))
        assert len(client.refine(IMAGE, MASKS)) == 2
    # Long enough for the library's own waits to have grown.
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with pytest.raises(ConnectionFailedError):
            client.refine(IMAGE, MASKS)
        time.sleep(0.5)
    with running(tmp_path / "log2", *ports):
        time.sleep(1.5)
        assert len(client.refine(IMAGE, MASKS)) == 2

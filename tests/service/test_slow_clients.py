"""Clients that do not read their answers, or send what takes long to parse: the others do not notice."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import Running, running, scene

from maskmend.patcher import Rle
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.proto import maskmend_pb2_grpc as pb_grpc


@contextmanager
def slowest_health(server: Running) -> Iterator[Callable[[], float]]:
    """Ask whether the server lives, over and over; tells how long the slowest answer took."""
    slowest = 0.0
    stop = threading.Event()

    def ask() -> None:
        nonlocal slowest
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not stop.is_set():
                began = time.monotonic()
                assert client.get("/healthz/live").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.01)

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        try:
            yield lambda: slowest
        finally:
            stop.set()
            asking.result(60)


def joined(items: Iterator[str]) -> bytes:
    return (",".join(items)).encode()


BODIES: dict[str, Callable[[], bytes]] = {
    "lists as members": lambda: b"{" + joined(f'"{n}":[]' for n in range(1_900_000)) + b"}",
    "objects as members": lambda: b"{" + joined(f'"{n}":{{}}' for n in range(1_900_000)) + b"}",
    "lists as members of a member": lambda: b'{"masks":[{' + joined(f'"{n}":[1]' for n in range(1_900_000)) + b"}]}",
    "members": lambda: b"{" + joined(f'"{n}":""' for n in range(1_900_000)) + b"}",
    "as many lists as may be": lambda: b'{"a":[' + joined("[]" for _ in range(199_000)) + b"]}",
    "as many members as may be": lambda: b"{" + joined(f'"{n}":1' for n in range(199_000)) + b"}",
    "numbers, and a surrogate pair": lambda: b'["\\ud83d\\ude00",' + joined("12345" for _ in range(1_900_000)) + b"]",
}


@pytest.fixture(scope="module")
def parsing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("parsing") / "log", "--threads", "1", grpc=False) as found:
        yield found


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_take_long_to_parse_hold_nobody_up(parsing: Running, name: str) -> None:
    body = gzip.compress(BODIES[name](), 1)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}

    def send(_: int) -> int:
        return httpx.post(f"{parsing.url}/v1/refine", content=body, headers=headers, timeout=60).status_code

    longest = []
    # Other work on the machine may hold up one answer; a body that blocks the server does so every time.
    while len(longest) < 3 and (not longest or longest[-1] >= 1.0):
        with ThreadPoolExecutor(4) as threads, slowest_health(parsing) as slowest:
            assert send(0) == 422
            assert set(threads.map(send, range(4))) == {422}
            longest.append(slowest())
    assert min(longest) < 1.0


def large_masks(side: int, count: int) -> list[dict[str, object]]:
    """Masks that cost little to refine, and much to answer in PNG."""
    return [Rle.from_dense(np.zeros((side, side), bool)).to_coco()] * count


@pytest.mark.slow
def test_a_grpc_stream_that_is_not_read_does_not_keep_the_memory(tmp_path: Path) -> None:
    side = 1700
    image = np.zeros((side, side, 3), np.uint8)
    request = pb.RefineRequest(image_tensor=pb.Tensor(shape=image.shape, dtype="uint8", data=image.tobytes()))
    request.options.encoding = "png"
    request.masks.extend(
        pb.Mask(rle=pb.Rle(size=mask["size"], counts=str(mask["counts"]).encode())) for mask in large_masks(side, 600)
    )
    stop = threading.Event()

    def messages() -> Iterator[pb.RefineRequest]:
        for _ in range(4):
            yield request
        stop.wait(120)

    flags = ("--max-held-mb", "40", "--timeout-s", "15", "--threads", "1", "--drain-s", "5")
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1024),
    ]
    with (
        running(tmp_path / "log", *flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel,
    ):
        call = pb_grpc.RefineServiceStub(channel).RefineStream(messages())
        assert next(call).WhichOneof("event") == "instance"
        large, masks = scene((1700, 1700), 1)
        noise = np.random.default_rng(0).integers(0, 255, large.shape, dtype=np.uint8)
        files = {"image": cv2.imencode(".png", noise)[1].tobytes()}
        data = {"masks": json.dumps([mask.to_coco() for mask in masks])}
        # No deadline was named, so that of the server holds; then all that was held is free, though nobody has read.
        time.sleep(15)
        for _ in range(20):
            answer = httpx.post(f"{server.url}/v1/refine", files=files, data=data, timeout=60)
            if answer.status_code != 429:
                break
            time.sleep(1)
        assert answer.status_code in (200, 504), answer.text
        # The call ends too: what comes of it is an error behind those answers that were under way.
        time.sleep(10)
        rest = []
        with pytest.raises(grpc.RpcError) as caught:
            rest.extend(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(rest) < 2000
        stop.set()
        assert server.stop() == 0


def resident(process: int) -> float:
    """MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("patience", "connections"), [(300, 8), (6, 2)])
def test_http_streams_that_are_not_read_hold_little_and_end(tmp_path: Path, patience: int, connections: int) -> None:
    side = 2600
    boundary = b"xxBxx"

    def part(name: bytes, data: bytes, more: bytes = b"") -> bytes:
        return (
            b"--" + boundary + b"\r\ncontent-disposition: form-data; name=" + name + more + b"\r\n\r\n" + data + b"\r\n"
        )

    picture = cv2.imencode(".bmp", np.zeros((side, side, 3), np.uint8))[1].tobytes()
    body = part(b"image", picture, b"; filename=a") + part(b"encoding", b"png")
    body += part(b"masks", json.dumps(large_masks(side, 300)).encode()) + b"--" + boundary + b"--\r\n"
    head = b"POST /v1/refine/stream HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=" + boundary
    head += b"\r\ncontent-length: %d\r\n\r\n" % len(body)

    flags = ("--max-held-mb", "60", "--threads", "1", "--read-timeout-s", str(patience), "--drain-s", "4")
    with running(tmp_path / "log", *flags, grpc=False) as server:

        def ask() -> socket.socket:
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head + body)
            assert b" 200 " in connection.recv(40)
            return connection

        # The first ones find what the process keeps for all that come.
        waiting = [ask_when_idle(server, ask) for _ in range(3)]
        wait_until_idle(server)
        before = resident(server.process.pid)
        waiting += [ask_when_idle(server, ask) for _ in range(connections)]
        wait_until_idle(server)
        # Bodies of 20 MB each: none of them is held any more.
        if patience > 100:
            assert open_sockets(server) == len(waiting)
            assert resident(server.process.pid) - before < 60
        else:
            # Whoever takes nothing at all is hung up on, whatever is still to be said to him.
            for _ in range(60):
                if open_sockets(server) == 0:
                    break
                time.sleep(0.5)
            assert open_sockets(server) == 0
        assert server.refine().status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        for connection in waiting:
            connection.close()


def metric(server: Running, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])


def wait_until_idle(server: Running) -> None:
    for _ in range(300):
        if metric(server, "maskmend_busy_requests") == 0:
            return
        time.sleep(0.1)
    raise AssertionError("it is still at work")


def ask_when_idle(server: Running, ask: Callable[[], socket.socket]) -> socket.socket:
    wait_until_idle(server)
    return ask()


def open_sockets(server: Running) -> int:
    """Connections to the server's HTTP port that are open on its side, as Linux lists them."""
    port = f"{server.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    established = [line.split() for line in lines]
    return sum(row[1].endswith(f":{port}") and row[3] == "01" for row in established)


def test_stopping_has_one_deadline(tmp_path: Path) -> None:
    request = pb.RefineRequest(request_id="a")
    ended = threading.Event()

    def messages() -> Iterator[pb.RefineRequest]:
        yield request
        ended.wait(60)

    with (
        running(tmp_path / "log", "--drain-s", "4", "--threads", "1") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow,
    ):
        call = pb_grpc.RefineServiceStub(channel).RefineStream(messages())
        assert next(call).WhichOneof("event") == "error"
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        head = b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        slow.sendall(head + b"content-length: 1000\r\n\r\n{")
        began = time.monotonic()
        server.process.terminate()
        # A stream with nothing at work is ended at once, whatever HTTP is still busy with.
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 2
        assert server.process.wait(60) == 0
        assert time.monotonic() - began < 8
        ended.set()


def test_streams_that_wait_do_not_delay_the_end(tmp_path: Path) -> None:
    ended = threading.Event()

    def messages() -> Iterator[pb.RefineRequest]:
        yield pb.RefineRequest(request_id="a")
        ended.wait(60)

    with (
        running(tmp_path / "log", "--drain-s", "20", "--threads", "1") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        call = pb_grpc.RefineServiceStub(channel).RefineStream(messages())
        assert next(call).WhichOneof("event") == "error"
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        next(watch)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        ended.set()

"""Keys, limits, TLS, several processes, stopping, and what goes wrong around a server."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from running import Running, png, running, scene

from maskmend.models.zoo import SHIPPED
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.proto import maskmend_pb2_grpc as pb_grpc

KEY, OTHER = "0123456789abcdef-one", "0123456789abcdef-two"
IMAGE, MASKS = scene()


def request(**fields: object) -> pb.RefineRequest:
    rles = [mask.to_coco() for mask in MASKS]
    masks = [pb.Mask(rle=pb.Rle(size=rle["size"], counts=rle["counts"].encode())) for rle in rles]
    return pb.RefineRequest(image=png(IMAGE), masks=masks, **fields)


def test_keys_and_rates_over_http_and_grpc(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# ours\nalice: {KEY}\n\n{OTHER}\n")
    flags = ("--api-keys-file", str(keys), "--rate-limit", "24", "--cors-origins", "https://good.example")
    with running(tmp_path / "log", *flags) as server:
        url = f"{server.url}/v1/models"
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {KEY}"},
            {"x-api-key": KEY[:-1]},
        ):
            answer = httpx.get(url, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["code"] == "unauthorized"
        # A strange host does not open a way round the keys.
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: a/?x\r\nconnection: close\r\n\r\n")
            assert connection.recv(100).split()[1] in (b"400", b"401")
        assert httpx.get(url, headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert httpx.get(url, headers={"x-api-key": OTHER}).status_code == 200
        for path in ("/", "/healthz/live", "/healthz/ready"):
            assert httpx.get(server.url + path).status_code == 200

        codes = [httpx.get(url, headers={"x-api-key": OTHER}) for _ in range(8)]
        late = next(answer for answer in codes if answer.status_code == 429)
        assert late.json()["code"] == "rate_limited"
        assert int(late.headers["retry-after"]) >= 1
        assert httpx.get(url, headers={"x-api-key": KEY}).status_code == 200

        origin = {"origin": "https://good.example", "x-api-key": KEY}
        assert httpx.get(url, headers=origin).headers["access-control-allow-origin"] == "https://good.example"

        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = pb_grpc.RefineServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Refine(request(), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            metadata = (("authorization", f"Bearer {KEY}"),)
            assert len(stub.Refine(request(), timeout=60, metadata=metadata).instances) == 2
        assert KEY not in server.log.read_text()
        assert server.stop() == 0


def test_tls_for_both_protocols(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            *subject,
            "-keyout",
            key,
            "-out",
            chain,
        ],
        check=True,
        capture_output=True,
    )
    with running(tmp_path / "log", "--tls-cert", str(chain), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        import ssl

        trust = ssl.create_default_context(cafile=str(chain))
        assert httpx.get(f"{server.url}/v1/models", verify=trust).status_code == 200
        credentials = grpc.ssl_channel_credentials(chain.read_bytes())
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            assert len(pb_grpc.RefineServiceStub(channel).Refine(request(), timeout=60).instances) == 2


def workers_of(server: Running, count: int) -> set[int]:
    """Processes that have said they started, once there are `count`; a busy machine may take its time."""
    until = time.monotonic() + 120
    while True:
        started = {
            int(str(line["message"]).split("[")[1].rstrip("]"))
            for line in server.lines()
            if "Started server process" in str(line["message"])
        }
        if len(started) >= count or time.monotonic() > until:
            assert len(started) == count
            return started
        time.sleep(0.1)


def test_a_killed_worker_is_replaced_and_all_count_together(tmp_path: Path) -> None:
    with running(tmp_path / "log", "--workers", "2", "--threads", "1", grpc=False) as server:
        started = workers_of(server, 2)
        wanted = server.refine().json()["instances"]
        killed = started.pop()
        os.kill(killed, signal.SIGKILL)
        answered = 0
        for _ in range(60):
            try:
                answer = server.refine()
            except httpx.TransportError:
                time.sleep(0.3)
                continue
            assert answer.status_code == 200
            assert answer.json()["instances"] == wanted
            answered += 1
            if answered >= 10:
                break
        assert answered >= 10
        assert len(workers_of(server, 3) - started - {killed}) == 1
        text = httpx.get(f"{server.url}/metrics").text
        assert 'maskmend_requests_total{code="ok",protocol="http"}' in text
        folder = Path(str(next(line["folder"] for line in server.lines() if "folder" in line)))
        assert list(folder.glob("gauge_livesum_*.db"))
        assert not list(folder.glob(f"gauge_livesum_{killed}.db"))
        server.stop()


def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path) -> None:
    flags = ("--drain-delay-s", "5", "--concurrency", "2", "--queue", "200")
    with running(tmp_path / "log", *flags) as server:
        wanted = server.refine().json()["instances"]
        statuses: list[object] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    answer = server.refine()
                except (httpx.ConnectError, httpx.ReadError):
                    return  # not accepted any more; the log below says whether it was
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    assert answer.json()["instances"] == wanted

        with ThreadPoolExecutor(8) as threads:
            askers = [threads.submit(ask) for _ in range(8)]
            time.sleep(2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert httpx.get(f"{server.url}/healthz/ready").status_code == 503
            assert server.process.wait(60) == 0
            stop.set()
            for asker in askers:
                asker.result(60)
        assert statuses.count(200) > 5
        assert set(statuses) == {200}
        assert any(line["message"] == "drained" for line in server.lines())
        taken = [line["status"] for line in server.lines() if line.get("path") == "/v1/refine"]
        assert taken == [200] * (1 + len(statuses))


def test_a_client_that_leaves_is_not_worked_for(tmp_path: Path) -> None:
    image, masks = scene((1200, 1600), 40)
    rles = json.dumps([mask.to_coco() for mask in masks])
    with running(tmp_path / "log", grpc=False) as server:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{server.url}/v1/refine",
                    files={"image": png(image)},
                    data={"masks": rles, "nms": "0.7"},
                    timeout=httpx.Timeout(60, read=0.2),
                )
        for _ in range(100):
            text = httpx.get(f"{server.url}/metrics").text
            numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            if float(numbers["maskmend_busy_requests"]) == float(numbers["maskmend_queue_patches"]) == 0:
                break
            time.sleep(0.1)
        assert float(numbers["maskmend_busy_requests"]) == 0
        assert float(numbers['maskmend_requests_total{code="cancelled",protocol="http"}']) == 3
        assert server.refine().status_code == 200


def copy_weights(folder: Path, name: str = "mine") -> Path:
    folder.mkdir()
    manifest = json.loads((SHIPPED / "bpr-small.json").read_text())
    for kind in ("onnx", "safetensors", "md"):
        shutil.copy(SHIPPED / f"bpr-small.{kind}", folder / f"{name}.{kind}")
    (folder / f"{name}.json").write_text(json.dumps({**manifest, "name": name}))
    return folder / f"{name}.json"


def test_new_weights_are_taken_up_and_bad_ones_refused_while_it_serves(tmp_path: Path) -> None:
    manifest = copy_weights(tmp_path / "weights")
    flags = ("--weights", str(manifest), "--reload-s", "0.3")
    with running(tmp_path / "log", *flags, grpc=False) as server:
        wanted = server.refine().json()["instances"]
        good = manifest.read_text()

        def wait_for(outcome: str, count: int) -> None:
            name = f'maskmend_reloads_total{{model="mine",outcome="{outcome}"}} {count}.0'
            for _ in range(100):
                if name in httpx.get(f"{server.url}/metrics").text:
                    return
                assert server.refine().json()["instances"] == wanted
                time.sleep(0.1)
            raise AssertionError(server.log.read_text()[-2000:])

        manifest.write_text(good.replace("Apache-2.0", "MIT"))
        wait_for("exchanged", 1)
        assert httpx.get(f"{server.url}/v1/models/mine").json()["license"] == "MIT"
        onnx = tmp_path / "weights" / "mine.onnx"
        data = onnx.read_bytes()
        onnx.write_bytes(data[:-10])
        wait_for("refused", 1)
        manifest.write_text("{")
        wait_for("refused", 2)
        assert server.refine().json()["instances"] == wanted
        assert httpx.get(f"{server.url}/healthz/ready").status_code == 200
        onnx.write_bytes(data)
        manifest.write_text(good)
        wait_for("exchanged", 2)


def test_a_full_disk_behind_the_log_does_no_harm(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--port", str(port), "--grpc-port", "-1"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command, stderr=full, stdout=full)
    server = Running(process, f"http://127.0.0.1:{port}", port, None, tmp_path / "none")
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{server.url}/healthz/ready", timeout=20).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        for _ in range(3):
            assert server.refine().status_code == 200
        assert httpx.get(f"{server.url}/nothing").status_code == 404
    finally:
        process.kill()
        process.wait()


def test_too_much_at_once_is_refused_and_the_rest_is_in_time(tmp_path: Path) -> None:
    flags = ("--concurrency", "1", "--queue", "2")
    with running(tmp_path / "log", *flags, grpc=False) as server, ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: server.refine(), range(24)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["code"] == "overloaded"
                assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("flags", "env", "word"),
    [
        (["--port", "99999"], {}, "port"),
        (["--weights", "nothing"], {}, "weights"),
        (["--config", "missing.toml"], {}, "config"),
        ([], {"MASKMEND_QEUE": "5"}, "MASKMEND_QEUE"),
        ([], {"MASKMEND_QUEUE": "many"}, "queue"),
        (["--tls-cert", "/dev/null"], {}, "tls"),
        (["--workers", "2", "--weights", "nothing"], {}, "weights"),
        (["--api-keys-file", "/dev/null"], {}, "api_keys_file"),
        (["--workers", "2", "--grpc-port", "0"], {}, "grpc_port"),
        (["--workers", "2", "--runtime", "nothing"], {}, "runtime"),
        (["--workers", "2"], {"MASKMEND_TRITON_URL": "grpc://localhost"}, "triton_url"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_2(flags: list[str], env: dict[str, str], word: str) -> None:
    command = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--grpc-port", "-1", *flags]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MASKMEND_")} | env
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_two_servers_do_not_share_a_port_unasked(tmp_path: Path) -> None:
    base = [sys.executable, "-m", "maskmend.clients.cli", "serve", "--port", "0", "--threads", "1"]
    with running(tmp_path / "log") as server:
        for more in ([], ["--workers", "2"]):
            command = [*base, "--grpc-port", str(server.grpc_port), *more]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 2, done.stderr
            assert "--grpc-port" in done.stderr
            assert "Traceback" not in done.stderr
        assert server.refine().status_code == 200
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(tmp_path / "log2", "--grpc-port", str(port), "--workers", "2", "--threads", "1") as server:
        done = subprocess.run(
            [*base, "--grpc-port", str(port)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2, done.stderr
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert len(pb_grpc.RefineServiceStub(channel).Refine(request(), timeout=60).instances) == 2


def test_a_key_is_asked_for_before_a_message_is_read(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    sent = threading.Event()

    def messages() -> Iterator[bytes]:
        sent.wait(30)
        yield b""

    with (
        running(tmp_path / "log", "--api-keys-file", str(keys)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        call = channel.stream_unary("/maskmend.v1.RefineService/Refine")
        with pytest.raises(grpc.RpcError) as caught:
            call(messages(), timeout=20, metadata=(("x-api-key", "wrong"),))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert not sent.is_set()
        sent.set()


def test_messages_and_unpacked_bodies_count_too(tmp_path: Path) -> None:
    flags = ("--max-held-mb", "3", "--max-body-mb", "8")
    with running(tmp_path / "log", *flags) as server:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = httpx.post(f"{server.url}/v1/refine", content=gzip.compress(b"[" * 4_000_000), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
            stub = pb_grpc.RefineServiceStub(channel)
            large = pb.RefineRequest(image=b"x" * 4_000_000)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Refine(large, timeout=20)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.RefineStream(iter([request(), large]), timeout=20))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(stub.Refine(request(), timeout=60).instances) == 2
        assert server.refine().status_code == 200


def test_bodies_together_are_bounded_too(tmp_path: Path) -> None:
    flags = ("--max-held-mb", "3", "--max-body-mb", "2")
    with running(tmp_path / "log", *flags, grpc=False) as server:
        head = (
            b"POST /v1/refine HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1900000\r\n\r\n"
        )
        waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(2)]
        waiting[0].sendall(head + b"[" * 1_800_000)
        time.sleep(0.5)
        waiting[1].sendall(head + b"[" * 1_800_000)
        answer = waiting[1].recv(4096)
        assert b" 429 " in answer.split(b"\r\n")[0]
        assert b"retry-after" in answer
        for connection in waiting:
            connection.close()
        for _ in range(50):
            if server.refine().status_code == 200:
                break
            time.sleep(0.1)
        big = b" " * 1_900_000
        for _ in range(4):
            headers = {"content-type": "application/json"}
            assert httpx.post(f"{server.url}/v1/refine", content=big, headers=headers).status_code == 400

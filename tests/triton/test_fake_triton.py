"""What a Triton may answer, and what becomes of it. A real one behaves too well for most of this."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the triton extra")

from fake_triton import Behaviour, FakeTriton, fake

from maskmend.models import load_refiner
from maskmend.models.runtimes import choose_runtime, create_runtime
from maskmend.models.runtimes.triton import TritonRuntime
from maskmend.models.runtimes.triton_model import graph_sha256
from maskmend.models.zoo import resolve_weights
from maskmend.patcher.errors import OptionError, RuntimeLostError, RuntimeUnavailableError

WEIGHTS = resolve_weights("bpr-small")
SIZE, SIDE = WEIGHTS.manifest.input_size, WEIGHTS.manifest.patch


def patches(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 4, SIZE, SIZE)).astype(np.float32)


def runtime(*servers: FakeTriton, options: str = "wait_s=1&start_s=1", **more: Any) -> TritonRuntime:
    return TritonRuntime(WEIGHTS, url=",".join(server.url for server in servers) + "?" + options, **more)


@pytest.mark.parametrize("count", [1, 4, 7, 8, 37])
def test_each_patch_gets_its_own_answer(count: int) -> None:
    with fake() as server:
        given = patches(count)
        assert np.array_equal(runtime(server).run(given), given[:, 3, :SIDE, :SIDE])
        # Whole micro-batches, never more than the model takes.
        assert server.sizes <= {4, 8}


def test_requests_are_no_larger_than_the_model_takes() -> None:
    with fake(Behaviour(max_batch=4)) as server:
        runtime(server).run(patches(9))
        assert server.sizes == {4}


def test_several_requests_are_in_flight() -> None:
    together = threading.Barrier(4, timeout=30)
    with fake() as server:
        running = runtime(server, threads=4)
        # Each answer waits until four have been asked for.
        server.behaviour.answer = lambda _: together.wait()
        running.run(patches(32))
        assert server.most_busy == 4


def test_the_load_is_spread_over_servers() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(fake(Behaviour(hangs_s=0.02))) for _ in range(3)]
        running = runtime(*servers)
        running.run(patches(96))
        assert sum(server.requests for server in servers) == 12
        assert min(server.requests for server in servers) >= 2
        assert [health.circuit for health in running.health()] == ["closed"] * 3


def test_one_of_two_servers_that_fails_costs_nothing_but_retries() -> None:
    with fake() as good, fake(Behaviour(fails=True)) as bad:
        running = runtime(good, bad)
        given = patches(64)
        assert np.array_equal(running.run(given), given[:, 3, :SIDE, :SIDE])
        states = {health.url: health for health in running.health()}
        # Or half-open: it may be probed already.
        assert states[bad.url].circuit != "closed"
        assert "UNAVAILABLE: the fake has failed" in states[bad.url].reason
        before = bad.requests
        bad.behaviour.fails = False
        until = time.monotonic() + 30
        while bad.requests == before and time.monotonic() < until:
            running.run(given)
        assert bad.requests > before
        # The probe that found it well has a thread of its own.
        while {health.circuit for health in running.health()} != {"closed"}:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_nobody_waits_for_a_server_that_hangs_once_that_is_known() -> None:
    with fake() as good, fake() as bad:
        running = runtime(good, bad, options="timeout_s=3&wait_s=30")
        given = patches(32)
        running.run(given)
        bad.behaviour.hangs_s = 4

        def state() -> str:
            return next(health.circuit for health in running.health() if health.url == bad.url)

        until, states = time.monotonic() + 60, ("", "")
        # A batch is done while the probe of the other one is still under way.
        while states != ("half-open", "half-open"):
            assert time.monotonic() < until
            before = state()
            assert np.array_equal(running.run(given), given[:, 3, :SIDE, :SIDE])
            states = before, state()


def test_a_server_that_is_not_there_at_the_start_joins_later() -> None:
    with fake() as good, ExitStack() as stack:
        with fake() as gone:
            port = int(gone.url.rpartition(":")[2])
        running = TritonRuntime(WEIGHTS, url=f"{good.url},{gone.url}?wait_s=2")
        given = patches(64)
        running.run(given)
        back = stack.enter_context(fake(port=port))
        until = time.monotonic() + 20
        while not back.requests and time.monotonic() < until:
            running.run(given)
        assert back.requests


def wrong(change: Callable[[Any], None]) -> Behaviour:
    return Behaviour(answer=change)


def _dtype(answer: Any) -> None:
    answer.outputs[0].datatype = "FP16"


def _shape(answer: Any) -> None:
    answer.outputs[0].shape[2] = 1


def _name(answer: Any) -> None:
    answer.outputs[0].name = "other"


def _no_bytes(answer: Any) -> None:
    answer.raw_output_contents[0] = b""


def _half(answer: Any) -> None:
    answer.raw_output_contents[0] = answer.raw_output_contents[0][: SIDE * SIDE]


def _none(answer: Any) -> None:
    del answer.raw_output_contents[:]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_no_bytes, "0 bytes where .* belong.*numpy<2"),
        (_half, f"{SIDE * SIDE} bytes where"),
        (_none, "0 bytes where"),
        (_dtype, "FP16"),
        (_shape, "not FP32"),
        (_name, "no logits"),
    ],
)
def test_an_answer_that_is_not_logits_is_refused_without_waiting(change: Callable[[Any], None], word: str) -> None:
    with fake(wrong(change)) as server:
        running = runtime(server, options="wait_s=120&start_s=1")
        began = time.monotonic()
        with pytest.raises(RuntimeLostError, match=word):
            running.run(patches(3))
        assert time.monotonic() - began < 60


def test_empty_tensors_show_when_the_refiner_is_loaded() -> None:
    with fake(wrong(_no_bytes)) as server, pytest.raises(RuntimeLostError, match="0 bytes"):
        load_refiner(runtime="triton", triton_url=server.url)


def _other_input(metadata: Any) -> None:
    metadata.inputs[0].shape[2] = 32


def _other_name(metadata: Any) -> None:
    metadata.outputs[0].name = "scores"


def _half_precision(metadata: Any) -> None:
    metadata.outputs[0].datatype = "FP16"


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        (Behaviour(sha="0" * 64), "of weights 000000000000, not of bpr-small.*maskmend export"),
        (Behaviour(sha=""), "does not say which weights"),
        (Behaviour(precision="fp16"), "computes in fp16, not in fp32"),
        (Behaviour(max_batch=2), "takes 2 patches.*--max-batch 8"),
        (Behaviour(max_batch=0), "takes 0 patches"),
        (Behaviour(metadata=_other_input), "inputs patches FP32"),
        (Behaviour(metadata=_other_name), "outputs scores"),
        (Behaviour(metadata=_half_precision), "FP16"),
        (Behaviour(manifest=resolve_weights("transfiner-small").manifest), "patches FP32"),
    ],
)
def test_a_model_that_is_not_that_of_the_weights_is_refused(behaviour: Behaviour, word: str) -> None:
    with fake(behaviour) as server, pytest.raises(RuntimeLostError, match=word):
        runtime(server, options="start_s=60")


def test_weights_that_change_behind_it_are_found_out() -> None:
    with fake() as server:
        running = runtime(server)
        running.run(patches(4))
        server.behaviour.fails = True
        server.behaviour.sha = "0" * 64
        with pytest.raises(RuntimeLostError):
            running.run(patches(4))
        server.behaviour.fails = False
        with pytest.raises(RuntimeLostError, match="of weights 0000"):
            running.run(patches(4))


def test_what_is_not_said_as_a_triton_says_it_is_refused() -> None:
    with over_http(inputs=["patches"]) as url, pytest.raises(RuntimeLostError, match="not what a Triton says"):
        TritonRuntime(WEIGHTS, url=f"{url}?start_s=60")


def test_a_client_library_that_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.http", None)
    with pytest.raises(RuntimeUnavailableError, match=r"cannot be imported.*maskmend\[triton\]") as caught:
        create_runtime("triton", WEIGHTS, triton_url="http://127.0.0.1:9?start_s=60")
    assert not isinstance(caught.value, RuntimeLostError)


def test_regions_of_two_processes_with_one_id_have_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers, or in one that was killed and started again."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    with fake() as server:
        for _ in range(2):
            running = runtime(server, options="shared_memory=1&wait_s=0", threads=1)
            with contextlib.suppress(RuntimeLostError):
                running.run(patches(4))
        assert len(server.regions) == 2


def test_a_server_that_hangs_is_given_up_after_the_timeout() -> None:
    with fake(Behaviour(hangs_s=3)) as server:
        running = runtime(server, options="timeout_s=0.3&wait_s=0")
        began = time.monotonic()
        with pytest.raises(RuntimeLostError, match="DEADLINE_EXCEEDED"):
            running.run(patches(4))
        assert time.monotonic() - began < 2.9


def test_no_server_at_all() -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeLostError, match=r"no Triton answered in 1 s.*127\.0\.0\.1:9: "):
        TritonRuntime(WEIGHTS, url="grpc://127.0.0.1:9?start_s=1")
    assert time.monotonic() - began < 10
    with pytest.raises(RuntimeLostError, match=r"127\.0\.0\.1:9: .*refused"):
        TritonRuntime(WEIGHTS, url="http://127.0.0.1:9?start_s=0")


def test_provenance_names_the_server() -> None:
    with fake() as server:
        made = load_refiner(runtime="triton", triton_url=server.url).provenance
    assert (made["runtime"], made["runtime_version"], made["precision"]) == ("triton", "0.0.fake", "fp32")
    assert made["weights_sha256"] == graph_sha256(WEIGHTS.manifest)


def test_auto_never_asks_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: object() if name == "tritonclient" else None)
    with pytest.raises(Exception, match="no runtime is installed"):
        choose_runtime("auto")
    assert choose_runtime("triton") == "triton"


@pytest.mark.parametrize(
    ("name", "more", "field"),
    [
        ("triton", {}, "triton_url"),
        ("onnx", {"triton_url": "grpc://localhost"}, "triton_url"),
        ("triton", {"triton_url": "localhost"}, "triton_url"),
        ("triton", {"triton_url": "grpc://localhost", "device": "cuda"}, "device"),
        ("onnx", {"device": "cuda"}, "device"),
        ("torch", {"device": "gpu0"}, "device"),
        ("tensorrt", {"device": "cpu"}, "device"),
        ("onnx", {"precision": "fp16"}, "precision"),
        ("openvino", {"precision": "int8"}, "precision"),
        ("triton", {"triton_url": "grpc://localhost", "precision": "fp8"}, "precision"),
        ("triton", {"triton_url": "grpc://localhost", "threads": 0}, "threads"),
    ],
)
def test_options_that_do_not_go_together(name: str, more: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        create_runtime(name, WEIGHTS, **more)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a private key and of a certificate for localhost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([openssl, *kind, *subject, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return key, chain


def test_tls_over_grpc(certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    with fake(tls=(key.read_bytes(), chain.read_bytes())) as server:
        given = patches(3)
        running = TritonRuntime(WEIGHTS, url=f"{server.url}?ca_file={chain}")
        assert np.array_equal(running.run(given), given[:, 3, :SIDE, :SIDE])
        with pytest.raises(RuntimeLostError):
            TritonRuntime(WEIGHTS, url=f"{server.url}?start_s=0")


class _OverHttp(http.server.BaseHTTPRequestHandler):
    """Triton over HTTP: tensors without bytes, as those of a python backend with numpy 2, or none for a while."""

    protocol_version = "HTTP/1.1"
    hangs_s = 0.0
    inputs: ClassVar[list[Any]] = [{"name": "patches", "datatype": "FP32", "shape": [-1, 4, SIZE, SIZE]}]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        logits = {"name": "logits", "datatype": "FP32", "shape": [-1, SIDE, SIDE]}
        parameters = {"weights_sha256": {"string_value": graph_sha256(WEIGHTS.manifest)}}
        known: dict[str, dict[str, Any]] = {
            "/v2": {"name": "triton", "version": "0"},
            "/v2/models/bpr-small/config": {"max_batch_size": 8, "parameters": parameters},
        }
        self._say(known.get(self.path, {"name": "bpr-small", "inputs": self.inputs, "outputs": [logits]}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.hangs_s)
        output = {"name": "logits", "datatype": "FP32", "shape": [4, SIDE, SIDE], "parameters": {"binary_data_size": 0}}
        self._say({"model_name": "bpr-small", "model_version": "1", "outputs": [output]}, binary=True)

    def _say(self, document: dict[str, Any], *, binary: bool = False) -> None:
        body = json.dumps(document).encode()
        with contextlib.suppress(OSError):
            self.send_response(200)
            if binary:
                self.send_header("inference-header-content-length", str(len(body)))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


@contextmanager
def over_http(
    hangs_s: float = 0.0, tls: tuple[Path, Path] | None = None, inputs: list[Any] | None = None
) -> Iterator[str]:
    told = {"hangs_s": hangs_s} | ({} if inputs is None else {"inputs": inputs})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_OverHttp,), told))
    host, scheme = "127.0.0.1", "http"
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls[1], tls[0])
        server.socket = context.wrap_socket(server.socket, server_side=True)
        host, scheme = "localhost", "https"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{scheme}://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_empty_tensors_over_http() -> None:
    with over_http() as url, pytest.raises(RuntimeLostError, match="0 bytes where"):
        TritonRuntime(WEIGHTS, url=url).run(patches(2))


def test_a_server_that_hangs_over_http() -> None:
    with over_http(hangs_s=5) as url:
        running = TritonRuntime(WEIGHTS, url=f"{url}?timeout_s=0.5&wait_s=0")
        began = time.monotonic()
        with pytest.raises(RuntimeLostError, match=r"(?i)time"):
            running.run(patches(2))
        assert time.monotonic() - began < 4.9
        # Once is enough.
        assert [(health.failures, health.circuit == "closed") for health in running.health()] == [(1, False)]


def test_tls_over_http(certificate: tuple[Path, Path]) -> None:
    with over_http(tls=certificate) as url:
        # It gets as far as the empty tensors.
        with pytest.raises(RuntimeLostError, match="0 bytes where"):
            TritonRuntime(WEIGHTS, url=f"{url}?ca_file={certificate[1]}").run(patches(2))
        with pytest.raises(RuntimeLostError, match=r"(?i)certificate"):
            TritonRuntime(WEIGHTS, url=f"{url}?start_s=0")

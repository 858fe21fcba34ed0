"""Parts of the service that need no server: what each refuses, and in whose name."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys

import numpy as np
import pytest

from maskmend.models.runtimes.triton_fleet import TritonHealth
from maskmend.patcher import OptionError, Rle
from maskmend.service import messages, multipart
from maskmend.service.compressed import unpacked
from maskmend.service.errors import (
    BadRequestError,
    ForbiddenError,
    InvalidRequestError,
    MediaTypeError,
    TooLargeError,
)
from maskmend.service.fetch import Fetcher, resolve
from maskmend.service.inputs import InputLimits, MaskFile
from maskmend.service.metrics import Metrics
from maskmend.service.proto import maskmend_pb2 as pb
from maskmend.service.tracing import tracer


def test_bodies_are_unpacked_up_to_the_limit() -> None:
    body = b"x" * 1000
    packed = gzip.compress(body)
    assert unpacked(body, "identity", 1) is body
    assert unpacked(body, " ", 1) is body
    assert unpacked(packed, " GZip ", 1000) == body
    for most in (999, 10):
        with pytest.raises(TooLargeError, match=f"{most} bytes") as caught:
            unpacked(packed, "gzip", most)
        assert caught.value.field == "body"
    for damaged, word in (
        (packed[:-9], "cut off"),
        (b"not gzip", "not gzip"),
        (b"", "cut off"),
        (packed[:1], "cut off"),
    ):
        with pytest.raises(BadRequestError, match=word) as refused:
            unpacked(damaged, "gzip", 1000)
        assert refused.value.field == "content-encoding"
    for other in ("br", "deflate", "gzip, gzip"):
        with pytest.raises(MediaTypeError) as unknown:
            unpacked(packed, other, 1000)
        assert unknown.value.field == "content-encoding"


def part(*headers: bytes, data: bytes = b"1") -> bytes:
    return b"--x\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + data + b"\r\n--x--\r\n"


NAMED = b"Content-Disposition: form-data; name=masks"


def test_parts_of_a_form_are_as_they_were_sent() -> None:
    body = part(NAMED + b"; filename=a.json", b"Content-Transfer-Encoding: BINARY")
    (found,) = multipart.read_multipart("multipart/form-data; boundary=x", body, 1)
    assert (found.name, found.data, found.is_file) == ("masks", b"1", True)
    for headers, word in (
        ((NAMED, b"Content-Transfer-Encoding: base64"), "content-transfer-encoding"),
        ((b"Content-Disposition: form-data",), "no name"),
        ((b"Content-Disposition: attachment; name=masks",), "no name"),
        ((b"Content-Type: text/plain",), "no name"),
    ):
        with pytest.raises(BadRequestError, match=word):
            multipart.read_multipart("multipart/form-data; boundary=x", part(*headers), 1)
    with pytest.raises(BadRequestError, match="more than 0 parts"):
        multipart.read_multipart("multipart/form-data; boundary=x", part(NAMED), 0)


def test_names_are_resolved_and_strangers_are_not() -> None:
    assert set(resolve("localhost", 80)) <= {"127.0.0.1", "::1"}

    def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    fetcher = Fetcher(["pics.example"], 10, resolve=unknown)
    with pytest.raises(InvalidRequestError, match="not known") as caught:
        fetcher.fetch("http://pics.example/a")
    assert caught.value.field == "image_url"
    for url in ("http://pics.example/é", "http://pics.example/\x7f", "http://pics.example/?a b"):
        with pytest.raises(InvalidRequestError, match="percent-encoded"):
            fetcher.fetch(url)
    with pytest.raises(ForbiddenError) as forbidden:
        fetcher.fetch("http://pics.example.evil.example/a")
    assert forbidden.value.field == "image_url"


def test_an_exporter_that_is_unknown_or_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="tracing needs its extra")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier pigeon" * 10)
    with pytest.raises(OptionError, match="use otlp or console") as caught:
        tracer()
    assert caught.value.field == "tracing"
    assert len(str(caught.value)) < 120
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(OptionError, match="needs an exporter"):
        tracer()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(OptionError, match="needs OpenTelemetry"):
        tracer()


def test_spans_are_written_to_the_console() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="tracing needs its extra")
    code = "from maskmend.service.tracing import tracer; tracer()('one', 'http', 'invalid_mask', 0.5, None)"
    env = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert '"request.id": "one"' in told
    assert '"status_code": "ERROR"' in told


def line(metrics: Metrics, name: str) -> float:
    (found,) = [text for text in metrics.text().decode().splitlines() if text.startswith(name)]
    return float(found.rpartition(" ")[2])


def test_what_servers_of_triton_did_is_counted_once() -> None:
    metrics = Metrics()
    servers = [TritonHealth("t:1", "open", "", 5, 2, 1.5), TritonHealth("t:1", "closed", "", 1, 0, 0.5)]
    metrics.watch_tritons(lambda: servers)
    for _ in range(2):
        # Asked for twice, counted once; of a server of several models the worst counts.
        assert line(metrics, 'maskmend_triton_circuit{server="t:1"}') == 2
        assert line(metrics, 'maskmend_triton_requests_total{outcome="ok",server="t:1"}') == 6
        assert line(metrics, 'maskmend_triton_requests_total{outcome="failed",server="t:1"}') == 2
        assert line(metrics, 'maskmend_triton_seconds_total{server="t:1"}') == 2.0
    # A model that was exchanged begins anew; a counter never falls.
    servers[:] = [TritonHealth("t:1", "half-open", "", 1, 0, 0.5)]
    assert line(metrics, 'maskmend_triton_circuit{server="t:1"}') == 1
    assert line(metrics, 'maskmend_triton_requests_total{outcome="ok",server="t:1"}') == 6
    servers[:] = [TritonHealth("t:1", "closed", "", 4, 0, 0.5)]
    assert line(metrics, 'maskmend_triton_requests_total{outcome="ok",server="t:1"}') == 9


SQUARE = Rle.from_dense(np.ones((2, 3), bool))


def request(**fields: object) -> pb.RefineRequest:
    return pb.RefineRequest(image=b"file", **fields)


def tensor(array: np.ndarray) -> pb.Tensor:
    return pb.Tensor(dtype=str(array.dtype), shape=array.shape, data=array.tobytes())


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.RefineRequest(), "image"),
        (pb.RefineRequest(image=b""), "image"),
        (pb.RefineRequest(image_tensor=tensor(np.zeros((2, 3, 4), np.uint8))), "image_tensor"),
        (pb.RefineRequest(image_tensor=tensor(np.zeros((2, 3, 3), np.float32))), "image_tensor"),
        (request(), "masks"),
        (request(index_mask=b"x", mask_tensor=tensor(np.zeros((1, 2, 3), bool))), "masks"),
        (request(masks=[pb.Mask()]), "masks[0]"),
        (request(masks=[pb.Mask(png=b"x"), pb.Mask()]), "masks[1]"),
        (request(mask_tensor=tensor(np.zeros((2, 3), bool))), "mask_tensor"),
        (request(mask_tensor=tensor(np.full((1, 2, 3), np.nan, np.float32))), "mask_tensor"),
        (request(mask_tensor=tensor(np.full((1, 2, 3), np.inf, np.float32))), "mask_tensor"),
        (request(mask_tensor=tensor(np.zeros((1, 2, 3), np.int64))), "mask_tensor.dtype"),
        (request(mask_tensor=pb.Tensor(dtype="bool", shape=[0, 2], data=b"")), "mask_tensor.shape"),
        (request(mask_tensor=pb.Tensor(dtype="bool", shape=[], data=b"")), "mask_tensor.shape"),
        (request(mask_tensor=pb.Tensor(dtype="bool", shape=[1] * 5, data=b"1")), "mask_tensor.shape"),
        (request(mask_tensor=pb.Tensor(dtype="float32", shape=[1, 2, 3], data=b"x" * 23)), "mask_tensor.data"),
    ],
)
def test_messages_that_do_not_say_what_they_must(message: pb.RefineRequest, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        messages.read_job(message, "id", InputLimits())
    assert caught.value.field == field


def test_masks_of_every_form_are_read() -> None:
    polygon = pb.Polygons(polygons=[pb.Polygon(coordinates=[0, 0, 3, 0, 3, 2])])
    rle = pb.Rle(size=[2, 3], counts=SQUARE.to_coco()["counts"].encode())
    job = messages.read_job(request(masks=[{"rle": rle}, {"polygons": polygon}, {"png": b"x"}]), "id", InputLimits())
    assert job.image == b"file"
    one, two, three = job.masks
    assert Rle.from_coco(one) == SQUARE
    assert two == [[0, 0, 3, 0, 3, 2]]
    assert isinstance(three, MaskFile)
    # Probabilities are foreground above one half.
    values = np.array([[[0.5, 0.51, 1.0]]], np.float32)
    assert messages.read_job(request(mask_tensor=tensor(values)), "id", InputLimits()).masks[0].tolist() == [
        [False, True, True]
    ]
    bytes_ = np.array([[[0, 2, 1]]], np.uint8)
    assert messages.read_job(request(mask_tensor=tensor(bytes_)), "id", InputLimits()).masks[0].tolist() == [[0, 2, 1]]
    flags = pb.Tensor(dtype="bool", shape=[1, 1, 3], data=b"\0\2\1")
    assert messages.read_job(request(mask_tensor=flags), "id", InputLimits()).masks[0].tolist() == [[False, True, True]]

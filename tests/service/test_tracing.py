"""Traces that a real server sends to a collector: here a stand-in that speaks OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import running, scene

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="tracing needs its extra")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Its URL, and the spans it was sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in sent.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                spans.extend((names["service.name"], span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{site.server_address[1]}", spans
    site.shutdown()


def test_each_request_is_a_span_below_its_callers(collector: tuple[str, list[Any]], tmp_path: Path) -> None:
    url, spans = collector
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SERVICE_NAME": "edges", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running(tmp_path / "log", "--tracing", grpc=False, env=env) as server:
        assert server.refine().status_code == 200
        _, masks = scene()
        headers = {"traceparent": PARENT, "x-request-id": "broken"}
        files = {"image": b"not an image"}
        data = {"masks": str([masks[0].to_coco()]).replace("'", '"')}
        answer = httpx.post(f"{server.url}/v1/refine", files=files, data=data, headers=headers)
        assert answer.status_code == 415
        # What has not been sent yet is sent when the server ends.
        assert server.stop() == 0
    found = {}
    for service, span in spans:
        assert service == "edges"
        assert span.name == "refine"
        assert span.end_time_unix_nano >= span.start_time_unix_nano
        attributes = {a.key: a.value.string_value for a in span.attributes}
        found[attributes["request.id"]] = (
            attributes["maskmend.outcome"],
            span.trace_id.hex(),
            span.parent_span_id.hex(),
        )
    assert found["broken"] == ("unsupported_image", *PARENT.split("-")[1:3])
    assert "ok" in {outcome for outcome, *_ in found.values()}

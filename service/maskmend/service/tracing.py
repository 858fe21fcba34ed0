"""OpenTelemetry spans, one for each request, for those who have its packages installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from maskmend.patcher.errors import OptionError

Tracer = Callable[[str, str, str, float, str | None], None]
"""Told of each request: its id, protocol, outcome, how many seconds it took, and the `traceparent` that came with it."""


def tracer() -> Tracer:
    """A tracer set up by OpenTelemetry's own variables: `OTEL_TRACES_EXPORTER` is `otlp` (default) or `console`.

    Raises:
        OptionError: a package is missing, or the exporter is unknown.
    """
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise OptionError("tracing needs OpenTelemetry; pip install 'maskmend[tracing]'", field="tracing") from None
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    exporter: SpanExporter
    if kind == "console":
        exporter = ConsoleSpanExporter()
    elif kind == "otlp":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise OptionError(
                "tracing needs an exporter; pip install 'maskmend[tracing]', or set OTEL_TRACES_EXPORTER=console",
                field="tracing",
            ) from None
        exporter = OTLPSpanExporter()
    else:
        raise OptionError(f"OTEL_TRACES_EXPORTER is {kind[:40]!r}; use otlp or console", field="tracing")
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "maskmend")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    spans = provider.get_tracer("maskmend")

    caller = TraceContextTextMapPropagator()

    def trace(request_id: str, protocol: str, outcome: str, seconds: float, traceparent: str | None) -> None:
        ended = time.time_ns()
        above = caller.extract({"traceparent": traceparent} if traceparent else {})
        span = spans.start_span("refine", above, kind=SpanKind.SERVER, start_time=ended - int(seconds * 1e9))
        span.set_attributes({"request.id": request_id, "network.protocol": protocol, "maskmend.outcome": outcome})
        span.set_status(Status(StatusCode.OK if outcome == "ok" else StatusCode.ERROR))
        span.end(ended)

    return trace

"""OpenTelemetry tracing: one trace from the browser through the queue to the tools.

The processes are connected by W3C ``traceparent`` values: the page creates the first one, and each job carries one.
inferencesh creates the spans of turns and tools as children of the current span. No span contains message text.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import SpanKind

__all__ = ["SpanKind", "finish", "set_up", "span", "traceparent"]


def set_up(service: str, name: str, file: str) -> None:
    """Enable tracing if a file is given.

    To send spans to a collector, return an exporter such as OTLPSpanExporter from ``create_exporter``.

    Args:
        service: The kind of this process: ``front`` or ``worker``.
        name: The name of this process.
        file: The file to which spans are written, one JSON object per line; "" for none.
    """
    if not file:
        return
    exporter = create_exporter(file)  # before the provider, so that its file is closed last
    resource = Resource.create({"service.name": f"fleet-{service}", "service.instance.id": name})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    trace.set_tracer_provider(provider)


def finish() -> None:
    """Write all remaining spans; call it before the process exits."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()


def create_exporter(file: str) -> SpanExporter:
    """Return an exporter to a file, which several processes may share."""
    opened = Path(file).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process ends
    atexit.register(opened.close)
    return ConsoleSpanExporter(out=opened, formatter=format_span)


def format_span(ended: ReadableSpan) -> str:
    """Return a span as a line of JSON."""
    return f"{ended.to_json(indent=None)}\n"


@contextmanager
def span(name: str, kind: SpanKind, parent: str, **attributes: str | int) -> Iterator[None]:
    """Create a span and make it the current one within the block.

    Args:
        name: The name of the span.
        kind: The kind of the span.
        parent: The traceparent of the parent. It is ignored if there is a current span, such as newer versions of
            FastAPI create.
        attributes: The attributes by name, with ``__`` in place of each dot.
    """
    has_current = trace.get_current_span().get_span_context().is_valid
    context = None if has_current else extract({"traceparent": parent})
    facts: Mapping[str, str | int] = {key.replace("__", "."): value for key, value in attributes.items()}
    tracer = trace.get_tracer("fleet")
    started = tracer.start_as_current_span(
        name, context=context, kind=kind, attributes=facts, record_exception=False, set_status_on_exception=False
    )
    with started:
        yield


def traceparent() -> str:
    """Return the traceparent of the current span, or "" if there is none."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent", "")

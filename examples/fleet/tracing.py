"""One trace from the browser through the queue to the tools: spans, and the text that connects them.

That text is a ``traceparent`` of the W3C. The page makes the first one, a job carries the next, and inferencesh makes
the spans of turns and tools below the one that is current. Nothing of a conversation is in a span.
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
    """Begin to trace, if there is somewhere to write to.

    To send spans to a collector, return its exporter, such as OTLPSpanExporter, from ``create_exporter``.

    Args:
        service: What this process is: ``front`` or ``worker``.
        name: The name of this process.
        file: The file that spans are written to, one JSON object in a line; "" for none.
    """
    if not file:
        return
    exporter = create_exporter(file)  # first, so that at exit its file is closed last
    resource = Resource.create({"service.name": f"fleet-{service}", "service.instance.id": name})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    trace.set_tracer_provider(provider)


def finish() -> None:
    """Write the spans that have not been written yet, before the process ends."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()


def create_exporter(file: str) -> SpanExporter:
    """Return what writes spans to a file, which several processes may share."""
    opened = Path(file).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process ends
    atexit.register(opened.close)
    return ConsoleSpanExporter(out=opened, formatter=format_span)


def format_span(ended: ReadableSpan) -> str:
    """Return a span as one line of JSON."""
    return f"{ended.to_json(indent=None)}\n"


@contextmanager
def span(name: str, kind: SpanKind, parent: str, **attributes: str | int) -> Iterator[None]:
    """Make a span that is current inside.

    Args:
        name: Its name.
        kind: Its kind.
        parent: The traceparent of its parent, unless there is a current span, as newer versions of FastAPI make one.
        attributes: Facts, by name, with ``__`` for each dot.
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

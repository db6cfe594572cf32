"""A program that is traced: it takes one turn inside a span of its own and prints all spans as JSON.

    python -m tests.services.traced_program sync|async [leave|run]

It runs in a process of its own, so that no other test has tracing in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from inferencesh import AsyncInference, Inference, InferenceError, integer, tool

tracer = trace.get_tracer("program")


def double(number: int) -> int:
    """A handler that may block."""
    with tracer.start_as_current_span("inside double"):
        if number < 0:
            raise ValueError("no negative numbers, and this text is nobody's business")
        return 2 * number


async def triple(number: int) -> int:
    """A handler that is awaited."""
    with tracer.start_as_current_span("inside triple"):
        await asyncio.sleep(0)
        return 3 * number


def count(number: int) -> Iterator[int]:
    """A handler that reports what it has got to."""
    yield 0
    with tracer.start_as_current_span("inside count"):
        yield number


AGENT = {
    "name": "mathematician",
    "tools": [
        tool("double").param("number", integer("Number")).handler(double).build(),
        tool("triple").param("number", integer("Number")).handler(triple).build(),
        tool(count),
        tool("ask").describe("Ask a person").build(),
    ],
}


def take_turn(*, leave: bool, run: bool) -> None:
    """With the blocking client."""
    with Inference() as client:
        if run:
            client.agent(AGENT).run("What is it?")
            return
        for _ in client.agent(AGENT).send_message("What is it?", stream=True):
            if leave:
                break


async def take_turn_async(*, leave: bool, run: bool) -> None:
    """With the async client."""
    if run:
        async with AsyncInference() as client:
            await client.agent(AGENT).run("What is it?")
        return
    async with AsyncInference() as client, client.agent(AGENT).send_message("What is it?", stream=True) as stream:
        async for _ in stream:
            if leave:
                break


def described(spans: tuple[ReadableSpan, ...]) -> list[dict[str, object]]:
    """The spans with their parents' names."""
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    return [
        {
            "name": span.name,
            "parent": names.get(span.parent.span_id, "?") if span.parent is not None else None,
            "trace": span.context.trace_id if span.context is not None else None,
            "kind": span.kind.name,
            "status": span.status.status_code.name,
            "description": span.status.description,
            "attributes": dict(span.attributes or {}),
            "events": len(span.events),
        }
        for span in spans
    ]


def main() -> None:
    """Take the turn and print the spans."""
    kind, *more = sys.argv[1:]
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with tracer.start_as_current_span("request"), contextlib.suppress(InferenceError):
        if kind == "sync":
            take_turn(leave="leave" in more, run="run" in more)
        else:
            asyncio.run(take_turn_async(leave="leave" in more, run="run" in more))
    print(json.dumps(described(exporter.get_finished_spans())))


if __name__ == "__main__":
    main()

"""OpenTelemetry spans of turns and tool calls; without OpenTelemetry nothing happens here.

A program that has not imported ``opentelemetry.trace`` cannot have set up tracing. So OpenTelemetry is never imported
before the program has done so, and programs that do not use it do not pay for it, installed or not.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from inferencesh._protocol.turn import Turn
from inferencesh._types.encoding import dump_json
from inferencesh.models import ToolCall

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ["ToolSpan", "TurnSpan", "tool_span"]

T = TypeVar("T")

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class TurnSpan:
    """The span of a turn, from its first request until it ends, pauses, fails or is left.

    A turn that is left and taken up again gets another span.

    Args:
        agent: The fields of a request that name or describe the agent.
        text: The message that begins the turn, or None.
    """

    __slots__ = ("_agent", "_span", "_text")

    def __init__(self, agent: Mapping[str, Any], text: str | None) -> None:
        self._agent = agent
        self._text = text
        self._span: Span | None = None

    def active(self) -> AbstractContextManager[object]:
        """Make a context in which the span is the current one; the first starts it."""
        tracer = _tracer()
        if tracer is None:
            return _NOTHING
        from opentelemetry.trace import use_span

        if self._span is None:
            self._span = self._start(tracer)
        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def fail(self, error: Exception) -> None:
        """Mark the span as failed."""
        if self._span is not None:
            _mark_failed(self._span, error)

    def end(self, turn: Turn | None) -> None:
        """End the span if there is one.

        Args:
            turn: The turn, or None if it could not be begun.
        """
        span, self._span = self._span, None
        if span is None:
            return
        if turn is not None and span.is_recording():
            if turn.chat_id is not None:
                span.set_attribute("gen_ai.conversation.id", turn.chat_id)
            span.set_attribute("inferencesh.outcome", turn.outcome.end.name.lower() if turn.outcome else "left")
            if turn.last_delivered is not None and _captures_content():
                span.set_attribute("gen_ai.output.messages", _messages("assistant", turn.last_delivered.text))
        span.end()

    def _start(self, tracer: Tracer) -> Span:
        from opentelemetry.trace import SpanKind

        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "inference.sh"}
        name = self._agent.get("agent") or self._agent.get("agent_name")
        name = name if isinstance(name, str) else ""
        if name:
            attributes["gen_ai.agent.name"] = name
        if self._text is not None and _captures_content():
            attributes["gen_ai.input.messages"] = _messages("user", self._text)
        return tracer.start_span(f"invoke_agent {name}".rstrip(), kind=SpanKind.CLIENT, attributes=attributes)


class ToolSpan:
    """The span of a tool call, while it is the current one.

    Args:
        span: The span, or None without OpenTelemetry.
    """

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def carried(self, call: Callable[[], T]) -> Callable[[], T]:
        """Return a call for which the span is the current one on whatever thread makes it."""
        if self._span is None:
            return call
        from opentelemetry import context

        present = context.get_current()

        def carried() -> T:
            token = context.attach(present)
            try:
                return call()
            finally:
                context.detach(token)

        return carried

    def record(self, result: object) -> None:
        """Record what the handler returned, if content is captured."""
        if self._span is not None and _captures_content():
            self._span.set_attribute("gen_ai.tool.call.result", result if isinstance(result, str) else repr(result))


@contextlib.contextmanager
def tool_span(call: ToolCall) -> Iterator[ToolSpan]:
    """Make a context in which the handler of a tool call runs, as a span of its own.

    Args:
        call: The tool call.
    """
    tracer = _tracer()
    if tracer is None:
        yield ToolSpan(None)
        return
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": call.name,
        "gen_ai.tool.call.id": call.id,
        "gen_ai.tool.type": "function",
    }
    if _captures_content():
        attributes["gen_ai.tool.call.arguments"] = dump_json(call.arguments).decode()
    with tracer.start_as_current_span(
        f"execute_tool {call.name}", attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield ToolSpan(span)
        except Exception as error:
            _mark_failed(span, error)
            raise


def _tracer() -> Tracer | None:
    """Return the tracer, or None where the program does not use OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace

    from inferencesh import __version__

    return trace.get_tracer("inferencesh", __version__)


def _mark_failed(span: Span, error: Exception) -> None:
    """Record the type of an error; its text is left out, for it may quote what was said."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR))


def _captures_content() -> bool:
    return os.environ.get(_CAPTURE, "").lower() in {"true", "span_only", "span_and_event"}


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)

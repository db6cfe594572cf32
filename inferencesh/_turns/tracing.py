"""Whether turns and tools are traced: where OpenTelemetry is in use, and not at the least cost anywhere else.

A program that has not imported ``opentelemetry.trace`` cannot have set up tracing. So it is never imported here, and
whoever does not use it does not pay for it, installed or not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from inferencesh import __version__
from inferencesh._http.transport import Transport
from inferencesh._protocol.turn import Turn
from inferencesh._types.codec import dump_json
from inferencesh.models import ToolCall
from inferencesh.tools.handler import Tool

from .driver import Reconnects, TurnDriver
from .tools import ToolRunner

__all__ = ["TracedDriver", "TracedToolRunner", "runner_class", "turn_driver"]

T = TypeVar("T")

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_PROVIDER = "inference.sh"


class TracedDriver(TurnDriver):
    """A driver whose turn is a span, from its first step until it ends, pauses, fails or is left.

    A turn that is left and taken up again is another span.

    Args:
        transport: As for ``TurnDriver``.
        begin: As for ``TurnDriver``.
        runner: As for ``TurnDriver``.
        reconnects: As for ``TurnDriver``.
        agent: What names or describes the agent in a request.
        text: The message that begins the turn, or None.
    """

    def __init__(
        self,
        transport: Transport,
        begin: Callable[[TurnDriver], Awaitable[Turn]],
        runner: Callable[[Turn], ToolRunner],
        reconnects: Reconnects,
        *,
        agent: Mapping[str, Any],
        text: str | None,
    ) -> None:
        super().__init__(transport, begin, runner, reconnects)
        self._agent_name = _name_of(agent)
        self._text = text
        self._span: Span | None = None
        self._in_step = False

    async def _guard(self, step: Callable[[], Awaitable[T]]) -> T:
        span = self._span = self._span or self._start()
        self._in_step = True
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                return await super()._guard(step)
        except Exception as error:
            _mark_failed(span, error)
            raise
        finally:
            self._in_step = False
            if self.closed or self.turn is None or not self.turn.driven:
                self._end()

    def _detach(self) -> None:
        super()._detach()
        if not self._in_step:
            self._end()

    def _start(self) -> Span:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": _PROVIDER}
        if self._agent_name:
            attributes["gen_ai.agent.name"] = self._agent_name
        if self._text is not None and _captures_content():
            attributes["gen_ai.input.messages"] = _messages("user", self._text)
        name = f"invoke_agent {self._agent_name}".rstrip()
        return _tracer().start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    def _end(self) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        turn = self.turn
        if turn is not None and span.is_recording():
            if turn.chat_id is not None:
                span.set_attribute("gen_ai.conversation.id", turn.chat_id)
            span.set_attribute("inferencesh.outcome", turn.outcome.end.name.lower() if turn.outcome else "left")
            if turn.last_delivered is not None and _captures_content():
                span.set_attribute("gen_ai.output.messages", _messages("assistant", turn.last_delivered.text))
        span.end()


class TracedToolRunner(ToolRunner):
    """A runner each of whose handlers is called in a span, which is current in it on whatever thread it runs."""

    async def call_handler(self, tool: Tool, call: ToolCall, bound: Callable[[], Any]) -> Any:
        """As ``ToolRunner.call_handler``, in a span."""
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
        }
        if _captures_content():
            attributes["gen_ai.tool.call.arguments"] = dump_json(call.arguments).decode()
        name = f"execute_tool {tool.name}"
        with _tracer().start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                result = await super().call_handler(tool, call, _carried(bound))
            except Exception as error:
                _mark_failed(span, error)
                raise
            if _captures_content():
                span.set_attribute("gen_ai.tool.call.result", result if isinstance(result, str) else repr(result))
            return result


def _tracer() -> trace.Tracer:
    return trace.get_tracer("inferencesh", __version__)


def _carried(call: Callable[[], T]) -> Callable[[], T]:
    """A call with the present span current on the thread that makes it: in the blocking client that is its caller's."""
    present = context.get_current()

    def carried() -> T:
        token = context.attach(present)
        try:
            return call()
        finally:
            context.detach(token)

    return carried


def _mark_failed(span: Span, error: Exception) -> None:
    """Say what kind of error it was; its text may hold what was said."""
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR))


def _name_of(agent: Mapping[str, Any]) -> str:
    name = agent.get("agent") or agent.get("agent_name")
    return name if isinstance(name, str) else ""


def _captures_content() -> bool:
    return os.environ.get(_CAPTURE, "").lower() in {"true", "span_only", "span_and_event"}


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def turn_driver(
    transport: Transport,
    begin: Callable[[TurnDriver], Awaitable[Turn]],
    runner: Callable[[Turn], ToolRunner],
    reconnects: Reconnects,
    *,
    agent: Mapping[str, Any],
    text: str | None,
) -> TurnDriver:
    """Make a turn's driver, one that is traced where tracing is in use.

    Args:
        transport: As for ``TurnDriver``.
        begin: As for ``TurnDriver``.
        runner: As for ``TurnDriver``.
        reconnects: As for ``TurnDriver``.
        agent: What names or describes the agent in a request.
        text: The message that begins the turn, or None.
    """
    if not _in_use():
        return TurnDriver(transport, begin, runner, reconnects)

    return TracedDriver(transport, begin, runner, reconnects, agent=agent, text=text)


def runner_class() -> type[ToolRunner]:
    """What runs tools: traced where tracing is in use."""
    if not _in_use():
        return ToolRunner

    return TracedToolRunner


def _in_use() -> bool:
    return "opentelemetry.trace" in sys.modules

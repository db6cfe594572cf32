"""Which of two forms of a message is the older one, told by how far each has got.

Streams replay, and a separate request may overtake them, so forms come in any order.
"""

from __future__ import annotations

import attrs

from .finish import has_less_output, written_output
from .late_form import decoded
from .models import Message, ToolCall, ToolCallStatus

__all__ = ["has_newer_calls", "is_repeat", "is_stale", "keep_calls"]

_EARLY = {ToolCallStatus.PENDING: 0, ToolCallStatus.AWAITING_APPROVAL: 1}


def is_stale(message: Message, seen: Message) -> bool:
    """Whether a pending form is older than one that was delivered: it had not got as far, or had fewer calls."""
    text, seen_text = message.text, seen.text
    if len(text) != len(seen_text):
        return len(text) < len(seen_text) and seen_text.startswith(text)
    if text != seen_text:
        return False
    reasoning, seen_reasoning = message.reasoning, seen.reasoning
    if reasoning != seen_reasoning:
        return seen_reasoning.startswith(reasoning)
    if {call.id for call in message.tool_calls} < {call.id for call in seen.tool_calls}:
        return True
    return has_less_output(_output(message), _output(seen))


def is_repeat(message: Message, seen: Message) -> bool:
    """Whether a form says nothing that the one that was delivered did not say."""
    return message == seen and _output(message) == _output(seen)


def has_newer_calls(message: Message, seen: Message) -> bool:
    """Whether a form that is stale otherwise has a tool call that is new, or one that has got further."""
    known = {call.id: call for call in seen.tool_calls}
    return any(_is_ahead(call, known.get(call.id)) for call in message.tool_calls)


def keep_calls(message: Message, known: Message) -> Message:
    """Keep what is known of tool calls where a form leaves them out or has one less far than it was."""
    if not known.tool_calls:
        return message
    if not message.tool_calls:
        if decoded(message.form).get("tool_invocations") is not None:
            return message
        return attrs.evolve(message, tool_calls=known.tool_calls)
    further = {call.id: call for call in known.tool_calls}
    calls = [
        call if _progress(call) >= _progress(further.get(call.id, call)) else further[call.id]
        for call in message.tool_calls
    ]
    return message if calls == list(message.tool_calls) else attrs.evolve(message, tool_calls=tuple(calls))


def _is_ahead(call: ToolCall, known: ToolCall | None) -> bool:
    """Whether a call has got further than what is known of it."""
    if known is None or known.done:
        return known is None
    return _progress(call) > _progress(known) or (call.pending and not known.pending)


def _progress(call: ToolCall) -> int:
    """How far a call has got: not begun, not approved yet, begun, or over; what else there is may come in any order."""
    return 3 if call.done else _EARLY.get(call.status, 2)


def _output(message: Message) -> object:
    """What the message has of the agent's structured output, not parsed."""
    return written_output(message.tool_calls, message.content)

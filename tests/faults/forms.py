"""What the service sends: stream lines and answers, in their shortest legal forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, object]

KEY = "inf_canary0123456789"
CHAT = "chat1"
ASKED = "asked1"
REPLY = "reply1"
RUN = "run1"
CALL = "call1"
TASK = "task1"
HEARTBEAT: Json = {"type": "heartbeat"}

_CHAT_STATUS = {
    "submitted": "busy",
    "working": "busy",
    "input_required": "awaiting_input",
    "auth_required": "awaiting_input",
}


def event(name: str, data: object, *, fields: Sequence[str] | None = None) -> Json:
    """One line of a stream; ``fields`` marks it as a partial update."""
    line: Json = {"event": name, "data": data}
    if fields is not None:
        line["fields"] = list(fields)
    return line


def part(name: str, id: str, /, **changed: object) -> Json:  # noqa: A002 (the wire's own name)
    """A partial update: the line names the fields that it changes."""
    return event(name, {"id": id} | changed, fields=list(changed))


def message_of(
    text: str,
    status: str = "pending",
    *,
    id: str = REPLY,  # noqa: A002
    role: str = "assistant",
    order: int = 12,
    calls: Sequence[Json] = (),
    **extra: object,
) -> Json:
    """A chat message as the service describes it."""
    content: list[Json] = [{"type": "text", "text": text}] if text else []
    form: Json = {"id": id, "chat_id": CHAT, "order": order, "status": status, "role": role}
    form["content"] = content
    if calls:
        form["tool_invocations"] = list(calls)
    return form | extra


def run_of(state: str, *, id: str = RUN, **extra: object) -> Json:  # noqa: A002
    """A run as the service describes it."""
    form: Json = {"id": id, "chat_id": CHAT, "state": state}
    return form | extra


def chat_of(state: str | None, *, run_id: str = RUN, **extra: object) -> Json:
    """A chat whose run is in ``state``; None is a chat without a run."""
    form: Json = {"id": CHAT, "status": _CHAT_STATUS.get(state or "", "idle")}
    form["active_run"] = None if state is None else run_of(state, id=run_id)
    return form | extra


def call_of(
    status: str = "awaiting_input",
    *,
    id: str = CALL,  # noqa: A002
    name: str = "calculator",
    arguments: Mapping[str, object] | str | None = None,
    type: str = "client",  # noqa: A002
    **extra: object,
) -> Json:
    """A tool invocation; ``arguments`` may be JSON text, as some servers send it."""
    given = {"expression": "42 * 17"} if arguments is None else arguments
    form: Json = {"id": id, "type": type, "status": status}
    form["function"] = {"name": name, "arguments": given}
    return form | extra


def message(text: str, status: str = "pending", **extra: object) -> Json:
    """A stream line with a whole message."""
    return event("chat_messages", message_of(text, status, **extra))  # type: ignore[arg-type] # keywords of message_of


def chat(state: str | None, **extra: object) -> Json:
    """A stream line with the chat; ``chat("working")`` is a busy one."""
    return event("chats", chat_of(state, **extra))  # type: ignore[arg-type] # keywords of chat_of


def run(state: str, **extra: object) -> Json:
    """A stream line with the run alone."""
    return event("agent_runs", run_of(state, **extra))  # type: ignore[arg-type] # keywords of run_of


def delta(text: str, seq: int, *, resource_id: str | None = REPLY) -> Json:
    """A stream line with a piece of text; ``resource_id`` None leaves the message's id out."""
    data: Json = {"delta": {"response": text}, "seq": seq}
    if resource_id is not None:
        data["resource_id"] = resource_id
    return event("delta", data)


def asked(text: str = "Hi", **extra: object) -> Json:
    """The user's message, as the service describes it."""
    return message_of(text, "ready", id=ASKED, role="user", order=11) | extra


def accepted_of(**reply: object) -> Json:
    """What the service answers to a posted message: the user's message and an empty reply."""
    return {"user_message": asked(), "assistant_message": message_of("") | reply}


def page_of(*messages: Json) -> Json:
    """A page of a chat's messages, newest page first."""
    return {"items": list(messages), "next_cursor": None, "has_next": False}


def task_of(status: int | str, **extra: object) -> Json:
    """A task as the service describes it; it is also a line of its stream."""
    form: Json = {"id": TASK, "status": status}
    return form | extra


def problem(status: int, code: str, detail: str) -> Json:
    """The body of an error answer (RFC 9457)."""
    kind = f"https://api.inference.sh/errors/{code}"
    return {"type": kind, "title": code, "status": status, "detail": detail}

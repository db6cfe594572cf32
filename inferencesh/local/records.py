"""The messages and tool calls the runtime keeps, each able to write itself as the wire has it."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import orjson
from attrs import Factory, define, field, frozen

__all__ = [
    "Arguments",
    "Block",
    "Interrupt",
    "InterruptReason",
    "Invocation",
    "Message",
    "Record",
    "Resolution",
    "Wire",
    "new_id",
    "now",
]

# The service's identifiers use digits and letters without i, l, o and u; the library's encoder uses A-Z and 2-7.
_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_LENGTH = 26


def new_id() -> str:
    """Return a fresh random identifier of 26 lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(20)).translate(_ALPHABET)[:_LENGTH].decode()


def now() -> str:
    """Return the present time in RFC 3339 with microseconds, in UTC with a `Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Wire: TypeAlias = dict[str, object]
MessageStatus: TypeAlias = Literal["pending", "queued", "ready", "failed", "cancelled"]
InvocationStatus: TypeAlias = Literal["awaiting_approval", "awaiting_input", "completed", "failed", "cancelled"]
InterruptReason: TypeAlias = Literal["tool_approval", "client_tool", "widget", "confirmation", "auth"]
Resolution: TypeAlias = Literal["allow", "deny"]

# Everything a runtime holds belongs to one made-up user in one made-up team.
_USER_ID = f"{1:026d}"
_TEAM_ID = f"{2:026d}"


@define(eq=False, kw_only=True)
class Record:
    """What every stored object has: an identifier, its times and its owner."""

    id: str = field(factory=new_id)
    created_at: str = field(factory=now)
    updated_at: str = Factory(lambda self: self.created_at, takes_self=True)

    def touch(self) -> None:
        """Note that the object has changed."""
        self.updated_at = now()

    def base(self) -> Wire:
        """Return the fields that all objects share on the wire."""
        return {
            "id": self.id,
            "short_id": self.id[:8],
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "deleted_at": None,
            "user_id": _USER_ID,
            "user": None,
            "team_id": _TEAM_ID,
            "team": None,
            "visibility": "team",
        }


@frozen
class Arguments:
    """A tool call's arguments: read, and as the JSON text they are sent as, however deep they are nested."""

    values: dict[str, object]
    text: str

    @property
    def wire(self) -> orjson.Fragment:
        """The text as a part of a larger answer."""
        return orjson.Fragment(self.text)


@define(eq=False)
class Block:
    """One part of a message's content; of a file the wire has the address alone, and the model what else is known."""

    type: Literal["text", "reasoning", "image", "file", "tool"]
    text: str | None = None
    uri: str | None = None
    filename: str = ""
    content_type: str = ""
    size: int = 0
    error: str | None = None
    tool_calls: list[Wire] = field(factory=list)

    def wire(self) -> Wire:
        """Return the block as the wire has it."""
        return {
            "type": self.type,
            "error": self.error,
            "text": self.text,
            "image": self.uri if self.type == "image" else None,
            "file": self.uri if self.type == "file" else None,
            "tool_calls": self.tool_calls or None,
        }


@define(eq=False, kw_only=True)
class Interrupt(Record):
    """One thing that a run waits for, and what became of it; its call has the rest."""

    reason: InterruptReason
    status: Literal["pending", "resolved", "cancelled"] = "pending"
    resolution: Resolution | None = None
    resolved_at: str | None = None

    def close(self, status: Literal["resolved", "cancelled"], resolution: Resolution | None) -> None:
        """Note that nothing is waited for any more."""
        self.touch()
        self.status, self.resolution = status, resolution
        self.resolved_at = self.updated_at if status == "resolved" else None


@define(eq=False, kw_only=True)
class Invocation(Record):
    """One call of a tool. `id` is what `/tools/{id}` takes; `call_id` is the model's own name for it.

    It may wait more than once, for its approval first and then for its result; the last of `interrupts` says for what.
    """

    chat_id: str
    run_id: str
    message_id: str
    call_id: str
    name: str
    arguments: Arguments
    type: Literal["client", "internal"] = "client"
    status: InvocationStatus = "completed"
    result: str | None = None
    attachments: tuple[Block, ...] = ()
    widget: str | None = None
    interrupts: list[Interrupt] = field(factory=list)

    @property
    def waits(self) -> bool:
        """Whether the run cannot go on before somebody has answered it."""
        return self.waits_for is not None

    @property
    def waits_for(self) -> InterruptReason | None:
        """What it waits for, or None."""
        last = self.interrupts[-1] if self.interrupts else None
        return last.reason if last is not None and last.status == "pending" else None

    def wait_for(self, reason: InterruptReason) -> None:
        """Begin to wait; what was waited for before was allowed."""
        if self.waits:
            self.interrupts[-1].close("resolved", "allow")
        self.interrupts.append(Interrupt(reason=reason))
        self.status = "awaiting_approval" if reason == "tool_approval" else "awaiting_input"
        self.touch()

    def end(
        self,
        status: Literal["completed", "failed", "cancelled"],
        result: str | None = None,
        *,
        resolution: Resolution | None = None,
    ) -> None:
        """Give it its last status; without a result it was not answered, and what it waited for is called off."""
        if self.waits:
            self.interrupts[-1].close("cancelled" if result is None else "resolved", resolution)
        self.status, self.result = status, result
        self.touch()

    def wire(self) -> Wire:
        """Return the invocation as the wire has it."""
        return {
            **self.base(),
            "chat_message_id": self.message_id,
            "tool_invocation_id": self.call_id,
            "type": self.type,
            "display_name": self.name,
            "action": None,
            "execution_id": None,
            "function": {"name": self.name, "arguments": self.arguments.wire},
            "status": self.status,
            "result": self.result,
            "data": None,
            "widget": None if self.widget is None else orjson.Fragment(self.widget),
        }

    def interrupt_wire(self, interrupt: Interrupt) -> Wire:
        """Return one of its interrupts as the wire has it."""
        return {
            **interrupt.base(),
            "run_id": self.run_id,
            "chat_id": self.chat_id,
            "reason": interrupt.reason,
            "source": "tool",
            "resource_id": self.id,
            "resource_type": "tool_invocation",
            "status": interrupt.status,
            "resolution": interrupt.resolution,
            "resolved_at": interrupt.resolved_at,
            "resolved_data": None,
            "expires_at": None,
            "meta": {
                "tool_invocation_id": self.id,
                "tool_name": self.name,
                "arguments": self.arguments.wire,
                "reason": "",
            },
        }


@define(eq=False, kw_only=True)
class Message(Record):
    """One message of a chat. `seq` counts the deltas sent for it so far."""

    chat_id: str
    role: Literal["user", "assistant", "tool"]
    order: int
    status: MessageStatus
    blocks: list[Block] = field(factory=list)
    run_id: str | None = None
    tool_call_id: str | None = None
    invocations: list[Invocation] = field(factory=list)
    seq: int = 0

    @property
    def text(self) -> str:
        """The text of all text blocks."""
        return "".join(block.text or "" for block in self.blocks if block.type == "text")

    @property
    def ended(self) -> bool:
        """Whether the message will not change its text any more."""
        return self.status in {"ready", "failed", "cancelled"}

    def wire(self) -> Wire:
        """Return the message as the wire has it."""
        return {
            **self.base(),
            "chat_id": self.chat_id,
            "chat": None,
            "agent_run_id": self.run_id,
            "order": self.order,
            "status": self.status,
            "task_id": None,
            "role": self.role,
            "content": [block.wire() for block in self.blocks],
            "tools": None,
            "tool_call_id": self.tool_call_id,
            "tool_invocations": [each.wire() for each in self.invocations] or None,
            "compaction_meta": None,
        }

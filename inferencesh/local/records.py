"""The records a runtime keeps: messages with their content blocks, tool calls and interrupts.

Each record produces its own wire form. Chats and runs are in ``chats``, files in ``files``.
"""

from __future__ import annotations

import base64
import secrets
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, Self, TypeAlias

import attrs
import orjson

from inferencesh._text import decode_json, encode_json

__all__ = [
    "Arguments",
    "Block",
    "InterruptReason",
    "Invocation",
    "Published",
    "Record",
    "Recorder",
    "Resolution",
    "StoredInterrupt",
    "StoredMessage",
    "Wire",
    "new_id",
    "now",
    "timestamp",
]

Wire: TypeAlias = dict[str, object]
"""A JSON object as it is sent to clients."""

MessageStatus: TypeAlias = Literal["pending", "queued", "ready", "failed", "cancelled"]
InvocationStatus: TypeAlias = Literal["awaiting_approval", "awaiting_input", "completed", "failed", "cancelled"]
InterruptReason: TypeAlias = Literal["tool_approval", "client_tool", "widget", "confirmation", "auth"]
Resolution: TypeAlias = Literal["allow", "deny"]

# Every record belongs to the same placeholder user and team.
_USER_ID = f"{1:026d}"
_TEAM_ID = f"{2:026d}"
# Identifiers of the service consist of digits and letters without i, l, o and u; base 32 uses A-Z and 2-7.
_ID_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_ID_LENGTH = 26


def new_id() -> str:
    """Return a random identifier of 26 lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(20)).translate(_ID_ALPHABET)[:_ID_LENGTH].decode()


def timestamp(moment: datetime) -> str:
    """Return a time in UTC as an RFC 3339 timestamp with microseconds."""
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def now() -> str:
    """Return the current time as a timestamp that is later than all before.

    Lists are sorted by these, but some clocks are coarse, and any can be set back.
    """
    _latest[0] = max(datetime.now(UTC), _latest[0] + timedelta(microseconds=1))
    return timestamp(_latest[0])


_latest = [datetime.min.replace(tzinfo=UTC)]


@attrs.define(eq=False, kw_only=True)
class Record:
    """The base of all stored objects: an identifier and timestamps."""

    id: str = attrs.field(factory=new_id)
    created_at: str = attrs.field(factory=now)
    updated_at: str = attrs.Factory(lambda self: self.created_at, takes_self=True)

    @property
    def short_id(self) -> str:
        """The beginning of the identifier, which people use."""
        return self.id[:8]

    def touch(self) -> None:
        """Set ``updated_at`` to the current time."""
        self.updated_at = now()

    def base(self) -> Wire:
        """Return the fields that all objects have on the wire."""
        return {
            "id": self.id,
            "short_id": self.short_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "deleted_at": None,
            "user_id": _USER_ID,
            "user": None,
            "team_id": _TEAM_ID,
            "team": None,
            "visibility": "team",
        }


@attrs.define(eq=False, kw_only=True)
class Published(Record, ABC):
    """A record that is published to the readers of a chat as a whole."""

    @abstractmethod
    def wire(self) -> Wire:
        """Return the record in wire form."""


@attrs.frozen
class Arguments:
    """The arguments of a tool call, decoded and as JSON text.

    The text is sent as it is, since arguments may be nested more deeply than the encoder allows.
    """

    values: dict[str, object]
    text: str

    @classmethod
    def of(cls, value: object) -> Self:
        """Return a value as arguments, checked to be JSON; ``values`` is a copy, and empty if it is not an object."""
        return cls.read(encode_json(value).decode())

    @classmethod
    def read(cls, text: str) -> Self:
        """Return arguments that are written as JSON text."""
        values = decode_json(text)
        return cls(values if isinstance(values, dict) else {}, text)

    @property
    def wire(self) -> orjson.Fragment:
        """The JSON text, to be embedded in a larger object."""
        return orjson.Fragment(self.text)


@attrs.define(eq=False)
class Block:
    """One part of a message's content."""

    type: Literal["text", "reasoning", "image", "file", "tool"]
    text: str | None = None
    uri: str | None = None
    filename: str = ""
    content_type: str = ""
    size: int = 0
    error: str | None = None
    tool_calls: list[Wire] = attrs.field(factory=list)

    def wire(self) -> Wire:
        """Return the block in wire form.

        Its own fields of a file are an address alone; name, type and size are added, so that readers can show them.
        """
        block: Wire = {
            "type": self.type,
            "error": self.error,
            "text": self.text,
            "image": self.uri if self.type == "image" else None,
            "file": self.uri if self.type == "file" else None,
            "tool_calls": self.tool_calls or None,
        }
        if self.uri is not None:
            block |= {"filename": self.filename, "content_type": self.content_type, "size": self.size}
        return block


@attrs.define(eq=False, kw_only=True)
class StoredInterrupt(Record):
    """Something that a run waits, or waited, for: one step of an ``Invocation``, which holds the details."""

    reason: InterruptReason
    status: Literal["pending", "resolved", "cancelled"] = "pending"
    resolution: Resolution | None = None
    resolved_at: str | None = None

    def close(self, status: Literal["resolved", "cancelled"], resolution: Resolution | None) -> None:
        """End the wait with this status and decision."""
        self.touch()
        self.status, self.resolution = status, resolution
        self.resolved_at = self.updated_at if status == "resolved" else None


@attrs.define(eq=False, kw_only=True)
class Invocation(Record):
    """One call of a tool.

    ``id`` identifies it in ``/tools/{id}``; ``call_id`` is the identifier used in the model's messages. A call can wait
    more than once, first for approval and then for its result; each wait adds one to ``interrupts``.
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
    interrupts: list[StoredInterrupt] = attrs.field(factory=list)

    @property
    def waits(self) -> bool:
        """Whether the run cannot continue until this call is answered."""
        return self.waits_for is not None

    @property
    def waits_for(self) -> InterruptReason | None:
        """Why the call waits at present; None if it does not."""
        last = self.interrupts[-1] if self.interrupts else None
        return last.reason if last is not None and last.status == "pending" else None

    def wait_for(self, reason: InterruptReason) -> None:
        """Start to wait; a pending interrupt is resolved as allowed first."""
        if self.waits:
            self.interrupts[-1].close("resolved", "allow")
        self.interrupts.append(StoredInterrupt(reason=reason))
        self.status = "awaiting_approval" if reason == "tool_approval" else "awaiting_input"
        self.touch()

    def end(
        self,
        status: Literal["completed", "failed", "cancelled"],
        result: str | None = None,
        *,
        resolution: Resolution | None = None,
    ) -> None:
        """Set the final status. Without a result the call stays unanswered, and a pending interrupt is cancelled."""
        if self.waits:
            self.interrupts[-1].close("cancelled" if result is None else "resolved", resolution)
        self.status, self.result = status, result
        self.touch()

    def wire(self) -> Wire:
        """Return the invocation in wire form."""
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

    def interrupt_wire(self, interrupt: StoredInterrupt) -> Wire:
        """Return one of the call's interrupts in wire form."""
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


@attrs.define(eq=False, kw_only=True)
class StoredMessage(Published):
    """One message of a chat. ``seq`` is the number of deltas published for it so far."""

    chat_id: str
    role: Literal["user", "assistant", "tool"]
    order: int
    status: MessageStatus
    blocks: list[Block] = attrs.field(factory=list)
    run_id: str | None = None
    tool_call_id: str | None = None
    invocations: list[Invocation] = attrs.field(factory=list)
    seq: int = 0

    @property
    def text(self) -> str:
        """The joined text of all text blocks."""
        return "".join(block.text or "" for block in self.blocks if block.type == "text")

    @property
    def ended(self) -> bool:
        """Whether the message is complete, failed or cancelled."""
        return self.status in {"ready", "failed", "cancelled"}

    def wire(self) -> Wire:
        """Return the message in wire form."""
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


class Recorder(Protocol):
    """Persists records; implemented by ``_store.journal``, so that records do not depend on the database."""

    def note(self, record: Record) -> None:
        """Schedule a record to be stored in the state it has when the current step of the event loop ends."""
        ...

    def forget(self, record: Record) -> None:
        """Schedule a record, and the records that belong to it, to be deleted."""
        ...

    async def drain(self, chat_id: str) -> None:
        """Wait until everything noted so far for a chat was stored, or failed to be; do not raise on failure."""
        ...

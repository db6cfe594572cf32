"""What the service talks about: messages, tool calls, runs, chats and files, as immutable classes.

Everything here is read from a server, so nothing is trusted and little is required: null and absent fields take their
defaults, what this version does not know stays readable in ``raw``, and a value an enum does not know becomes a member
with that value.
Field names and enum values come from the official Python, JavaScript and Swift SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

import attrs

from .growing_text import GrowingText, TextLog

__all__ = [
    "Chat",
    "ChatStatus",
    "Content",
    "ContentType",
    "FileRef",
    "Message",
    "MessageStatus",
    "Role",
    "Run",
    "RunState",
    "ToolCall",
    "ToolCallStatus",
    "ToolType",
]


class OpenEnum(StrEnum):
    """A string enum that takes in values of later server versions instead of failing on them."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member


class Role(OpenEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    INJECTION = "injection"
    COMPACTION = "compaction"
    EVENT = "event"


class MessageStatus(OpenEnum):
    """How far a message has got; ready, failed and cancelled are final."""

    PENDING = "pending"
    QUEUED = "queued"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ContentType(OpenEnum):
    """What a block of a message's content is."""

    TEXT = "text"
    REASONING = "reasoning"
    IMAGE = "image"
    FILE = "file"
    TOOL = "tool"
    EVENT = "event"


class ToolCallStatus(OpenEnum):
    """How far a tool call has got; completed, failed and cancelled are final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    AWAITING_INPUT = "awaiting_input"
    AWAITING_APPROVAL = "awaiting_approval"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ToolType(OpenEnum):
    """Who runs a tool; ``client`` tools are run by the program that uses this package."""

    APP = "app"
    AGENT = "agent"
    HOOK = "hook"
    HTTP = "http"
    CALL = "call"
    MCP = "mcp"
    CLIENT = "client"
    INTERNAL = "internal"
    HARNESS = "harness"


class RunState(OpenEnum):
    """How far a run, the agent's work on one user message, has got; UNKNOWN when the server did not say."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class ChatStatus(OpenEnum):
    """What a chat is doing; UNKNOWN when the server did not say."""

    BUSY = "busy"
    IDLE = "idle"
    AWAITING_INPUT = "awaiting_input"
    WAITING = "waiting"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


FINAL_MESSAGE = frozenset({MessageStatus.READY, MessageStatus.FAILED, MessageStatus.CANCELLED})
FINAL_CALL = frozenset({ToolCallStatus.COMPLETED, ToolCallStatus.FAILED, ToolCallStatus.CANCELLED})
# The JavaScript SDK takes in_progress for a call that waits for its client, the Python one awaiting_input.
AWAITS_CLIENT = frozenset({ToolCallStatus.AWAITING_INPUT, ToolCallStatus.IN_PROGRESS})


@attrs.frozen
class FileRef:
    """A file the service knows.

    Attributes:
        id: Its id, or "".
        uri: Where it is; this is what an attachment needs.
        filename: Its name, or "".
        content_type: Its MIME type, or "".
        size: Bytes, or 0 when unknown.
    """

    id: str = ""
    uri: str = ""
    filename: str = ""
    content_type: str = ""
    size: int = 0


@attrs.frozen
class Content:
    """One block of a message: text, reasoning, an image, a file, or something newer.

    Attributes:
        type: What the block is.
        image: The image's URI, or None.
        file: The file's URI, or None.
        error: What went wrong, or None.
        raw: The block as the server sent it.
    """

    type: ContentType = ContentType.TEXT
    _text: str | GrowingText = attrs.field(default="", eq=str, hash=False, repr=str)
    image: str | None = None
    file: str | None = None
    error: str | None = None
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def text(self) -> str:
        """Its text, for text and reasoning; "" for the rest."""
        return str(self._text)

    def continued_by(self, log: TextLog, added: int) -> bool:
        """Whether its text is what ``log`` held before its last ``added`` characters; no text is read to tell."""
        return isinstance(self._text, GrowingText) and self._text.is_part_of(log, log.length - added)


@attrs.frozen
class ToolCall:
    """One call of a tool by the agent.

    Attributes:
        id: The id that ``submit_tool_result`` takes.
        name: The tool's name.
        arguments: The arguments, always decoded. They come from a language model: check them before you act on them.
        status: How far it has got.
        type: Who runs it; ``client`` means your program.
        requires_approval: Whether it waits for a person's approval.
        result: What it returned, or None.
        undecoded_arguments: The arguments as they came, where they are not a JSON object (yet); None otherwise.
        raw: The tool invocation as the server sent it.
    """

    id: str
    name: str
    arguments: dict[str, Any] = attrs.field(factory=dict, hash=False)
    status: ToolCallStatus = ToolCallStatus.PENDING
    type: ToolType = ToolType.CLIENT
    requires_approval: bool = False
    result: str | None = attrs.field(default=None, repr=False)
    undecoded_arguments: str | None = attrs.field(default=None, repr=False)
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def pending(self) -> bool:
        """Whether it is a client tool's call that waits for its result."""
        return self.type == ToolType.CLIENT and self.status in AWAITS_CLIENT

    @property
    def done(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in FINAL_CALL


@attrs.frozen
class Message:
    """A message as it stood at one moment; nothing in it changes later.

    Attributes:
        id: The message's id.
        chat_id: The chat it belongs to.
        role: Who it is from.
        status: How far it has got.
        content: Its blocks, in order.
        tool_calls: The tools the agent called in it.
        created_at: RFC 3339 time of its creation, or "".
        order: Its place in the chat; the sort key.
        run_id: The run it belongs to, or "".
        delta: What this snapshot added to the text of the one before it: "" when only the status or a tool changed,
            None when the text was rewritten. Of a first snapshot it is the whole text.
        raw: The last whole form of it that the server sent.
    """

    id: str
    chat_id: str = ""
    role: Role = Role.ASSISTANT
    status: MessageStatus = MessageStatus.PENDING
    content: tuple[Content, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    created_at: str = ""
    order: int = 0
    run_id: str = ""
    delta: str | None = attrs.field(default=None, eq=False)
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The whole text so far: its text blocks, joined."""
        return self._join(ContentType.TEXT)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, where the agent shows it."""
        return self._join(ContentType.REASONING)

    @property
    def done(self) -> bool:
        """Whether it is ready, failed or cancelled, so that no later snapshot of it follows."""
        return self.status in FINAL_MESSAGE

    @property
    def pending_tool_calls(self) -> tuple[ToolCall, ...]:
        """The client tools' calls that wait for ``submit_tool_result``."""
        return tuple(call for call in self.tool_calls if call.pending)

    def _join(self, wanted: ContentType) -> str:
        blocks = self.content
        if len(blocks) == 1:  # nearly always
            return blocks[0].text if blocks[0].type == wanted else ""
        return "".join(block.text for block in blocks if block.type == wanted)


@attrs.frozen
class Run:
    """The agent's work on one user message.

    Attributes:
        id: Its id.
        chat_id: The chat it runs in, or "".
        state: How far it has got.
        user_message_id: The message it answers, or "".
        error: Why it failed, or "".
        interrupt_tool_id: The tool call it waits for, or "".
        output: The structured output, if the agent has one.
    """

    id: str = ""
    chat_id: str = ""
    state: RunState = RunState.UNKNOWN
    user_message_id: str = ""
    error: str = ""
    interrupt_tool_id: str = ""
    output: Any = attrs.field(default=None, hash=False)


@attrs.frozen
class Chat:
    """A conversation with an agent.

    Attributes:
        id: Its id; pass it as ``chat_id`` to take the chat up again.
        status: What it is doing.
        name: Its title, or "".
        active_run: The run that goes on or was the last one, or None.
        output: The structured output of the agent, if it has one.
        context: The variables given at its creation.
        created_at: RFC 3339 time of its creation, or "".
        updated_at: RFC 3339 time of its last change, or "".
        raw: The last whole form of it that the server sent.
    """

    id: str = ""
    status: ChatStatus = ChatStatus.UNKNOWN
    name: str = ""
    active_run: Run | None = None
    output: Any = attrs.field(default=None, hash=False)
    context: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    created_at: str = ""
    updated_at: str = ""
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

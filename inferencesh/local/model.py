"""What a model of the embedded runtime is: it reads a conversation and answers in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = (
    "Attachment",
    "Conversation",
    "ConversationMessage",
    "Fail",
    "Model",
    "OfferedTool",
    "PastCall",
    "Piece",
    "Reasoning",
    "Text",
    "ToolCall",
)


@frozen
class Text:
    """A piece of the answer's text; pieces are joined as they are, so spaces belong to them."""

    text: str


@frozen
class Reasoning:
    """A piece of what the model thinks aloud before it answers."""

    text: str


@frozen
class ToolCall:
    """A call of one of the conversation's tools; several in one answer run side by side."""

    name: str
    arguments: Mapping[str, object]


@frozen
class Fail:
    """The model gives up: the run ends as failed with this detail."""

    detail: str


Piece: TypeAlias = Text | Reasoning | ToolCall | Fail


@frozen
class PastCall:
    """A tool call that an earlier step of the conversation made, and that was answered."""

    id: str
    name: str
    arguments: Mapping[str, object]


@frozen
class Attachment:
    """A file that came with a message or a tool's result.

    Args:
        uri: Where it is. One that was uploaded to the runtime can be read there without a key.
        filename: Its name, or "" when nobody said.
        content_type: Its MIME type, or "" when nobody said.
        size: Bytes; 0 when nobody said.
    """

    uri: str
    filename: str = ""
    content_type: str = ""
    size: int = 0


@frozen
class ConversationMessage:
    """One message so far: the user's, the assistant's, or the result of a tool.

    Args:
        role: Who speaks.
        text: The message's whole text; for a tool, its result.
        tool_calls: The calls an assistant message made.
        tool_call_id: For a tool's result, the `PastCall.id` that it answers.
        attachments: The files that came with the message.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    tool_calls: tuple[PastCall, ...] = ()
    tool_call_id: str | None = None
    attachments: tuple[Attachment, ...] = ()


@frozen
class OfferedTool:
    """A tool the model may call, with the JSON Schema of its arguments."""

    name: str
    description: str = ""
    input_schema: Mapping[str, object] = field(factory=dict)


@frozen
class Conversation:
    """All a model is given for one step: it never sees the server behind it."""

    messages: tuple[ConversationMessage, ...]
    system_prompt: str = ""
    tools: tuple[OfferedTool, ...] = ()
    context: Mapping[str, str] = field(factory=dict)


class Model(Protocol):
    """Answers a conversation, one step at a time.

    After a step that calls tools, `respond` is called again with their results in the conversation.
    """

    def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the next answer in pieces; write it as an async generator.

        Args:
            conversation: Everything said so far, the tools on offer and the chat's context.

        Raises:
            Exception: Whatever is raised ends the run as failed and leaves the server running.
        """
        ...

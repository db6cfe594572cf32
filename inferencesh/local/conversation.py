"""What a model is shown of a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh.json_text import copied

from .model import Attachment, Conversation, ConversationMessage, PastCall

if TYPE_CHECKING:
    from .chats import Chat, Run
    from .records import Message

__all__ = ("conversation_of",)


def conversation_of(chat: Chat, run: Run) -> Conversation:
    """Return the conversation so far, without what is queued, withdrawn or still being written."""
    return Conversation(
        messages=tuple(_shown(message) for message in chat.messages if _counts(message)),
        system_prompt=run.config.system_prompt,
        tools=run.config.tools,
        context=chat.context,
        output_schema=run.config.output_schema,
        finishes=run.config.finishes,
    )


def _counts(message: Message) -> bool:
    if message.role == "assistant":
        return message.ended and bool(message.text or message.invocations)
    return message.status == "ready"


def _shown(message: Message) -> ConversationMessage:
    # A call that was never answered, because its run was stopped, is left out: models take a call only with its result.
    answered = [each for each in message.invocations if each.result is not None]
    return ConversationMessage(
        role=message.role,
        text=message.text or _output_of(message),
        tool_calls=tuple(PastCall(each.call_id, each.name, copied(each.arguments.values)) for each in answered),
        tool_call_id=message.tool_call_id,
        attachments=tuple(
            Attachment(block.uri, block.filename, block.content_type, block.size)
            for block in message.blocks
            if block.uri is not None
        ),
    )


def _output_of(message: Message) -> str:
    """Return what a message without words finished with: it is what was said, and no call that has a result."""
    return next((each.arguments.text for each in message.invocations if each.type == "internal"), "")

"""Everything a runtime holds, found by identifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define, field

from .chats import Chat
from .feed import Feed
from .ids import new_id
from .problems import invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bodies import NewChat
    from .records import Interrupt, Invocation, Message, Record

__all__ = ("Store", "page")

RecordT = TypeVar("RecordT", bound="Record")


@define
class Store:
    """The chats of one runtime, in the order they were opened, and the tool calls in them."""

    chats: dict[str, Chat] = field(factory=dict)
    _invocations: dict[str, tuple[Chat, Invocation]] = field(factory=dict)

    def open_chat(self, new: NewChat) -> Chat:
        """Create a chat."""
        chat = Chat(agent_id=new_id(), config=new.config, feed=Feed(), context=new.context)
        self.chats[chat.id] = chat
        return chat

    def forget_chat(self, chat: Chat) -> None:
        """Drop a chat and its tool calls."""
        del self.chats[chat.id]
        for message in chat.messages:
            for invocation in message.invocations:
                del self._invocations[invocation.id]

    def add_invocation(self, chat: Chat, invocation: Invocation) -> None:
        """Make a tool call answerable."""
        self._invocations[invocation.id] = chat, invocation

    def chat(self, chat_id: str) -> Chat:
        """Return a chat, or refuse with 404."""
        if chat_id not in self.chats:
            raise not_found("chat", chat_id)
        return self.chats[chat_id]

    def message(self, message_id: str) -> tuple[Chat, Message]:
        """Return a message and its chat, or refuse with 404."""
        for chat in self.chats.values():
            for message in chat.messages:
                if message.id == message_id:
                    return chat, message
        raise not_found("message", message_id)

    def invocation(self, invocation_id: str) -> tuple[Chat, Invocation]:
        """Return a tool call and its chat, or refuse with 404."""
        if invocation_id not in self._invocations:
            raise not_found("tool call", invocation_id)
        return self._invocations[invocation_id]

    def interrupt(self, interrupt_id: str) -> tuple[Chat, Invocation, Interrupt]:
        """Return an interrupt with its call and chat, or refuse with 404."""
        for chat in self.chats.values():
            for invocation, interrupt in chat.interrupts():
                if interrupt.id == interrupt_id:
                    return chat, invocation, interrupt
        raise not_found("interrupt", interrupt_id)

    def chat_of_run(self, run_id: str) -> Chat:
        """Return the chat that a run belongs to, or refuse with 404; past runs are known by their messages."""
        for chat in self.chats.values():
            if any(message.run_id == run_id for message in chat.messages):
                return chat
        raise not_found("run", run_id)


def page(records: Sequence[RecordT], limit: int, cursor: str | None) -> tuple[Sequence[RecordT], str]:
    """Return the newest records before `cursor` with the cursor of the page before them.

    Args:
        records: Oldest first.
        limit: How many a page has.
        cursor: What the previous page gave; None for the newest page.

    Returns:
        The page, oldest first as well, and the next cursor, empty when nothing older is left.

    Raises:
        ProblemError: 422 when the cursor is none of this list's.
    """
    end = len(records)
    if cursor:
        end = next((at for at, each in enumerate(records) if each.id == cursor), -1)
        if end < 0:
            raise invalid("cursor", "is not one that this list has given out.")
    start = max(0, end - limit)
    return records[start:end], records[start].id if start else ""

"""Everything a runtime holds, found by identifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from .chats import Chat
from .errors import not_found
from .feed import Feed
from .records import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._api.bodies import NewChat
    from ._store.journal import Recorder
    from .records import Interrupt, Invocation, Message

__all__ = ["Store"]


@define
class Store:
    """The chats of one runtime, in the order they were opened, and the tool calls in them."""

    chats: dict[str, Chat] = field(factory=dict)
    _recorder: Recorder | None = None
    _invocations: dict[str, tuple[Chat, Invocation]] = field(factory=dict)

    def open_chat(self, new: NewChat) -> Chat:
        """Create a chat."""
        chat = Chat(agent_id=new_id(), config=new.config, feed=Feed(self._recorder), context=new.context)
        self.chats[chat.id] = chat
        if self._recorder is not None:
            self._recorder.note(chat)
        return chat

    def load(self, chats: Iterable[Chat], recorder: Recorder) -> None:
        """Take in chats that are stored already, and tell `recorder` of those that are opened from now on."""
        self._recorder = recorder
        for chat in chats:
            self.chats[chat.id] = chat
            for message in chat.messages:
                for invocation in message.invocations:
                    self.add_invocation(chat, invocation)

    def forget_chat(self, chat: Chat) -> None:
        """Drop a chat and its tool calls."""
        del self.chats[chat.id]
        for message in chat.messages:
            for invocation in message.invocations:
                del self._invocations[invocation.id]
        if self._recorder is not None:
            self._recorder.forget(chat)

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

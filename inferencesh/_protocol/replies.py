"""The assistant messages of one turn, selected from the messages of its chat.

The stream of a chat carries all its messages, including replayed ones of earlier turns. A message belongs to this turn
if the response to the POST names it, if it belongs to the turn's run, or if it comes after the user's message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

from inferencesh._text import decoded
from inferencesh._types.codec import structure
from inferencesh.models import Message, MessageStatus, Role

from .calls import Ids
from .message import LiveMessage
from .run import RunTracker, merged
from .wire import Event

__all__ = ["Replies", "has_turn"]

_MAX_UNKNOWN = 16  # messages kept of which only deltas have arrived


def has_turn(message: Message) -> bool:
    """Whether a message of the user has begun a turn: it is not queued and was not withdrawn."""
    return message.status not in {MessageStatus.QUEUED, MessageStatus.CANCELLED}


class Replies:
    """The assistant messages of one turn.

    Args:
        chat_id: The chat's id, or None if the turn begins a new chat.
        run: The state of the turn's run.
        corrected: A function that updates the tool calls of a message that were answered since the server wrote it.
        after: The ``order`` of the last message before the turn, or None if it is not known.
        earlier: Ids of messages that are known to belong to earlier turns.

    Attributes:
        chat_id: The chat's id, or None while it is not known.
        after: The ``order`` of the last message before the reply, or None.
        withdrawn: Whether the user's message was withdrawn before its turn began.
        seen_own: Whether the user's message was seen in the chat.
        missing: Whether something is missing that only a read of the chat can bring.
        growing: The message that the last event was about, or None.
    """

    def __init__(
        self,
        chat_id: str | None,
        run: RunTracker,
        corrected: Callable[[Message], Message],
        *,
        after: int | None,
        earlier: Iterable[str],
    ) -> None:
        self.chat_id = chat_id
        self.after = after
        self.withdrawn = False
        self.seen_own = False
        self.missing = False
        self._said_final: dict[str, Message] = {}  # reported as final, but their content may be incomplete
        self._until: int | None = None  # the order of the user's next message, which begins another turn
        self._run = run
        self._corrected = corrected
        self._new_chat = chat_id is None
        self._earlier: Ids = dict.fromkeys(earlier)
        self._others: Ids = {}  # ids of messages of other turns
        self._named = ""  # the id in the response to the POST
        self._since: datetime | None = None  # when the user's message was created, for messages without an order
        self._live: dict[str, LiveMessage] = {}
        self._unknown: dict[str, LiveMessage] = {}  # messages of which only deltas have arrived
        self.growing: LiveMessage | None = None

    def begin(self, user: Message | None, assistant: Message | None) -> Message | None:
        """Begin with the response to the POST, and return a snapshot if it holds more than a placeholder."""
        known = assistant or user
        if known is not None and self.chat_id is None:
            self.chat_id = known.chat_id or None
        if user is not None:
            self._since = user.created_at
            if user.order > 0:
                self.after = user.order
        if assistant is None:
            return None
        self._named = assistant.id
        if assistant.order > 0 and (user is None or user.order <= 0):
            self.after = assistant.order - 1
        return self.take(assistant, in_stream=False)

    def take_event(self, event: Event) -> Message | None:
        """Process a ``chat_messages`` event, and return the snapshot to deliver, if any."""
        data: Mapping[str, Any] = event["data"]
        fields = event.get("fields")
        message_id = data.get("id")
        live = self.growing = self._live.get(message_id) if isinstance(message_id, str) else None
        if live is not None and not fields and (grown := live.take_growth(data)) is not None:
            return grown
        if fields:
            known = live.whole if live is not None else None
            if known is None:
                self.missing = True
                return None
            data = merged(decoded(known), data, fields)
        message = structure(data, Message)
        if fields and "content" not in fields and live is not None and live.current is not None:
            if message.done:
                self._said_final[message.id] = message
                self.missing = True  # its text may have grown since it was last sent whole
                return None
            message = attrs.evolve(message, content=live.current.content)  # the whole form may be behind the deltas
        return self.take(message, in_stream=True)

    def take(self, message: Message, *, in_stream: bool) -> Message | None:
        """Process a whole message of the chat, and return the snapshot to deliver, if any."""
        if not self.of_this_chat(message.chat_id):
            return None
        if message.role == Role.USER and message.id == self._run.user_message_id:
            self._take_user_message(message)
        elif message.role == Role.USER:
            self._note_next(message)
        if message.role != Role.ASSISTANT:
            return None
        if not self._belongs(message):
            self._others[message.id] = None
            return None
        self._run.own(message.run_id)
        self._run.dequeued()
        live = self._live.get(message.id)
        if live is None:
            live = self._live[message.id] = self._unknown.pop(message.id, LiveMessage())
        live.whole = None if message.done else message._raw
        if message.tool_calls:
            message = self._corrected(message)
        return live.take_whole(message, in_stream=in_stream)

    def take_said_final(self) -> list[Message]:
        """Accept the messages that were reported as final and were not sent whole, and return their snapshots."""
        said, self._said_final = self._said_final, {}
        snapshots = []
        for message in said.values():
            current = self._live[message.id].current
            complete = attrs.evolve(message, content=current.content if current is not None else message.content)
            snapshot = self.take(complete, in_stream=False)
            if snapshot is not None:
                snapshots.append(snapshot)
        return snapshots

    def take_delta(self, data: Mapping[str, Any]) -> Message | None:
        """Process a ``delta`` event, and return the snapshot to deliver, if any."""
        message_id, delta, seq = data.get("resource_id"), data.get("delta"), data.get("seq")
        if not isinstance(message_id, str) or not message_id or not isinstance(delta, dict):
            return None  # without a message's id it cannot be used; the official SDKs ignore it too
        live = self._live.get(message_id)
        if live is None:
            if message_id in self._earlier or message_id in self._others:
                return None
            live = self._keep_unknown(message_id)
        self.growing = live
        snapshot = live.take_delta(delta, seq if type(seq) is int else None)
        if snapshot is None and message_id in self._live and live.needs_whole:
            self.missing = True
        return snapshot

    def distrust(self) -> None:
        """Ignore updates of single fields until each message is sent whole again, because an event was missed."""
        for live in self._live.values():
            live.whole = None

    def reconnected(self) -> None:
        """Note that the stream was lost and opened again."""
        self.distrust()
        for live in (*self._live.values(), *self._unknown.values()):
            live.reconnected()

    def amend_calls(self) -> None:
        """Update the tool calls of all messages, because one of them was answered."""
        for live in self._live.values():
            live.amend(self._corrected)

    def of_this_chat(self, chat_id: object) -> bool:
        """Whether an id is that of this chat; it may be in the short form that the JavaScript SDK accepts."""
        if not isinstance(chat_id, str) or not chat_id or self.chat_id is None:
            return True
        return chat_id.startswith(self.chat_id) or self.chat_id.startswith(chat_id)

    def begins_after(self, message: Mapping[str, Any]) -> bool:
        """Whether a message in wire form belongs to an earlier turn, as then all messages before it do."""
        order = message.get("order")
        return message.get("id") in self._earlier or (
            self.after is not None and isinstance(order, int) and 0 < order <= self.after
        )

    @property
    def current(self) -> list[Message]:
        """The messages as far as they are known."""
        return [message for live in self._live.values() if (message := live.current) is not None]

    @property
    def last(self) -> Message | None:
        """The last message in the order of the chat."""
        # Reversed, so that of messages without an order the one that arrived last is returned.
        return max(reversed(self.current), key=lambda message: message.order, default=None)

    @property
    def unordered_ids(self) -> set[str]:
        """Ids of the messages without an order, for the turns that follow."""
        return self._earlier.keys() | {message.id for message in self.current if message.order <= 0}

    @property
    def last_order(self) -> int | None:
        """The ``order`` of the last message, or None if it is not known."""
        return max([*(message.order for message in self.current), self.after or 0]) or None

    @property
    def overtaken(self) -> bool:
        """Whether the chat has a later message from the user."""
        return self._until is not None

    def _note_next(self, message: Message) -> None:
        """Note another message from the user: if it comes after the turn's own and has a turn, it ends this one."""
        known = self._run.user_message_id and self.after is not None and has_turn(message)
        if self._run.queued:
            return  # its turn comes before this one
        if known and (self.after or 0) < message.order < (self._until or message.order + 1):
            self._until = message.order

    def look_for_own(self, read: Iterable[Message]) -> None:
        """Look for the user's queued message in the chat; one that has disappeared was withdrawn."""
        is_there = any(message.id == self._run.user_message_id for message in read)
        self.withdrawn = self.withdrawn or (self.seen_own and not is_there)

    def _take_user_message(self, message: Message) -> None:
        self.seen_own = True
        if message.status in {MessageStatus.CANCELLED, MessageStatus.FAILED}:
            self.withdrawn = self._run.queued
        elif message.status != MessageStatus.QUEUED and self._run.queued:
            self._run.dequeued()
            self.after = message.order or self.after  # it may have moved behind the turns it waited for

    def _keep_unknown(self, message_id: str) -> LiveMessage:
        """Return where to keep the deltas of a message that is not known yet, of a bounded number of messages."""
        live = self._unknown.get(message_id)
        if live is None:
            if len(self._unknown) >= _MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            live = self._unknown[message_id] = LiveMessage()
            self.missing = True
        return live

    def _belongs(self, message: Message) -> bool:
        """Whether an assistant message belongs to this turn."""
        if message.id == self._named or message.id in self._live:
            return True
        if message.id in self._earlier or self._run.is_foreign(message.run_id):
            return False
        if self._run.queued and (not message.run_id or message.run_id != self._run.run.id):
            # Most likely it belongs to a turn before; if this turn has begun unnoticed, a read of the chat will tell.
            behind = self.after is None or message.order > self.after
            self.missing = self.missing or (behind and message.id not in self._others)
            return False
        if self._until is not None and message.order > self._until:
            return False
        if self._new_chat or (message.run_id and message.run_id == self._run.run.id):
            return True
        if self.after is not None and message.order > 0:
            return message.order > self.after
        if self._since is not None and message.created_at is not None:
            return message.created_at >= self._since
        return True

"""The assistant messages of one turn: which ones they are, and what each has come to.

A chat's stream carries all messages of the chat, replayed ones of earlier turns too. A message is this turn's when the
answer to the post names it, when it is of the turn's run, or when it stands behind the user's message in the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from inferencesh._text import decoded
from inferencesh._types.codec import structure
from inferencesh.models import Message, MessageStatus, Role

from .message import LiveMessage
from .run import RunTracker
from .wire import Event

__all__ = ["Replies"]

_MOST_UNKNOWN = 16  # messages of which deltas came first, kept at the most


class Replies:
    """The assistant messages of one turn.

    Args:
        chat_id: The chat's id, or None where the turn begins a new chat.
        run: The turn's run.
        corrected: Puts the calls of a message right where they were settled here since the server wrote it.
        after: The place in the chat (``order``) of the last message before the turn, or None when that is not known.
        earlier: Ids of messages that are known to be of earlier turns.
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
        self.withdrawn = False  # whether the user's message was taken back before its turn came
        self.seen_own = False  # whether the user's message was seen in the chat
        self.missing = False  # whether there is something that only a re-read can tell
        self._said_final: dict[str, Message] = {}  # said to be final, while their content may not be complete
        self._until: int | None = None  # the place of the user's next message, with which another turn begins
        self._run = run
        self._corrected = corrected
        self._new_chat = chat_id is None
        self._earlier = set(earlier)
        self._others: set[str] = set()  # ids that were seen to be of other turns
        self._named: set[str] = set()  # ids that the answer to the post named
        self._since = ""  # when the user's message was created; tells old messages apart where nothing else does
        self._live: dict[str, LiveMessage] = {}
        self._unknown: dict[str, LiveMessage] = {}  # of these only deltas have come yet
        self.growing: LiveMessage | None = None  # the one that the last event was about

    def begin(self, user: Message | None, assistant: Message | None) -> Message | None:
        """Take in what the answer to the post says; returns the snapshot if it holds more than a placeholder."""
        known = assistant or user
        if known is not None and self.chat_id is None:
            self.chat_id = known.chat_id or None
        if user is not None:
            self._since = user.created_at
            if user.order > 0:
                self.after = user.order
        if assistant is None:
            return None
        self._named.add(assistant.id)
        if assistant.order > 0 and (user is None or user.order <= 0):
            self.after = assistant.order - 1
        return self.take(assistant, in_stream=False)

    def take_event(self, event: Event) -> Message | None:
        """Take in a ``chat_messages`` event; returns the snapshot to deliver."""
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
            data = {**decoded(known), **({name: data[name] for name in fields if name in data} or data)}
        message = structure(data, Message)
        if fields and "content" not in fields and live is not None and live.current is not None:
            if message.done:
                self._said_final[message.id] = message
                self.missing = True  # its text may have grown since it was last sent, and deltas may be under way
                return None
            message = attrs.evolve(message, content=live.current.content)  # whole forms may lack what deltas brought
        return self.take(message, in_stream=True)

    def take(self, message: Message, *, in_stream: bool) -> Message | None:
        """Take in a whole message of the chat; returns the snapshot to deliver."""
        if not self.of_this_chat(message.chat_id):
            return None
        if message.role == Role.USER and message.id == self._run.user_message_id:
            self._take_user_message(message)
        elif message.role == Role.USER:
            self._note_next(message)
        if message.role != Role.ASSISTANT:
            return None
        if not self._belongs(message):
            self._others.add(message.id)
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
        """Take what was said to be final and has not come whole, now that it was asked for; returns the snapshots."""
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
        """Take in a ``delta`` event; returns the snapshot to deliver."""
        message_id, delta, seq = data.get("resource_id"), data.get("delta"), data.get("seq")
        if not isinstance(message_id, str) or not message_id or not isinstance(delta, dict):
            return None  # it names no message, so it cannot be attributed; the official SDKs drop it as well
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
        """Something was missed: updates of single fields have nothing to build on until whole forms come again."""
        for live in self._live.values():
            live.whole = None

    def reconnected(self) -> None:
        """The stream was lost and opened anew."""
        self.distrust()
        for live in (*self._live.values(), *self._unknown.values()):
            live.reconnected()

    def amend_calls(self) -> None:
        """A call was settled here: where it still waits, the server's word is outdated."""
        for live in self._live.values():
            live.amend(self._corrected)

    def of_this_chat(self, chat_id: object) -> bool:
        """Whether something is of this chat; ids may be given in their short form, as the JavaScript SDK allows."""
        if not isinstance(chat_id, str) or not chat_id or self.chat_id is None:
            return True
        return chat_id.startswith(self.chat_id) or self.chat_id.startswith(chat_id)

    def begins_after(self, message: Mapping[str, Any]) -> bool:
        """Whether a message, as the server sent it, is of an earlier turn, so that none before it is of this one."""
        order = message.get("order")
        return message.get("id") in self._earlier or (
            self.after is not None and isinstance(order, int) and 0 < order <= self.after
        )

    @property
    def current(self) -> list[Message]:
        """The messages as they are known now."""
        return [message for live in self._live.values() if (message := live.current) is not None]

    @property
    def last(self) -> Message | None:
        """The last of them in the chat's order."""
        # Reversed: of messages without a place the one that came last is the last.
        return max(reversed(self.current), key=lambda message: message.order, default=None)

    @property
    def unordered_ids(self) -> set[str]:
        """Ids of messages so far that have no place in the chat's order, for the turns that follow."""
        return self._earlier | {message.id for message in self.current if message.order <= 0}

    @property
    def last_order(self) -> int | None:
        """The place of the last message in the chat, or None when that is not known."""
        return max([*(message.order for message in self.current), self.after or 0]) or None

    @property
    def overtaken(self) -> bool:
        """Whether the chat has gone on to another message of the user's."""
        return self._until is not None

    def _note_next(self, message: Message) -> None:
        """Another message of the user's: if it stands behind the turn's own, and has its turn, it ends this one."""
        has_turn = message.status not in {MessageStatus.QUEUED, MessageStatus.CANCELLED}  # the latter was withdrawn
        known = self._run.user_message_id and self.after is not None and has_turn
        if self._run.queued:
            return  # it has its turn before
        if known and (self.after or 0) < message.order < (self._until or message.order + 1):
            self._until = message.order

    def look_for_own(self, read: Iterable[Message]) -> None:
        """Look for the user's queued message in the chat as it was read; one that has vanished was withdrawn."""
        is_there = any(message.id == self._run.user_message_id for message in read)
        self.withdrawn = self.withdrawn or (self.seen_own and not is_there)

    def _take_user_message(self, message: Message) -> None:
        self.seen_own = True
        if message.status in {MessageStatus.CANCELLED, MessageStatus.FAILED}:
            self.withdrawn = self._run.queued
        elif message.status != MessageStatus.QUEUED and self._run.queued:
            self._run.dequeued()
            self.after = message.order or self.after  # its place may be another, behind the turns it waited for

    def _keep_unknown(self, message_id: str) -> LiveMessage:
        """Deltas of a message that is not known yet are kept until it is; of a bounded number of messages."""
        live = self._unknown.get(message_id)
        if live is None:
            if len(self._unknown) >= _MOST_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            live = self._unknown[message_id] = LiveMessage()
            self.missing = True
        return live

    def _belongs(self, message: Message) -> bool:
        """Whether an assistant message is of this turn."""
        if message.id in self._named or message.id in self._live:
            return True
        if message.id in self._earlier or self._run.is_foreign(message.run_id):
            return False
        if self._run.queued and (not message.run_id or message.run_id != self._run.run.id):
            # Most likely of a turn that the message waits for; if its own turn has come unnoticed, a re-read tells.
            behind = self.after is None or message.order > self.after
            self.missing = self.missing or (behind and message.id not in self._others)
            return False
        if self._until is not None and message.order > self._until:
            return False
        if self._new_chat or (message.run_id and message.run_id == self._run.run.id):
            return True
        if self.after is not None and message.order > 0:
            return message.order > self.after
        if self._since and message.created_at:
            return message.created_at >= self._since
        return True

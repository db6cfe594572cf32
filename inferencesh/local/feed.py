"""The events of a chat, delivered to any number of readers.

However slowly a reader reads, what is kept for it is bounded: an unread object is replaced by its newer version, and
unread deltas are limited to ``DELTA_BACKLOG`` bytes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from inferencesh._text import encode_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from .records import Published, Recorder, StoredMessage

__all__ = ["Feed", "Frame", "Subscription", "Updates"]

Updates: TypeAlias = Literal["snapshots", "deltas", "both"]

DELTA_BACKLOG = 256 * 1024
"""Bytes of unread deltas kept for one reader before it receives whole messages instead."""

_CHAT_KEY = "chat"


@attrs.frozen
class Frame:
    """One event, encoded once for all readers. ``message`` is set if the event is a whole message."""

    event: Literal["chats", "tasks", "agent_runs", "chat_messages", "delta"]
    data: bytes
    message: StoredMessage | None = None


class Subscription:
    """The queue of events for one reader; used by one task.

    A whole object replaces an unread older version of itself and goes to the end of the queue, so that a reader that
    starts in the middle of a message receives the whole message and then the deltas that follow. A reader with more
    than ``DELTA_BACKLOG`` bytes of unread deltas receives that message whole from then on, and so never has to deal
    with a gap in ``seq``.

    Args:
        updates: Whether the reader receives whole messages, deltas or both while a message grows.
        stored: Waits until everything published so far was stored; None if nothing is stored.

    Attributes:
        cut: Whether the stream is to end like a broken connection.
    """

    def __init__(self, updates: Updates, stored: Callable[[], Awaitable[None]] | None = None) -> None:
        self._updates = updates
        self._stored = stored
        self._frames: dict[str, Frame] = {}
        self._deltas: dict[str, list[str]] = {}
        self._delta_bytes = 0
        self._whole: set[str] = set()
        self._ready = asyncio.Event()
        self._closed = False
        self.cut = False

    @property
    def drained(self) -> bool:
        """Whether the queue is empty."""
        return not self._frames

    def put(self, key: str, frame: Frame) -> None:
        """Append the newest version of an object, and drop an unread older one."""
        self._frames.pop(key, None)
        self._frames[key] = frame
        self._ready.set()

    def put_delta(self, message: StoredMessage, frame: Frame) -> None:
        """Append the next delta of a message; if too many are unread, drop them and switch to whole messages."""
        if self._delta_bytes and self._delta_bytes + len(frame.data) > DELTA_BACKLOG:
            for key in self._deltas.pop(message.id, ()):
                self._delta_bytes -= len(self._frames.pop(key).data)
            self._whole.add(message.id)
            return
        key = f"{message.id}:{message.seq}"
        self._deltas.setdefault(message.id, []).append(key)
        self._delta_bytes += len(frame.data)
        self.put(key, frame)

    def wants_delta(self, message: StoredMessage) -> bool:
        """Whether the reader receives the deltas of this message."""
        return self._updates != "snapshots" and message.id not in self._whole

    def wants_snapshot(self, message: StoredMessage) -> bool:
        """Whether the reader receives this message whole whenever it grows."""
        return self._updates != "deltas" or message.id in self._whole

    async def take(self) -> list[Frame] | None:
        """Wait for events and until their content is stored; return all, oldest first, or None after the end."""
        await self._ready.wait()
        if self._stored is not None:
            await self._stored()
        frames = list(self._frames.values())
        self._frames.clear()
        self._deltas.clear()
        self._delta_bytes = 0
        if self._closed:
            return frames or None
        self._ready.clear()
        return frames

    def close(self, *, cut: bool = False) -> None:
        """End the subscription after the queued events; ``cut`` makes it end like a broken connection."""
        self._closed, self.cut = True, cut
        self._ready.set()


class Feed:
    """Publishes the changes of one chat or task to its subscriptions, and stores what is published as a whole.

    Args:
        recorder: Stores the records; None if the runtime has no database.
        owner: The event with which the owner itself, a chat or a task, is published.
    """

    def __init__(self, recorder: Recorder | None = None, owner: Literal["chats", "tasks"] = "chats") -> None:
        self._recorder = recorder
        self._owner: Literal["chats", "tasks"] = owner
        self._subscriptions: set[Subscription] = set()

    def subscribe(self, updates: Updates, chat: Published, replay: Iterable[StoredMessage]) -> Subscription:
        """Return a new subscription, which begins with the chat or task and the messages of ``replay``."""
        stored = None if self._recorder is None else partial(self._recorder.drain, chat.id)
        subscription = Subscription(updates, stored)
        subscription.put(_CHAT_KEY, _frame(self._owner, chat))
        for message in replay:
            subscription.put(message.id, _message_frame(message))
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove the subscription of a reader that has left."""
        self._subscriptions.discard(subscription)

    def publish_chat(self, chat: Published) -> None:
        """Publish the state of the chat or task."""
        self._note(chat)
        if self._subscriptions:
            self._put(_CHAT_KEY, _frame(self._owner, chat))

    def publish_run(self, run: Published) -> None:
        """Publish a run's state."""
        self._note(run)
        if self._subscriptions:
            self._put(run.id, _frame("agent_runs", run))

    def publish_message(self, message: StoredMessage) -> None:
        """Publish a whole message: it is new, has ended, or its tool calls changed."""
        self._note(message)
        if self._subscriptions:
            self._put(message.id, _message_frame(message))

    def publish_delta(self, message: StoredMessage, delta: Mapping[str, object], *, visible: bool = True) -> None:
        """Publish an addition to a message, as a delta, a whole message or both, depending on the reader.

        Args:
            message: The message, with the addition.
            delta: The addition in wire form.
            visible: Whether the whole message differs; it does not contain tool calls that are still incomplete.
        """
        message.seq += 1
        if not self._subscriptions:
            return
        event = {"delta": delta, "seq": message.seq, "resource_id": message.id}
        addition = Frame("delta", encode_json(event))
        whole: Frame | None = None
        for subscription in self._subscriptions:
            if subscription.wants_delta(message):
                subscription.put_delta(message, addition)
            if visible and subscription.wants_snapshot(message):
                whole = whole or _message_frame(message)
                subscription.put(message.id, whole)

    def close(self, *, cut: bool = False) -> None:
        """End all subscriptions; ``cut`` makes them end like broken connections."""
        for subscription in self._subscriptions:
            subscription.close(cut=cut)
        self._subscriptions.clear()

    def _note(self, record: Published) -> None:
        if self._recorder is not None:
            self._recorder.note(record)

    def _put(self, key: str, frame: Frame) -> None:
        for subscription in self._subscriptions:
            subscription.put(key, frame)


def _frame(event: Literal["chats", "tasks", "agent_runs"], record: Published) -> Frame:
    return Frame(event, encode_json(record.wire()))


def _message_frame(message: StoredMessage) -> Frame:
    return Frame("chat_messages", encode_json(message.wire()), message)

"""What a chat tells those who watch it, with memory bounded by live messages however slowly they read."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from inferencesh._text import encode_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._store.journal import Recorder
    from .chats import Chat, Run
    from .records import Message, Record

__all__ = ["Feed", "Frame", "Subscription", "Updates"]

Updates: TypeAlias = Literal["snapshots", "deltas", "both"]

DELTA_BACKLOG = 256 * 1024
"""Bytes of unread deltas kept for one reader before it gets the message whole instead."""


@frozen
class Frame:
    """One event, encoded once for all its readers. `message` is set when it is a whole message."""

    event: Literal["chats", "agent_runs", "chat_messages", "delta"]
    data: bytes
    message: Message | None = None


class Subscription:
    """The events one reader has yet to take; one task takes them.

    A whole object replaces the unread older version of itself and goes to the end of the line, so a
    reader that begins in the middle of a message gets it whole and the deltas that follow. A reader
    that leaves more than `DELTA_BACKLOG` of deltas unread gets that message whole from then on, so
    that it never has to guess what a gap in `seq` held.

    Args:
        updates: How it follows messages that grow.
        stored: Waits until what was published so far is stored; None when nothing is.
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
        """Whether everything published so far was taken."""
        return not self._frames

    def put(self, key: str, frame: Frame) -> None:
        """Line up the newest version of an object in place of an unread older one."""
        self._frames.pop(key, None)
        self._frames[key] = frame
        self._ready.set()

    def put_delta(self, message: Message, frame: Frame) -> None:
        """Line up the next delta of a message, or drop all unread ones when they are too many."""
        if self._delta_bytes and self._delta_bytes + len(frame.data) > DELTA_BACKLOG:
            for key in self._deltas.pop(message.id, ()):
                self._delta_bytes -= len(self._frames.pop(key).data)
            self._whole.add(message.id)
            return
        key = f"{message.id}:{message.seq}"
        self._deltas.setdefault(message.id, []).append(key)
        self._delta_bytes += len(frame.data)
        self.put(key, frame)

    def wants_delta(self, message: Message) -> bool:
        """Whether this reader follows the message by its deltas."""
        return self._updates != "snapshots" and message.id not in self._whole

    def wants_snapshot(self, message: Message) -> bool:
        """Whether this reader gets the message whole when it grows."""
        return self._updates != "deltas" or message.id in self._whole

    async def take(self) -> list[Frame] | None:
        """Wait for events, and for what they tell to be stored; take all, oldest first, or None after the end."""
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
        """End the subscription after what is already lined up; with `cut` as a broken connection would."""
        self._closed, self.cut = True, cut
        self._ready.set()


class Feed:
    """Encodes each change of a chat once and hands it to every subscription.

    What is published whole is what matters beyond the life of the process: the recorder, if any, is told of it.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self._subscriptions: set[Subscription] = set()

    def subscribe(self, updates: Updates, chat: Chat, replay: list[Message]) -> Subscription:
        """Begin with the chat as it is, then `replay`, then whatever happens from now on."""
        stored = None if self._recorder is None else partial(self._recorder.drain, chat.id)
        subscription = Subscription(updates, stored)
        subscription.put("chats", _chat_frame(chat))
        for message in replay:
            subscription.put(message.id, _whole(message))
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send nothing more to a reader that has left."""
        self._subscriptions.discard(subscription)

    def chat(self, chat: Chat) -> None:
        """Publish the chat's state."""
        self._note(chat)
        if self._subscriptions:
            self._put("chats", _chat_frame(chat))

    def run(self, run: Run) -> None:
        """Publish a run's state."""
        self._note(run)
        if self._subscriptions:
            self._put(run.id, Frame("agent_runs", encode_json(run.wire())))

    def message(self, message: Message) -> None:
        """Publish a message that is new, has ended or whose tool calls changed, whole to everybody."""
        self._note(message)
        if self._subscriptions:
            self._put(message.id, _whole(message))

    def grew(self, message: Message, delta: Mapping[str, object], *, visible: bool = True) -> None:
        """Publish what was added to a message, as each reader follows it.

        Args:
            message: The message, grown already.
            delta: What was added, in the wire's form.
            visible: Whether the whole message shows it yet; half of a call's arguments is not shown.
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
                whole = whole or _whole(message)
                subscription.put(message.id, whole)

    def close(self, *, cut: bool = False) -> None:
        """End every subscription; with `cut` as a broken connection would."""
        for subscription in self._subscriptions:
            subscription.close(cut=cut)
        self._subscriptions.clear()

    def _note(self, record: Record) -> None:
        if self._recorder is not None:
            self._recorder.note(record)

    def _put(self, key: str, frame: Frame) -> None:
        for subscription in self._subscriptions:
            subscription.put(key, frame)


def _chat_frame(chat: Chat) -> Frame:
    return Frame("chats", encode_json(chat.wire()))


def _whole(message: Message) -> Frame:
    return Frame("chat_messages", encode_json(message.wire()), message)

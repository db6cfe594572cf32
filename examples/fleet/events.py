"""Server-sent events of a turn, read from its stream in Redis, so that any front can serve any turn.

The ids of the events are those of the stream, so a browser can resume with ``Last-Event-ID`` at any front. Each front
has one Pub/Sub connection, the ``Notifier``, which reports new events. If that connection is lost, nothing is missed:
subscribers read again once it is back, and before each keep-alive comment.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import metrics
from redis.asyncio import Redis
from redis.exceptions import RedisError
from turns import Turns

__all__ = ["START", "Notifier", "follow", "is_event_id"]

START: Final = "0-0"  # an id that comes before all events of a turn
KEEP_ALIVE: Final = 10.0  # seconds of silence after which a comment is sent
RETRY_DELAY: Final = 0.5  # seconds before a lost connection is tried again
EVENT_ID: Final = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)

logger = logging.getLogger("fleet.events")


def is_event_id(text: str) -> bool:
    """Whether a text can be the id of an event."""
    return EVENT_ID.fullmatch(text) is not None


class Notifier:
    """Notifies the subscribers of one front of new messages on Redis channels, over a single connection.

    Only ``run`` uses the connection, because redis-py fails when several tasks reconnect it at the same time. A new
    subscriber publishes to the wake-up channel instead, and ``run`` then subscribes to the channels that are needed.

    Args:
        redis: A client that decodes responses.
        closing: Set when the front shuts down. All subscribers are then notified.
        wakeup_channel: The name of a channel that only this notifier uses.
    """

    def __init__(self, redis: Redis, closing: asyncio.Event, wakeup_channel: str) -> None:
        self.closing = closing
        self._redis = redis
        self._wakeup_channel = wakeup_channel
        self._pubsub = redis.pubsub()
        self._channels: set[str] = set()
        self._subscribers: dict[str, set[asyncio.Event]] = {}

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """Return an event that is set whenever a message is published to a channel."""
        changed = asyncio.Event()
        self._subscribers.setdefault(channel, set()).add(changed)
        try:
            if channel not in self._channels:
                await self._redis.publish(self._wakeup_channel, "")
            yield changed
        finally:
            self._subscribers[channel].discard(changed)
            if not self._subscribers[channel]:
                del self._subscribers[channel]  # run() unsubscribes from the channel when it wakes up next

    async def run(self) -> None:
        """Notify subscribers until cancelled."""
        watcher = asyncio.create_task(self._notify_on_close())
        try:
            while True:
                try:
                    await self._update_channels()
                    message = await self._pubsub.get_message(timeout=KEEP_ALIVE)
                except (RedisError, OSError) as error:
                    logger.warning("the connection that reports new events was lost; reconnecting: %s", error)
                    await asyncio.sleep(RETRY_DELAY)
                    continue
                if message is not None:  # also the confirmation of a subscription after a reconnect
                    self._notify(message["channel"])
        finally:
            watcher.cancel()
            await asyncio.wait({watcher})
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has no type for it

    def _notify(self, channel: str) -> None:
        for changed in self._subscribers.get(channel, ()):
            changed.set()

    async def _notify_on_close(self) -> None:
        await self.closing.wait()
        for channel in self._subscribers:
            self._notify(channel)

    async def _update_channels(self) -> None:
        """Subscribe to the channels that have subscribers, and unsubscribe from the others."""
        needed = {self._wakeup_channel, *self._subscribers}
        if new := needed - self._channels:
            await self._pubsub.subscribe(*new)
            self._channels |= new
        if unused := self._channels - needed:
            self._channels -= unused  # before the await, so that a subscriber that arrives meanwhile wakes run() up
            await self._pubsub.unsubscribe(*unused)


async def follow(turns: Turns, notifier: Notifier, turn_id: str, after: str) -> AsyncIterator[bytes]:
    """Yield the events of a turn after an id, until its final event or until this front shuts down.

    Args:
        turns: All turns.
        notifier: Reports new events.
        turn_id: The turn.
        after: The id of the last event that the browser has received.

    Returns:
        Chunks of a server-sent event stream.
    """
    yield b"retry: 500\n\n"
    metrics.BROWSERS.inc()
    try:
        async with notifier.subscribe(turns.events_key(turn_id)) as changed:
            while not notifier.closing.is_set():
                changed.clear()
                over, events = await turns.read(turn_id, after)
                for after, name, data in events:
                    yield f"id: {after}\nevent: {name}\ndata: {data}\n\n".encode()
                metrics.EVENTS.inc(len(events))
                if over:
                    return
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await changed.wait()
                except TimeoutError:
                    yield b": keep-alive\n\n"
    except (RedisError, OSError) as error:
        logger.warning("turn %s: Redis is unavailable; the browser has to reconnect: %s", turn_id, error)
    finally:
        metrics.BROWSERS.dec()

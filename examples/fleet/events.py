"""A turn's events as server-sent events, out of its stream in Redis: any front can follow any turn.

The ids of the events are those of the stream, so ``Last-Event-ID`` is the place to go on from, at whichever front. One
connection of each front, the bell, tells which turns have new events. Should it be lost, its readers look once it is
back, and they look before each comment that keeps a response alive.
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

__all__ = ["BEGINNING", "Bell", "follow", "is_event_id"]

BEGINNING: Final = "0-0"  # the id that all events of a turn are behind
KEEP_ALIVE: Final = 10.0  # seconds of silence after which a comment is sent
RETRY: Final = 0.5  # seconds until a lost connection is tried again
EVENT_ID: Final = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)

logger = logging.getLogger("fleet.events")


def is_event_id(text: str) -> bool:
    """Whether a text can be the id of an event."""
    return EVENT_ID.fullmatch(text) is not None


class Bell:
    """Tells readers that there is something new, over one connection for all readers of a front.

    Only ``listen`` uses the connection, for redis-py fails when several tasks make it again at once. Readers wake it up
    through a channel of its own.

    Args:
        redis: A client that decodes responses.
        closing: Set when the front is told to end. All readers are told of it.
        own: The name of the channel of this bell.
    """

    def __init__(self, redis: Redis, closing: asyncio.Event, own: str) -> None:
        self.closing = closing
        self._redis = redis
        self._own = own
        self._channels = redis.pubsub()
        self._subscribed: set[str] = set()
        self._readers: dict[str, set[asyncio.Event]] = {}

    @asynccontextmanager
    async def heard(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """Return an event that is set whenever something was announced on a channel."""
        rung = asyncio.Event()
        self._readers.setdefault(channel, set()).add(rung)
        try:
            if channel not in self._subscribed:
                await self._redis.publish(self._own, "")
            yield rung
        finally:
            self._readers[channel].discard(rung)
            if not self._readers[channel]:
                del self._readers[channel]  # it is listened to until the next time that somebody comes

    async def listen(self) -> None:
        """Listen until cancelled."""
        closed = asyncio.create_task(self._ring_at_the_end())
        try:
            while True:
                try:
                    await self._subscribe()
                    message = await self._channels.get_message(timeout=KEEP_ALIVE)
                except (RedisError, OSError) as error:
                    logger.warning("new events cannot be heard of, trying again: %s", error)
                    await asyncio.sleep(RETRY)
                    continue
                if message is not None:  # also the confirmation of a subscription that was made again
                    self._ring(message["channel"])
        finally:
            closed.cancel()
            await asyncio.wait({closed})
            await self._channels.aclose()  # type: ignore[no-untyped-call]  # redis-py has no type for it

    def _ring(self, channel: str) -> None:
        for rung in self._readers.get(channel, ()):
            rung.set()

    async def _ring_at_the_end(self) -> None:
        await self.closing.wait()
        for channel in self._readers:
            self._ring(channel)

    async def _subscribe(self) -> None:
        """Listen to the channels that have readers, and no longer to others."""
        wanted = {self._own, *self._readers}
        if new := wanted - self._subscribed:
            await self._channels.subscribe(*new)
            self._subscribed |= new
        if old := self._subscribed - wanted:
            self._subscribed -= old  # first: whoever comes meanwhile must wake this up
            await self._channels.unsubscribe(*old)


async def follow(turns: Turns, bell: Bell, turn_id: str, after: str) -> AsyncIterator[bytes]:
    """Yield a turn's events behind an id, until its last one, or until this front is told to end.

    Args:
        turns: All turns.
        bell: What tells of new events.
        turn_id: The turn.
        after: The id of the last event that the browser has.
    """
    yield b"retry: 500\n\n"
    metrics.BROWSERS.inc()
    try:
        async with bell.heard(turns.events_key(turn_id)) as rung:
            while not bell.closing.is_set():
                rung.clear()
                over, events = await turns.read(turn_id, after)
                for after, name, data in events:
                    yield f"id: {after}\nevent: {name}\ndata: {data}\n\n".encode()
                metrics.EVENTS.inc(len(events))
                if over:
                    return
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await rung.wait()
                except TimeoutError:
                    yield b": keep-alive\n\n"
    except (RedisError, OSError) as error:
        logger.warning("turn %s: a browser has to come again, since Redis is away: %s", turn_id, error)
    finally:
        metrics.BROWSERS.dec()

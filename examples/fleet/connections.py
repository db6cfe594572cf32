"""Connections to Redis that lose no cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

__all__ = ["create_client"]

CONNECTIONS: Final = 32  # of one process to Redis; a command takes less than a millisecond


class CancellableConnection(Connection):
    """A connection whose commands can be cancelled while they are sent.

    redis-py sends inside ``asyncio.wait_for``, which in Python 3.11 swallows a cancellation that comes just when the
    bytes have been sent. The task would go on, and whoever has cancelled it would wait for it in vain.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001 - as inherited
        """Send a command."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().send_packed_command(command, check_health)
        if task and task.cancelling() > before:
            await self.disconnect(nowait=True)  # since nobody is going to read the response
            raise asyncio.CancelledError


def create_client(url: str) -> Redis:
    """Return a client whose commands are sent again when a connection was lost; it has any number of callers."""
    retry = Retry(ExponentialBackoff(cap=0.4, base=0.05), retries=3)
    pool = BlockingConnectionPool.from_url(
        url,
        connection_class=CancellableConnection,
        max_connections=CONNECTIONS,
        decode_responses=True,
        retry=retry,
    )
    return Redis.from_pool(pool)

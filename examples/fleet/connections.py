"""Connections to Redis on which commands can be cancelled safely."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["create_client"]

CONNECTIONS: Final = 32  # per process; a command takes less than a millisecond


class CancellableConnection(Connection):
    """A connection on which a command can be cancelled while it is being sent.

    redis-py sends inside ``asyncio.wait_for``, which in Python 3.11 swallows a cancellation that arrives just as the
    bytes have been sent. The task would then keep running, and whoever cancelled it would wait for it forever.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001 - as inherited
        """Send a command."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:  # from uvloop, when the connection was just lost
            raise RedisConnectionError(str(error)) from error
        if task and task.cancelling() > before:
            await self.disconnect(nowait=True)  # because nobody will read the response
            raise asyncio.CancelledError


def create_client(url: str) -> Redis:
    """Return a client that retries commands when a connection is lost; any number of tasks may share it."""
    retry = Retry(ExponentialBackoff(cap=0.4, base=0.05), retries=3)
    pool = BlockingConnectionPool.from_url(
        url,
        connection_class=CancellableConnection,
        max_connections=CONNECTIONS,
        decode_responses=True,
        retry=retry,
    )
    return Redis.from_pool(pool)

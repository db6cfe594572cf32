"""How a front hears of new events while its connection to Redis is lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.chaos.processes import ROOT
from tests.redis_server import RedisServer

from .processes import EXAMPLE

pytestmark = pytest.mark.redis

# Redis closes the connection again and again, while readers come and go, some of them for channels of others.
PROGRAM = """
import asyncio
import sys

from redis.asyncio import Redis

from events import Bell

ROUNDS, READERS = 12, 8


async def hear(bell, redis, channel):
    async with bell.heard(channel) as rung:
        await redis.publish(channel, "something new")
        async with asyncio.timeout(5):
            await rung.wait()


async def main():
    async with Redis.from_url(sys.argv[1], decode_responses=True) as redis:
        bell = Bell(redis, asyncio.Event(), "bell")
        listening = asyncio.create_task(bell.listen())
        await hear(bell, redis, "first")
        for number in range(ROUNDS):
            await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.001 * (number % 5))
            await asyncio.gather(*(hear(bell, redis, f"{number}-{reader // 2}") for reader in range(READERS)))
        assert not listening.done(), listening
        listening.cancel()
        await asyncio.wait({listening})


asyncio.run(main())
print("all were heard")
"""


def test_readers_that_come_while_the_connection_is_made_again_hear_of_everything(redis_server: RedisServer) -> None:
    """None of them gets an error, and none waits in vain."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(ROOT)])}
    command = [sys.executable, "-c", PROGRAM, redis_server.url]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert run.stdout == "all were heard\n", run.stderr

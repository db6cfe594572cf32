"""Connections to Redis that get lost, and commands that are cancelled."""

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

from connecting import connected
from events import Bell

ROUNDS, READERS = 12, 8


async def hear(bell, redis, channel):
    async with bell.heard(channel) as rung:
        await redis.publish(channel, "something new")
        async with asyncio.timeout(5):
            await rung.wait()


async def main():
    async with connected(sys.argv[1]) as redis:
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

# A command is cancelled after each number of steps of the event loop, over a connection that exists.
CANCELLED = """
import asyncio
import sys

from connecting import connected


async def main():
    async with connected(sys.argv[1]) as redis:
        for steps in range(40):
            await redis.ping()
            command = asyncio.create_task(redis.ping())
            for _ in range(steps):
                await asyncio.sleep(0)
            if command.cancel():
                await asyncio.wait({command})
                assert command.cancelled(), steps
        assert await redis.ping()


asyncio.run(main())
print("all were cancelled")
"""


def test_readers_that_come_while_the_connection_is_made_again_hear_of_everything(redis_server: RedisServer) -> None:
    """None of them gets an error, and none waits in vain."""
    assert output(PROGRAM, redis_server) == "all were heard\n"


def test_a_command_that_is_cancelled_ends_at_whichever_step_it_is(redis_server: RedisServer) -> None:
    """Also while it is sent, where asyncio.wait_for of Python 3.11 swallows the cancellation."""
    assert output(CANCELLED, redis_server) == "all were cancelled\n"


def output(program: str, server: RedisServer) -> str:
    """Return what a program prints that can import the example's modules."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(ROOT)])}
    command = [sys.executable, "-W", "error", "-c", program, server.url]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    return run.stdout or run.stderr

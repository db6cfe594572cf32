"""Lost connections to Redis, and cancelled commands."""

from __future__ import annotations

import os

import pytest

from tests.command_line import ROOT, run_program
from tests.redis_server import RedisServer

from .processes import EXAMPLE

pytestmark = pytest.mark.redis

# Redis closes the connection repeatedly while subscribers come and go, in pairs that share a channel.
NOTIFIER = """
import asyncio
import sys

from connections import create_client
from events import Notifier

ROUNDS, SUBSCRIBERS = 12, 8


async def subscribe(notifier, redis, channel):
    async with notifier.subscribe(channel) as changed:
        await redis.publish(channel, "new")
        async with asyncio.timeout(5):
            await changed.wait()


async def main():
    async with create_client(sys.argv[1]) as redis:
        notifier = Notifier(redis, asyncio.Event(), "notifier")
        running = asyncio.create_task(notifier.run())
        await subscribe(notifier, redis, "first")
        for number in range(ROUNDS):
            await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.001 * (number % 5))
            channels = [f"{number}-{subscriber // 2}" for subscriber in range(SUBSCRIBERS)]
            await asyncio.gather(*(subscribe(notifier, redis, channel) for channel in channels))
        assert not running.done(), running
        running.cancel()
        await asyncio.wait({running})


asyncio.run(main())
print("all subscribers were notified")
"""

# Cancels a command on an open connection after 0, 1, 2, ... iterations of the event loop.
CANCELLED = """
import asyncio
import sys

from connections import create_client


async def main():
    async with create_client(sys.argv[1]) as redis:
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
print("all commands were cancelled")
"""

# Loses the connection just before a command is written to it, on uvloop, on which web servers run.
LOST = """
import asyncio
import sys

import uvloop
from connections import create_client
from tests.redis_server import lose_before_next_command


async def main():
    async with create_client(sys.argv[1]) as redis:
        await redis.ping()
        lose_before_next_command()
        print(await redis.ping())


uvloop.run(main())
"""


def test_subscribers_are_notified_after_a_reconnect(redis_server: RedisServer) -> None:
    """None of them gets an error or misses a message."""
    assert output(NOTIFIER, redis_server) == "all subscribers were notified\n"


def test_a_command_can_be_cancelled_at_any_step(redis_server: RedisServer) -> None:
    """Even while it is being sent, when asyncio.wait_for of Python 3.11 swallows the cancellation."""
    assert output(CANCELLED, redis_server) == "all commands were cancelled\n"


def test_a_command_is_repeated_if_uvloop_reports_a_lost_connection(redis_server: RedisServer) -> None:
    """As a RuntimeError, which redis-py does not treat as a lost connection."""
    assert output(LOST, redis_server) == "True\n"


def output(program: str, server: RedisServer) -> str:
    """Return the output of a program that can import the modules of the example."""
    run = run_program(program, server.url, PYTHONPATH=os.pathsep.join([str(EXAMPLE), str(ROOT)]))
    return run.stdout or run.stderr

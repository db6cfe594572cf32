"""Browsers that follow turns at a front of the fleet example: ``python -m benchmarks.fleet_browsers JOB``.

This process also writes the turns to Redis, as a worker of the example would, so that only the front is measured.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import orjson
from redis.asyncio import BlockingConnectionPool, Redis

from .payloads import sample_text

__all__ = ["EXAMPLE", "BrowserJob", "DeliveryResult"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "fleet"
CONNECTIONS = 50
LENGTH = 1000  # characters of a snapshot's text
CONNECT_BATCH = 50  # browsers that connect at once


@attrs.frozen
class BrowserJob:
    """The job of the browsers.

    Attributes:
        address: The address of the front.
        redis: The address of Redis.
        browsers: The number of browsers, each with its own turn.
        events: The number of snapshots that each of them receives.
        rate: Snapshots per second and turn.
    """

    address: str
    redis: str
    browsers: int
    events: int
    rate: float


@attrs.frozen
class DeliveryResult:
    """The result of the browsers.

    Attributes:
        browsers: The number of browsers that received the final event.
        snapshots: The number of snapshots that all of them received.
        seconds: The duration in seconds.
    """

    browsers: int
    snapshots: int
    seconds: float


class Turns:
    """The turns in Redis that the browsers follow.

    Args:
        job: The job of the browsers.
    """

    def __init__(self, job: BrowserJob) -> None:
        sys.path.insert(0, str(EXAMPLE))
        self._types: Any = importlib.import_module("turns")
        self._settings: Any = importlib.import_module("settings").SETTINGS
        pool = BlockingConnectionPool.from_url(job.redis, max_connections=CONNECTIONS, decode_responses=True)
        self._redis = Redis(connection_pool=pool)
        self._turns: Any = self._types.Turns(self._redis, self._settings, queue="none", group="none")
        self._job = job
        self._newest: dict[str, str] = {}
        self._text = sample_text(LENGTH)

    async def begin(self) -> list[str]:
        """Write the first event of all turns."""
        ids = [f"bench{number}" for number in range(self._job.browsers)]
        fields: Any = {"tenant": "demo", "state": "running", "job": "0", "attempt": "1"}

        async def one(turn_id: str) -> None:
            await self._redis.hset(f"{self._settings.prefix}turn:{turn_id}", mapping=fields)
            await self.add(turn_id, "worker", {"worker": "bench", "attempt": 1})

        await asyncio.gather(*map(one, ids))
        return ids

    async def publish(self, ids: list[str]) -> None:
        """Write snapshots to all turns at a constant rate, evenly distributed over time."""
        loop = asyncio.get_running_loop()
        begin = loop.time()

        async def one(number: int, turn_id: str) -> None:
            for seq in range(self._job.events):
                await asyncio.sleep(begin + (seq + number / len(ids)) / self._job.rate - loop.time())
                await self.snapshot(turn_id)

        await asyncio.gather(*(one(number, turn_id) for number, turn_id in enumerate(ids)))

    async def end(self, ids: list[str]) -> None:
        """Write the final event of each turn."""
        await asyncio.gather(*(self.snapshot(turn_id, "done") for turn_id in ids))

    async def snapshot(self, turn_id: str, name: str = "message") -> None:
        """Write a snapshot that replaces the previous one."""
        data = {
            "id": "5q9d2x7w3m8k1z6v0t4p8r2n6c",
            "chat_id": "7jnx8hn08m6ysdp04bmp5xex3q",
            "role": "assistant",
            "text": self._text,
            "delta": "",
            "status": "pending",
            "done": name == "done",
            "tool_calls": [],
            "attachments": [],
            "output": None,
        }
        self._newest[turn_id] = await self.add(turn_id, name, data, replaces=self._newest.get(turn_id))

    async def add(self, turn_id: str, name: str, data: object, **options: Any) -> str:
        """Write an event."""
        id_: str = await self._turns.add(self._types.Job(turn_id, "demo"), 1, name, data, **options)
        return id_

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class Browser:
    """One browser.

    Args:
        session: The HTTP session of all browsers.
        url: The URL of the events of its turn.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.begun = asyncio.Event()
        self.snapshots = 0
        self.done = False

    async def follow(self) -> None:
        """Follow the turn to its end."""
        async with self._session.get(self._url) as answer:
            async for line in answer.content:
                if line.startswith(b"event: message"):
                    self.snapshots += 1
                elif line.startswith(b"event: worker"):
                    self.begun.set()
                elif line.startswith(b"event: done"):
                    self.done = True


async def main(job: BrowserJob) -> None:
    """Do the job, and wait for a line on stdin before each step."""
    turns, loop = Turns(job), asyncio.get_running_loop()

    async def finish_step(line: str) -> None:
        print(line, flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)

    ids = await turns.begin()
    await finish_step("begun")
    await turns.publish(ids)  # without readers
    await finish_step("published")
    timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        browsers = [Browser(session, f"{job.address}/turns/{turn_id}/events") for turn_id in ids]
        tasks = []
        for at in range(0, len(browsers), CONNECT_BATCH):
            some = browsers[at : at + CONNECT_BATCH]
            tasks += [asyncio.create_task(browser.follow()) for browser in some]
            await asyncio.gather(*(browser.begun.wait() for browser in some))
        await finish_step("open")
        before, began = sum(browser.snapshots for browser in browsers), loop.time()
        await turns.publish(ids)
        await finish_step("delivered")
        seconds = loop.time() - began
        await turns.end(ids)
        await asyncio.gather(*tasks)
    await turns.aclose()
    snapshots = sum(browser.snapshots for browser in browsers) - before
    print(orjson.dumps(attrs.asdict(DeliveryResult(sum(each.done for each in browsers), snapshots, seconds))).decode())


if __name__ == "__main__":
    asyncio.run(main(BrowserJob(**orjson.loads(sys.argv[1]))))

"""A worker process of the fleet's benchmarks: ``python -m benchmarks.fleet_worker``.

It reads jobs from stdin, one JSON object per line, and answers each with one line when it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import aiohttp
import attrs
import orjson
from redis.asyncio import BlockingConnectionPool, Redis

from inferencesh import AsyncInference, Message, RedisClaims, Timeout, tool, web

from .child import rss
from .fleet_server import TOOL, Plan

__all__ = ["HoldResult", "Job", "TakeoverTimes", "Turns"]

KEY = "inf_benchmark"
TIMEOUT = Timeout(connect=30, idle=300, total=300)
CONNECTIONS = 50  # per worker, to Redis
OPEN_BATCH = 20  # held turns that are opened concurrently
EXPIRES = 600  # seconds for which the snapshots of a turn are kept


@attrs.frozen
class Job:
    """A job of a worker.

    Attributes:
        kind: ``turns`` to run whole turns, ``held`` to open turns that wait, ``take_over`` to take such turns over.
        url: The address of the service.
        plan: The name of the plan of its turns.
        count: The number of turns.
        at_once: The number of concurrent turns.
        floor: Whether to run the turns with aiohttp and orjson only.
        redis: The address of Redis, or "" for none.
        publish: Whether each snapshot is added to a Redis Stream.
        conflate: Whether the reader of a turn gets only the newest snapshot.
        interval: Seconds that the reader waits after each snapshot, to limit the rate of published snapshots.
        claims: Whether turns and tool calls are claimed in Redis.
        lease: The duration of a lease in seconds.
        spread: Seconds over which the starts of the turns are distributed.
        hold: Seconds for which open turns are held.
        certificate: The file of the service's certificate, or "" for plain HTTP.
        prefix: The prefix of the keys in Redis.
        chats: The ids of the chats whose turns are taken over.
    """

    kind: Literal["turns", "held", "take_over"] = "turns"
    url: str = ""
    plan: str = ""
    count: int = 1
    at_once: int = 1
    floor: bool = False
    redis: str = ""
    publish: bool = False
    conflate: bool = False
    interval: float = 0.0
    claims: bool = False
    lease: float = 30.0
    spread: float = 0.0
    hold: float = 0.0
    certificate: str = ""
    prefix: str = "bench:"
    chats: Sequence[str] = ()


@attrs.frozen
class Turns:
    """The result of turns that were run to their end.

    Attributes:
        turns: The number of turns.
        snapshots: The number of snapshots that their readers received, or of stream lines for the floor.
        published: The number of published snapshots.
        wall: The duration in seconds.
        user: CPU time in user mode in seconds, of all threads.
        system: CPU time in the kernel in seconds.
    """

    turns: int
    snapshots: int
    published: int
    wall: float
    user: float
    system: float

    @property
    def cpu(self) -> float:
        """Seconds of CPU."""
        return self.user + self.system


@attrs.frozen
class HoldResult:
    """The result of turns that were held open.

    Attributes:
        streams: The number of turns.
        memory: Kilobytes per turn, beyond those of the idle worker.
        files: File descriptors, beyond those of the idle worker.
        idle: CPU seconds per second while nothing happens.
        base: Kilobytes of the idle worker.
    """

    streams: int
    memory: float
    files: int
    idle: float
    base: float


@attrs.frozen
class TakeoverTimes:
    """The result of turns that were taken over.

    Attributes:
        times: The time of each takeover by ``time.monotonic``, which is the same in all processes.
        cpu: CPU time in seconds.
    """

    times: list[float]
    cpu: float


@tool
async def lookup(key: str) -> str:
    """Look a word up.

    Args:
        key: The word.
    """
    return f"found {key}"


assert lookup.name == TOOL
AGENT: Any = {"name": "fleet", "tools": [lookup]}


def used_memory() -> int:
    """Return the resident memory in bytes, after a garbage collection and a trim of the allocator."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # only in glibc
        trim(0)
    return rss()


def files() -> int:
    """Return the number of open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


class Worker:
    """Runs jobs with clients that are created once per process."""

    def __init__(self) -> None:
        self._clients: dict[object, AsyncInference] = {}
        self._redis: dict[str, Redis] = {}
        self._session: aiohttp.ClientSession | None = None
        self._numbers = 0
        self._published = 0
        self._warmed: set[object] = set()

    async def run(self, job: Job) -> Turns | HoldResult | TakeoverTimes:
        """Run a job."""
        if job.kind == "held":
            return await self._hold(job)
        if job.kind == "take_over":
            return await self._take_over(job)
        await self._warm(job)
        gc.collect()
        return await self._turns(job)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        for redis in self._redis.values():
            await redis.aclose()
        if self._session is not None:
            await self._session.close()

    async def _warm(self, job: Job) -> None:
        """Run a turn at full speed, if none of its kind was run before."""
        kind = job.floor, job.publish, job.claims
        if kind not in self._warmed:
            self._warmed.add(kind)
            await self._turns(attrs.evolve(job, plan=Plan().name, count=1, at_once=1, interval=0))

    async def _turns(self, job: Job) -> Turns:
        """Run turns, some of them concurrently."""
        turn, left, counts = self._turn(job), iter(range(job.count)), [0]
        self._published = 0

        async def lane(number: int) -> None:
            await asyncio.sleep(job.spread * number / job.at_once)
            for _ in left:
                seen = await turn()
                counts[0] += seen

        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        async with asyncio.TaskGroup() as group:
            for number in range(job.at_once):
                group.create_task(lane(number))
        after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - wall
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        return Turns(job.count, counts[0], self._published, wall, user, system)

    def _turn(self, job: Job) -> Callable[[], Awaitable[int]]:
        """Return a function that runs one turn, checks its text, and returns the number of snapshots."""
        plan = Plan.of(job.plan)
        if job.floor:
            return lambda: self._baseline(job, plan)
        client = self._client(job)

        async def run() -> int:
            count, text, called = 0, "", False
            async for message in self._snapshots(job, client):
                text, called = message.text, bool(message.tool_calls)
                count += 1
            if (text, called) != (plan.text, plan.tool):
                raise AssertionError(f"a turn of {plan.name} ended with another text")
            return count

        return run

    async def _snapshots(self, job: Job, client: AsyncInference) -> AsyncGenerator[Message, None]:
        """Yield the snapshots of a turn, and publish each if the job says so."""
        self._numbers += 1
        key = f"{os.getpid()}-{self._numbers}"
        keys: dict[str, Any] = {"idempotency_key": key} if job.claims else {}
        stream = client.agent(AGENT).send_message("Hi", stream=True, conflate=job.conflate, **keys)
        published = 0
        async for message in stream:
            if job.publish:
                published += 1
                await self._publish(job, key, f"{stream.fencing_token or 1}-{published}", "message", message)
                if job.interval:
                    await asyncio.sleep(job.interval)
            yield message
        if job.publish:
            await self._publish(job, key, f"{stream.fencing_token or 1}-{published + 1}", "done", message)
            await self._store(job).expire(f"{job.prefix}turn:{key}", EXPIRES)

    async def _publish(self, job: Job, key: str, entry: str, event: str, message: Message) -> None:
        fields = {"event": event, "data": orjson.dumps(web.snapshot(message))}
        await self._store(job).xadd(f"{job.prefix}turn:{key}", fields, id=entry)  # type: ignore[arg-type] # bytes are fine
        self._published += 1

    async def _baseline(self, job: Job, plan: Plan) -> int:
        """Run a turn with the same requests, split its stream into lines, and decode each to a dict."""
        if self._session is None:
            timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        base, count, rest, text = f"{job.url}/{plan.name}", 0, b"", ""
        pause, lines_of_turn = plan.pause if plan.tool else 0, plan.lines
        async with self._session.post(f"{base}/agents/run", data=b"{}") as response:
            number = orjson.loads(await response.read())["data"]["user_message"]["chat_id"][1:]
        async with self._session.get(f"{base}/chats/c{number}/stream") as response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for form in map(orjson.loads, lines):
                    count += 1
                    if form["event"] == "delta":
                        text += form["data"]["delta"]["response"]
                    elif form["event"] == "chat_messages" and form["data"]["content"]:
                        text = form["data"]["content"][0]["text"]
                if count == pause:
                    body = b'{"result":"found"}'
                    async with self._session.post(f"{base}/tools/t{number}", data=body) as posted:
                        await posted.read()
                if count == lines_of_turn:
                    break
            response.close()
        if text != plan.text:
            raise AssertionError(f"a turn of {plan.name} ended with another text")
        return count

    async def _hold(self, job: Job) -> HoldResult:
        """Open turns that then wait, and measure their resources."""
        client, chats = self._client(job), []
        all_begun, opening = asyncio.Event(), asyncio.Semaphore(OPEN_BATCH)
        await self._warm(job)

        async def one() -> None:
            snapshots = self._snapshots(job, client)
            async with contextlib.aclosing(snapshots):
                async with opening:
                    message = await anext(snapshots)
                    while not message.text:
                        message = await anext(snapshots)
                chats.append(message.chat_id)
                if len(chats) == job.count:
                    all_begun.set()
                async for _ in snapshots:
                    pass

        before, open_files = used_memory(), files()
        tasks = [asyncio.create_task(one()) for _ in range(job.count)]
        waiting = asyncio.create_task(all_begun.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        memory, opened = used_memory() - before, files() - open_files
        print(orjson.dumps(chats).decode(), flush=True)
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(job.hold)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print("waited", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return HoldResult(job.count, memory / job.count / 1024, opened, cpu / wall, before / 1024)

    async def _take_over(self, job: Job) -> TakeoverTimes:
        """Take over turns concurrently, and leave each as soon as it is taken over."""
        client, times = self._client(job), []

        async def one(chat_id: str) -> None:
            async with await client.agent(AGENT, chat_id=chat_id).take_over():
                times.append(time.monotonic())

        cpu = time.process_time()
        async with asyncio.TaskGroup() as group:
            for chat_id in job.chats:
                group.create_task(one(chat_id))
        return TakeoverTimes(times, time.process_time() - cpu)

    def _client(self, job: Job) -> AsyncInference:
        """Return the client of a job, creating it if necessary."""
        kind = job.url, job.plan, job.claims, job.lease, job.prefix
        if kind not in self._clients:
            options: dict[str, Any] = {"timeout": TIMEOUT, "trust_env": False}
            if job.certificate:
                options["ssl"] = ssl.create_default_context(cafile=job.certificate)
            if job.claims:
                options["claims"] = RedisClaims(job.redis, prefix=job.prefix, lease=job.lease)
            self._clients[kind] = AsyncInference(KEY, base_url=f"{job.url}/{job.plan}", **options)
        return self._clients[kind]

    def _store(self, job: Job) -> Redis:
        if job.redis not in self._redis:
            pool = BlockingConnectionPool.from_url(job.redis, max_connections=CONNECTIONS)
            self._redis[job.redis] = Redis(connection_pool=pool)
        return self._redis[job.redis]


async def _main() -> None:
    worker, loop = Worker(), asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(orjson.dumps(attrs.asdict(await worker.run(Job(**orjson.loads(line))))).decode(), flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(_main())

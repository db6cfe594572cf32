"""Measurements of memory, each of which needs a process of its own: ``python -m benchmarks.child NAME ARGS``.

Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import aiohttp
import attrs
import orjson

from inferencesh import AsyncInference, Timeout

from .payloads import CHAT, WORKLOADS, reply_text

__all__ = ["Paced", "Slow", "rss"]

KEY = "inf_benchmark"
TIMEOUT = Timeout(connect=30, idle=60, total=120)
SPREAD = 2.0  # seconds over which the streams are started


@attrs.frozen
class Paced:
    """The result of many streams at once.

    Attributes:
        complete: The number of streams that delivered their whole reply.
        lags: Milliseconds from the server to the caller: median, 99th percentile, maximum.
        memory: Kilobytes per stream beyond the idle client, while all were open.
        cpu: Microseconds of CPU per event.
    """

    complete: int
    lags: tuple[float, float, float]
    memory: float
    cpu: float


@attrs.frozen
class Slow:
    """The result of a slow reader.

    Attributes:
        snapshots: The number of snapshots it received.
        seconds: The duration.
        cpu: Milliseconds of CPU.
        memory: The peak in megabytes beyond the idle client.
    """

    snapshots: int
    seconds: float
    cpu: float
    memory: float


def rss() -> int:
    """Return the resident memory in bytes; its peak where the system does not tell the present value."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize()


class Watch:
    """Record the lag of each token of many streams, and when all streams have received one."""

    def __init__(self, streams: int) -> None:
        self.lags = array("q")
        self.all_begun = asyncio.Event()
        self._missing = streams

    def begun(self) -> None:
        """Record that one more stream has received its first token."""
        self._missing -= 1
        if not self._missing:
            self.all_begun.set()

    def token(self, piece: str) -> None:
        """Record the lag of a token, which holds the time at which it was sent."""
        self.lags.append(time.monotonic_ns() - int(piece))


async def stream_ours(client: AsyncInference, watch: Watch, count: int) -> bool:
    """Run one turn through the client; return whether it was complete."""
    seen = 0
    async for message in client.agent("a/b").send_message("Hi", stream=True):
        if message.delta:
            watch.token(message.delta)
            seen += 1
            if seen == 1:
                watch.begun()
    return seen == count and len(message.text.split()) == count


async def stream_floor(session: aiohttp.ClientSession, url: str, watch: Watch, count: int) -> bool:
    """Run one turn with only aiohttp and orjson; return whether it was complete."""
    seen, rest = 0, b""
    async with session.post(f"{url}/agents/run", data=b"{}") as answer:
        orjson.loads(await answer.read())
    async with session.get(f"{url}/chats/{CHAT}/stream") as answer:
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for form in map(orjson.loads, lines):
                if form["event"] == "delta":
                    watch.token(form["data"]["delta"]["response"])
                    seen += 1
                    if seen == 1:
                        watch.begun()
            if lines and form["event"] == "chats" and form["data"]["status"] == "idle":
                break
        answer.close()
    return seen == count


async def many(turn: Callable[[Watch], Awaitable[bool]], streams: int, count: int) -> Paced:
    """Run turns at once, and measure memory while all are open."""
    watch = Watch(streams)
    gc.collect()
    before, cpu = rss(), time.process_time()

    async def late(delay: float) -> bool:
        await asyncio.sleep(delay)
        return await turn(watch)

    tasks = [asyncio.create_task(late(SPREAD * number / streams)) for number in range(streams)]
    await watch.all_begun.wait()
    memory = (rss() - before) / streams / 1024
    complete = sum(await asyncio.gather(*tasks))
    lags = sorted(watch.lags)
    picked = lags[len(lags) // 2], lags[len(lags) * 99 // 100], lags[-1]
    used = (time.process_time() - cpu) / (streams * count) * 1e6
    return Paced(complete, (picked[0] / 1e6, picked[1] / 1e6, picked[2] / 1e6), memory, used)


async def paced(url: str, client: str, streams: str, rate: str, count: str) -> Paced:
    """Measure many streams with tokens at a steady rate, each of which holds the time at which it was sent."""
    asked, each = int(streams), int(count)
    warm, base = f"{url}/paced,1000,3", f"{url}/paced,{rate},{count}"
    if client == "floor":
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            await stream_floor(session, warm, Watch(1), 3)
            return await many(lambda watch: stream_floor(session, base, watch, each), asked, each)
    async with AsyncInference(KEY, base_url=warm, trust_env=False) as other:
        await stream_ours(other, Watch(1), 3)
    async with AsyncInference(KEY, base_url=base, timeout=TIMEOUT, trust_env=False) as ours:
        return await many(lambda watch: stream_ours(ours, watch, each), asked, each)


async def slow(url: str, name: str, pause: str, conflate: str) -> Slow:
    """Measure a reader that pauses after each snapshot, while the server sends as fast as it can."""
    workload, peak, count = WORKLOADS[name], 0, 0
    async with AsyncInference(KEY, base_url=f"{url}/short", trust_env=False) as other:
        await other.agent("a/b").send_message("Hi")
    async with AsyncInference(KEY, base_url=f"{url}/{name}", trust_env=False) as client:
        gc.collect()
        before, cpu, wall = rss(), time.process_time(), time.perf_counter()
        stream = client.agent("a/b").send_message("Hi", stream=True, conflate=conflate == "conflate")
        async for _ in stream:
            count += 1
            peak = max(peak, rss())
            await asyncio.sleep(float(pause))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if stream.message is None or stream.message.text != reply_text(workload):
        raise AssertionError("the slow reader received another text")
    return Slow(count, wall, cpu * 1e3, max(0, peak - before) / 1e6)


PROGRAMS: dict[str, Callable[..., Coroutine[None, None, Paced | Slow]]] = {"paced": paced, "slow": slow}

if __name__ == "__main__":
    found = asyncio.run(PROGRAMS[sys.argv[1]](*sys.argv[2:]))
    print(orjson.dumps(attrs.asdict(found)).decode())

"""The whole fleet example under load, compared with the sum of the costs of its parts.

``python -m benchmarks.fleet_whole LOAD`` runs the browsers.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import aiohttp
import attrs
import orjson

from .fleet_browsers import EXAMPLE
from .fleet_context import Fleet
from .fleet_server import Plan
from .fleet_sizing import Assumptions, Costs, Sizes
from .report import Cell, Section
from .web_load import ROOT, cpu_seconds, process

__all__ = ["Load", "LoadResult", "whole"]

PLAN = Plan("deltas", 75, 1000, 15)  # a reply of 1 KB in five seconds, with a tool call
INTERVAL = 0.25  # seconds between two snapshots
WARM = 2.0  # seconds of rest after the first turns


@attrs.frozen
class Load:
    """The load of the browsers.

    Attributes:
        address: The address of the front.
        browsers: The number of browsers, each with one turn at a time.
        turns: The number of turns of each browser.
    """

    address: str
    browsers: int
    turns: int


@attrs.frozen
class LoadResult:
    """The result of the browsers.

    Attributes:
        turns: The number of turns that ended with their final event.
        snapshots: The number of snapshots of all turns.
        seconds: The duration in seconds.
        first: Average seconds until the first snapshot.
    """

    turns: int
    snapshots: int
    seconds: float
    first: float


async def chat(session: aiohttp.ClientSession, load: Load, delay: float) -> list[tuple[bool, int, float]]:
    """Send messages and follow their turns; return for each if it ended, its snapshots, and the time to the first."""
    await asyncio.sleep(delay)
    found = []
    for _ in range(load.turns):
        began, first, snapshots, done = time.monotonic(), 0.0, 0, False
        async with session.post(f"{load.address}/chat", json={"text": "Hi"}) as answer:
            turn_id = (await answer.json())["turn_id"]
        async with session.get(f"{load.address}/turns/{turn_id}/events") as answer:
            async for line in answer.content:
                if line.startswith(b"event: message"):
                    first = first or time.monotonic() - began
                    snapshots += 1
                elif line.startswith(b"event: done"):
                    done = True
        found.append((done, snapshots, first))
    return found


async def run_browsers(load: Load) -> LoadResult:
    """Run all browsers, after one turn to warm up."""
    timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await chat(session, attrs.evolve(load, turns=1), 0)
        print("warm", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        began = time.monotonic()
        spread = PLAN.events / PLAN.rate / load.browsers
        chats = await asyncio.gather(*(chat(session, load, number * spread) for number in range(load.browsers)))
        seconds = time.monotonic() - began
    turns = [turn for each in chats for turn in each]
    first = sum(turn[2] for turn in turns) / len(turns)
    return LoadResult(sum(turn[0] for turn in turns), sum(turn[1] for turn in turns), seconds, first)


@contextmanager
def running_worker_of_example(environment: dict[str, str]) -> Iterator[int]:
    """Run a worker of the example while the block runs; return its process id."""
    with subprocess.Popen([sys.executable, "worker.py"], cwd=EXAMPLE, env={**os.environ, **environment}) as worker:
        try:
            yield worker.pid
        finally:
            worker.terminate()


def whole(fleet: Fleet) -> list[Section]:
    """Run one front and one worker of the example, and compare their usage with the sum of the measured parts."""
    browsers, turns = (20, 1) if fleet.quick else (75, 3)
    fleet.redis.empty()
    environment = {
        "REDIS_URL": fleet.redis.url,
        "INFERENCE_BASE_URL": f"{fleet.server.url}/{PLAN.name}",
        "INFERENCE_API_KEY": "inf_benchmark",
        "FLEET_INTERVAL": f"{INTERVAL:g}",
        "FLEET_TENANT_LIMIT": "100000",
        "FLEET_TURNS_AT_ONCE": "1000",
        "FLEET_AGENT": "benchmarks.fleet_worker:AGENT",
        "PYTHONPATH": str(ROOT),
    }
    arguments = ("-m", "uvicorn", "front:app", "--app-dir", str(EXAMPLE), "--port", "0", "--no-access-log")
    with ExitStack() as stack:
        front, address = stack.enter_context(process(*arguments, address=r"http://[\d.:]+", **environment))
        worker = stack.enter_context(running_worker_of_example(environment))
        load = orjson.dumps(attrs.asdict(Load(address, browsers, turns))).decode()
        command = [sys.executable, "-m", "benchmarks.fleet_whole", load]
        seen = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert seen.stdin is not None
        assert seen.stdout is not None
        seen.stdout.readline()
        time.sleep(WARM)
        before, redis = (cpu_seconds(worker), cpu_seconds(front.pid)), fleet.redis.usage()
        print(file=seen.stdin, flush=True)
        got = LoadResult(**orjson.loads(seen.stdout.readline()))
        used = {
            "worker": cpu_seconds(worker) - before[0],
            "front": cpu_seconds(front.pid) - before[1],
            "Redis": fleet.redis.usage().since(redis).cpu,
        }
    all_turns = got.turns + 1  # with the first one
    kept = {
        name: sum(fleet.redis.kept(f"fleet:{name}:*").values()) / all_turns / 1024
        for name in ("turn", "chat", "claims")
    }
    fleet.redis.empty()
    if got.turns != browsers * turns:
        raise AssertionError(f"only {got.turns} of {browsers * turns} turns ended")
    return [_compared(fleet, browsers, got, used, kept)]


def _compared(
    fleet: Fleet, browsers: int, got: LoadResult, used: Mapping[str, float], kept: Mapping[str, float]
) -> Section:
    """Return the usage of the processes, the sums of the parts, and the memory of a turn in Redis."""
    published = got.snapshots / got.turns / (PLAN.events / PLAN.rate)
    assumed = Assumptions(
        streaming=1, waiting=0, words=PLAN.events, pace=PLAN.rate, tools=1, published=published, tls=0
    )
    expected: dict[str, float] = {}
    if costs := Costs.parts(fleet.figures):
        # The number of chats that start this many turns in the same time.
        chats = got.turns * PLAN.events / PLAN.rate / got.seconds
        sizes = Sizes(chats, assumed, costs)
        expected = {
            "worker": sizes.worker_cpu * got.seconds,
            "front": sizes.front_cpu * got.seconds,
            "Redis": sizes.redis_cpu * got.seconds,
        }
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            seconds,
            seconds / got.turns * 1e3,
            f"{expected[name]:.2f}" if expected else "",
            f"{seconds / expected[name]:.2f}" if expected else "",
        )
        for name, seconds in used.items()
    ]
    figures = {f"whole {name}": seconds / got.turns * 1e3 for name, seconds in used.items()}
    figures |= {f"whole {name} over expected": used[name] / value for name, value in expected.items()}
    figures |= {"whole published": published, "whole first": got.first}
    figures |= {f"whole kept {name}": size for name, size in kept.items()}
    note = (
        f"One front and one worker of examples/fleet, {browsers} browsers with {got.turns} turns in "
        f"{got.seconds:.1f} seconds: replies of {PLAN.length} characters in {PLAN.events} deltas, {PLAN.rate:g} a "
        f"second, with a tool call; {published:.1f} snapshots of each are published in a second (an interval of "
        f"{INTERVAL:g} s). All turns ended; their first text came after {got.first:.2f} seconds on average. "
        f"`expected` is what the measured parts sum up to. Redis keeps {kept['turn']:.2f} KB of each turn, "
        f"{kept['claims']:.2f} KB of its claims and {kept['chat']:.2f} KB of its chat."
    )
    columns = ("process", "CPU s", "CPU ms/turn", "expected CPU s", "measured / expected")
    return Section("The whole example", columns, rows, note, figures)


if __name__ == "__main__":
    print(orjson.dumps(attrs.asdict(asyncio.run(run_browsers(Load(**orjson.loads(sys.argv[1])))))).decode(), flush=True)

"""The faults of a run: processes that are killed, suspended or restarted, and connections that are reset."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import attrs

from .processes import Fleet, Process
from .proxy import FaultyProxy

__all__ = ["Faults", "Rates"]

_RESTART_INTERVAL = 0.5  # seconds between two checks for processes that have exited


@attrs.frozen
class Rates:
    """The frequency of each kind of fault, as the mean number of seconds between two faults, or None for never.

    Attributes:
        kill: A worker is killed and restarted.
        redis: Redis is killed and restarted with its append-only file.
        pause: A worker is suspended, mostly for longer than its lease, and resumed.
        cut: A connection of a worker to the runtime is reset.
        cut_redis: A connection of a front or a worker to Redis is reset.
        front: A front is killed and restarted.
        paused: The maximum number of seconds for which a worker is suspended; the minimum is a third of it.
        down: The maximum number of seconds until Redis is restarted.
    """

    kill: float | None = 1.0
    redis: float | None = 20.0
    pause: float | None = 5.0
    cut: float | None = 0.3
    cut_redis: float | None = 0.5
    front: float | None = 20.0
    paused: float = 6.0
    down: float = 2.0


class Faults:
    """Injects random faults into a fleet.

    Args:
        fleet: The fleet.
        runtime: The proxy for connections to the runtime.
        redis: The proxy for connections to Redis.
        rates: The frequency of each kind of fault.
        seed: The random seed.

    Attributes:
        counts: The number of faults of each kind.
    """

    def __init__(self, fleet: Fleet, runtime: FaultyProxy, redis: FaultyProxy, rates: Rates, seed: int) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._fleet = fleet
        self._runtime = runtime
        self._redis = redis
        self._rates = rates
        self._seed = seed
        self._pauses: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inject faults until the block ends; afterwards all processes run."""
        rates = self._rates
        kinds: list[tuple[str, float | None, Callable[[random.Random], Coroutine[Any, Any, None]]]] = [
            ("kill", rates.kill, self._kill),
            ("redis", rates.redis, self._restart_redis),
            ("pause", rates.pause, self._pause),
            ("cut", rates.cut, self._reset_runtime_connection),
            ("cut redis", rates.cut_redis, self._reset_redis_connection),
            ("front", rates.front, self._kill_front),
        ]
        tasks = [
            asyncio.create_task(self._repeat(name, mean, fault)) for name, mean, fault in kinds if mean is not None
        ]
        tasks.append(asyncio.create_task(self._restart_ended()))
        try:
            yield
        finally:
            tasks += self._pauses
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _repeat(
        self, name: str, mean: float, fault: Callable[[random.Random], Coroutine[Any, Any, None]]
    ) -> None:
        rng = random.Random(f"{self._seed}/{name}")
        while True:
            await asyncio.sleep(mean * rng.uniform(0.5, 1.5))
            await fault(rng)

    async def _restart_ended(self) -> None:
        """Restart processes that have exited, as those do that cannot reach Redis at startup."""
        while True:
            await asyncio.sleep(_RESTART_INTERVAL)
            for processes, start in (
                (self._fleet.workers, self._fleet.start_worker),
                (self._fleet.fronts, self._fleet.start_front),
            ):
                for number in [number for number, process in processes.items() if process.ended]:
                    start(number)
                    self.counts["ended by themselves"] += 1

    async def _kill(self, rng: random.Random) -> None:
        number = rng.choice([number for number, worker in self._fleet.workers.items() if not worker.paused])
        self._fleet.workers[number].kill()
        self._fleet.start_worker(number)
        self.counts["kills"] += 1

    async def _restart_redis(self, rng: random.Random) -> None:
        self._fleet.redis.kill()
        try:
            await asyncio.sleep(rng.uniform(0.0, self._rates.down))
        finally:
            await asyncio.shield(asyncio.to_thread(self._fleet.redis.start))
        self.counts["redis restarts"] += 1

    async def _pause(self, rng: random.Random) -> None:
        """Start to suspend a worker; several may be suspended at once, but not all."""
        running = [worker for worker in self._fleet.workers.values() if not worker.paused]
        if len(running) > 1:
            longest = self._rates.paused
            task = asyncio.create_task(self._stop(rng.choice(running), rng.uniform(longest / 3, longest)))
            self._pauses.add(task)
            task.add_done_callback(self._pauses.discard)

    async def _stop(self, worker: Process, seconds: float) -> None:
        worker.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            worker.resume()
        self.counts["pauses"] += 1

    async def _reset_runtime_connection(self, rng: random.Random) -> None:
        self.counts["connections cut"] += self._runtime.reset_one(rng)

    async def _reset_redis_connection(self, rng: random.Random) -> None:
        self.counts["connections to Redis cut"] += self._redis.reset_one(rng)

    async def _kill_front(self, rng: random.Random) -> None:
        number = rng.randrange(len(self._fleet.fronts))
        self._fleet.fronts[number].kill()
        self._fleet.start_front(number)
        self.counts["front kills"] += 1

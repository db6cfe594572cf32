"""The environment of the fleet's benchmarks: the simulated service, Redis, and workers that run jobs concurrently."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import attrs
import orjson
import trustme

from .fleet_redis import RedisUsage, running_redis
from .fleet_server import running_fleet_server
from .fleet_worker import HoldResult, Job, TakeoverTimes, Turns

__all__ = ["Fleet", "Measured", "WorkerProcess", "allow_files", "running_worker"]

MAX_FILES = 20_000
EXIT_TIMEOUT = 30.0  # seconds within which a worker must exit


def allow_files(wanted: int = MAX_FILES) -> int:
    """Raise the limit of open files for this process and its children, and return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class WorkerProcess:
    """A handle for a process of ``benchmarks.fleet_worker``.

    Args:
        process: The process.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._line()  # "ready"

    def begin(self, job: Job) -> None:
        """Start a job."""
        print(orjson.dumps(attrs.asdict(job)).decode(), file=self._stdin, flush=True)

    def wait_for_turns(self) -> Turns:
        """Wait until the turns have ended, and return the result."""
        return Turns(**orjson.loads(self._line()))

    def wait_until_open(self) -> list[str]:
        """Wait until all held turns are open, and return the ids of their chats."""
        chats: list[str] = orjson.loads(self._line())
        return chats

    def wait_for_takeovers(self) -> TakeoverTimes:
        """Wait until the turns are taken over, and return the times."""
        return TakeoverTimes(**orjson.loads(self._line()))

    def kill(self) -> float:
        """Kill the process, and return the time."""
        self._process.kill()
        self._process.wait()
        return time.monotonic()

    def wait_until_measured(self) -> None:
        """Wait until the hold time of the turns is over."""
        self._line()

    def release(self) -> HoldResult:
        """Release the held turns, and return the result."""
        print(file=self._stdin, flush=True)
        return HoldResult(**orjson.loads(self._line()))

    def _line(self) -> str:
        line = self._stdout.readline()
        if not line:
            raise AssertionError("a worker has failed; its traceback is above")
        return line


@attrs.frozen
class Measured:
    """The cost of a job.

    Attributes:
        runs: The results of the workers.
        wall: The duration of the slowest worker in seconds.
        redis: The usage of Redis.
        server: The CPU time of the service in seconds.
    """

    runs: list[Turns]
    wall: float
    redis: RedisUsage
    server: float

    @property
    def turns(self) -> int:
        """The number of turns."""
        return sum(run.turns for run in self.runs)

    @property
    def snapshots(self) -> int:
        """The number of snapshots of all turns."""
        return sum(run.snapshots for run in self.runs)

    @property
    def published(self) -> int:
        """The number of published snapshots."""
        return sum(run.published for run in self.runs)

    @property
    def cpu(self) -> float:
        """The CPU time of all workers in seconds."""
        return sum(run.cpu for run in self.runs)


class Fleet:
    """One run of the benchmarks; a context manager.

    Args:
        quick: Whether rough figures suffice.

    Attributes:
        figures: The figures measured so far, by name.
    """

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.figures: dict[str, float] = {}
        self._stack = ExitStack()
        self._workers: list[WorkerProcess] = []
        self._warmed: set[object] = set()
        self._spent = 0

    def __enter__(self) -> Self:
        allow_files()
        self.server = self._stack.enter_context(running_fleet_server())
        self.redis = self._stack.enter_context(running_redis())
        self._spent = self.server.take_stats()["cpu"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rounds(self, most: int) -> int:
        """Return the number of rounds to run."""
        return 1 if self.quick else most

    def job(self, **fields: Any) -> Job:
        """Return a job for the service and the Redis of this run."""
        return Job(**({"url": self.server.url, "redis": self.redis.url} | fields))

    def worker(self) -> WorkerProcess:
        """Start a worker, which is stopped at the end of this run."""
        return self._stack.enter_context(running_worker())

    def run(self, job: Job, workers: int = 1) -> Measured:
        """Run the same job in several workers concurrently.

        Args:
            job: The job of each.
            workers: The number of workers.
        """
        while len(self._workers) < workers:
            self._workers.append(self.worker())
        chosen = self._workers[:workers]
        before = self.redis.usage()
        self.spent()
        for worker in chosen:
            worker.begin(job)
        runs = [worker.wait_for_turns() for worker in chosen]
        redis = self.redis.usage().since(before)
        return Measured(runs, max(run.wall for run in runs), redis, self.spent())

    def warm(self, job: Job) -> None:
        """Run a job once without measuring it, if none of its kind was run before."""
        kind = job.floor, job.publish, job.claims, job.url
        if kind not in self._warmed:
            self._warmed.add(kind)
            self.run(job)
            self.redis.empty()

    def spent(self) -> float:
        """Return the CPU time of the service since the last call in seconds."""
        now = self.server.take_stats()["cpu"]
        used, self._spent = now - self._spent, now
        return used / 1e9

    def tls_server(self) -> dict[str, str]:
        """Start another instance of the service with TLS, and return the fields of a job for it."""
        home = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(home / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(home / "service.pem")
        server = self._stack.enter_context(running_fleet_server(str(home / "service.pem")))
        return {"url": server.url.replace("http:", "https:"), "certificate": str(home / "ca.pem")}


@contextmanager
def running_worker() -> Iterator[WorkerProcess]:
    """Run a worker while the block runs."""
    command = [sys.executable, "-m", "benchmarks.fleet_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield WorkerProcess(process)
            if process.poll() is None:
                process.communicate(timeout=EXIT_TIMEOUT)
        finally:
            process.kill()

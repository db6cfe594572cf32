"""Memory and CPU of a front of the fleet example, and of Redis, with browsers that follow turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import orjson

from .fleet_browsers import EXAMPLE, BrowserJob, DeliveryResult
from .fleet_context import Fleet
from .fleet_redis import RedisUsage
from .report import Cell, Section
from .web_load import cpu_seconds, memory, process

__all__ = ["fronts"]

EVENTS = 6  # snapshots sent to each browser
MAX_RECEIVING = 1000  # concurrent browsers, if they receive snapshots
RATE = 1000.0  # snapshots per second of all turns, about the capacity of one front
PREFIX = "fleet:"
SHOWN = {  # the title and scale factor of each figure
    "KB each": ("front: KB per browser", 1),
    "browsers per GB": ("front: browsers per GB", 1),
    "files": ("front: file descriptors", 1),
    "connect": ("front: CPU ms per connection", 1),
    "snapshot": ("front: CPU µs per snapshot sent", 1000),
    "keep": ("front: CPU ms per keep-alive comment", 1),
    "idle": ("front: CPU when idle, % of a core", 1),
    "write": ("Redis: CPU µs per snapshot written, without readers", 1000),
    "command": ("Redis: CPU µs per snapshot written or read, with readers", 1000),
    "reads": ("Redis: reads per snapshot sent", 1),
    "connections": ("Redis: connections", 1),
    "rate": ("snapshots/s", 1),
}
IDLE = 10.0  # seconds without events, in which each reader polls once
KEEP_ALIVE = 10.0  # seconds between two keep-alive comments of the example


class BrowserProcess:
    """A handle for the process of the browsers.

    Args:
        browsers: The process.
    """

    def __init__(self, browsers: subprocess.Popen[str]) -> None:
        assert browsers.stdin is not None
        assert browsers.stdout is not None
        self._stdin, self._stdout = browsers.stdin, browsers.stdout

    def line(self) -> str:
        """Wait until a step is done."""
        line = self._stdout.readline()
        if not line:
            raise AssertionError("the browsers have failed; their traceback is above")
        return line

    def next(self) -> None:
        """Start the next step."""
        print(file=self._stdin, flush=True)


@contextmanager
def running_browsers(job: BrowserJob) -> Iterator[BrowserProcess]:
    """Run the browsers while the block runs."""
    command = [sys.executable, "-m", "benchmarks.fleet_browsers", orjson.dumps(attrs.asdict(job)).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as browsers:
        try:
            yield BrowserProcess(browsers)
        finally:
            browsers.kill()


def fronts(fleet: Fleet) -> list[Section]:
    """Measure a front with 1,000 and 5,000 browsers, each of which follows its own turn."""
    counts = (200,) if fleet.quick else (1000, 5000)
    found = {browsers: _front(fleet, browsers) for browsers in counts}
    rows: list[tuple[Cell, ...]] = [
        (title, *(found[browsers][name] * scale if name in found[browsers] else "" for browsers in counts))
        for name, (title, scale) in SHOWN.items()
    ]
    figures = {f"front {number} {name}": value for number, each in found.items() for name, value in each.items()}
    note = (
        "One uvicorn process of examples/fleet. The turns are written by the process of the browsers, with the "
        f"example's script: snapshots of 1 KB, {RATE:,.0f} a second together. Memory is resident memory beyond that of "
        "the idle front. Idle CPU is that of open connections on which nothing is sent but comments that keep them "
        "alive."
    )
    columns = ("", *(f"{browsers:,} browsers" for browsers in counts))
    return [Section("A front", columns, rows, note, figures)]


def _front(fleet: Fleet, browsers: int) -> dict[str, float]:
    redis = fleet.redis
    redis.empty()
    environment = {"REDIS_URL": redis.url, "FLEET_PREFIX": PREFIX}
    arguments = ("-m", "uvicorn", "front:app", "--app-dir", str(EXAMPLE), "--port", "0", "--no-access-log")
    with process(*arguments, address=r"http://[\d.:]+", **environment) as (front, address):
        events = 0 if browsers > MAX_RECEIVING else EVENTS
        with running_browsers(BrowserJob(address, redis.url, browsers, events, RATE / browsers)) as browsers_process:
            browsers_process.line()
            written = _during(fleet, browsers_process)
            idle_memory, before = memory(front.pid)["VmRSS"], cpu_seconds(front.pid)
            _during(fleet, browsers_process)
            connecting, before = cpu_seconds(front.pid) - before, cpu_seconds(front.pid)
            used = memory(front.pid)["VmRSS"] - idle_memory
            files, connections = _files(front.pid), redis.connections()
            seconds = 2.0 if fleet.quick else IDLE
            time.sleep(seconds)
            idle, before = cpu_seconds(front.pid) - before, cpu_seconds(front.pid)
            delivered = _during(fleet, browsers_process)
            sending = cpu_seconds(front.pid) - before
            browsers_process.next()
            found = DeliveryResult(**orjson.loads(browsers_process.line()))
    redis.empty()
    if found.browsers != browsers:
        raise AssertionError(f"only {found.browsers} of {browsers} browsers got the last event")
    figures = {
        "KB each": used * 1024 / browsers,
        "browsers per GB": browsers * 1024 / used,
        "files": files,
        "connect": connecting / browsers * 1e3,
        "idle": idle / seconds * 100,
        "keep": idle / browsers * KEEP_ALIVE / seconds * 1e3,
        "connections": connections,
        "base": idle_memory * 1024,
    }
    if not events:
        return figures
    writes, reads = browsers * events, delivered.calls("xrange")
    return figures | {
        "snapshot": sending / found.snapshots * 1e3,
        "write": written.cpu / writes * 1e3,
        "command": delivered.cpu / (writes + reads) * 1e3,
        "delivery": delivered.cpu / (writes + reads) * reads / found.snapshots * 1e3,
        "reads": reads / found.snapshots,
        "rate": found.snapshots / found.seconds,
    }


def _during(fleet: Fleet, browsers_process: BrowserProcess) -> RedisUsage:
    """Let the browsers do their next step, and return the usage of Redis during it."""
    before = fleet.redis.usage()
    browsers_process.next()
    browsers_process.line()
    return fleet.redis.usage().since(before)


def _files(pid: int) -> int:
    """Return the number of open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))

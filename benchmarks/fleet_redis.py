"""A Redis server for benchmarks, and what it did between two looks: commands, CPU and memory."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from redis import Redis, RedisError

__all__ = ["RedisUsage", "RunningRedis", "running_redis"]

PROGRAM = "redis-server"
START_TIMEOUT = 10.0  # seconds within which the server must answer


@attrs.frozen
class RedisUsage:
    """What a server has done since it was started, or between two looks.

    Attributes:
        commands: The number of calls, by the name of the command.
        cpu: Seconds of CPU.
        received: Bytes.
        sent: Bytes.
    """

    commands: dict[str, int]
    cpu: float
    received: int
    sent: int

    def calls(self, *names: str) -> int:
        """Return how often clients have called some commands; what a script calls is counted as well."""
        return sum(self.commands.get(name, 0) for name in names)

    def since(self, before: RedisUsage) -> RedisUsage:
        """Return what was done since an earlier look."""
        counts = {name: count - before.commands.get(name, 0) for name, count in self.commands.items()}
        commands = {name: count for name, count in sorted(counts.items()) if count and name not in _OWN_COMMANDS}
        return RedisUsage(commands, self.cpu - before.cpu, self.received - before.received, self.sent - before.sent)


_OWN_COMMANDS = {"info", "ping", "memory|usage", "scan", "hello", "client|setinfo", "config|resetstat", "flushall"}


class RunningRedis:
    """A server that runs.

    Args:
        port: The port.
    """

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = Redis.from_url(self.url)

    @property
    def version(self) -> str:
        """The version of the server."""
        found: dict[str, Any] = self.client.info("server")
        return str(found["redis_version"])

    def usage(self) -> RedisUsage:
        """Return what the server has done so far."""
        found: dict[str, Any] = self.client.info("everything")
        commands = {
            name.removeprefix("cmdstat_"): value["calls"]
            for name, value in found.items()
            if name.startswith("cmdstat_")
        }
        cpu = found["used_cpu_sys"] + found["used_cpu_user"]
        return RedisUsage(commands, cpu, found["total_net_input_bytes"], found["total_net_output_bytes"])

    def memory(self) -> int:
        """Return the bytes that are in use."""
        found: dict[str, Any] = self.client.info("memory")
        used: int = found["used_memory"]
        return used

    def connections(self) -> int:
        """Return the number of clients that are connected."""
        found: dict[str, Any] = self.client.info("clients")
        connected: int = found["connected_clients"]
        return connected

    def kept(self, pattern: str = "*") -> dict[str, int]:
        """Return the bytes of all keys that match a pattern, by key."""
        keys = [key.decode() for key in self.client.scan_iter(pattern, count=1000)]
        return {key: int(self.client.memory_usage(key, samples=0) or 0) for key in keys}

    def remaining_lease(self, pattern: str) -> float:
        """Return the seconds that the last of some leases still has."""
        keys = list(self.client.scan_iter(pattern, count=1000))
        until: list[Any] = [self.client.hget(key, "until") for key in keys]
        seconds, micros = self.client.time()
        return float(max(int(each) for each in until)) / 1000 - seconds - micros / 1e6

    def empty(self) -> None:
        """Forget all keys."""
        self.client.flushall()


@contextmanager
def running_redis() -> Iterator[RunningRedis]:
    """Start a server on a free port, with its append-only file, and end it when the block is left."""
    with tempfile.TemporaryDirectory() as home:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [PROGRAM, "--port", str(port), "--dir", home, "--save", "", "--appendonly", "yes"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            running = RunningRedis(port)
            try:
                _wait(running)
                yield running
            finally:
                running.client.close()
                process.terminate()


def _wait(running: RunningRedis) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            running.client.ping()
        except RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return

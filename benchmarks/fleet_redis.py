"""A Redis server for benchmarks, with its usage: commands, CPU and memory."""

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
START_TIMEOUT = 10.0  # seconds within which the server must be ready


@attrs.frozen
class RedisUsage:
    """The usage of a server since its start, or over a period.

    Attributes:
        commands: The number of calls by command.
        cpu: CPU time in seconds.
        received: Bytes received.
        sent: Bytes sent.
    """

    commands: dict[str, int]
    cpu: float
    received: int
    sent: int

    def calls(self, *names: str) -> int:
        """Return the number of calls of some commands, including those within scripts."""
        return sum(self.commands.get(name, 0) for name in names)

    def since(self, before: RedisUsage) -> RedisUsage:
        """Return the usage since an earlier one."""
        counts = {name: count - before.commands.get(name, 0) for name, count in self.commands.items()}
        commands = {name: count for name, count in sorted(counts.items()) if count and name not in _OWN_COMMANDS}
        return RedisUsage(commands, self.cpu - before.cpu, self.received - before.received, self.sent - before.sent)


_OWN_COMMANDS = {"info", "ping", "memory|usage", "scan", "hello", "client|setinfo", "config|resetstat", "flushall"}


class RunningRedis:
    """A running server.

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
        """Return the usage so far."""
        found: dict[str, Any] = self.client.info("everything")
        commands = {
            name.removeprefix("cmdstat_"): value["calls"]
            for name, value in found.items()
            if name.startswith("cmdstat_")
        }
        cpu = found["used_cpu_sys"] + found["used_cpu_user"]
        return RedisUsage(commands, cpu, found["total_net_input_bytes"], found["total_net_output_bytes"])

    def memory(self) -> int:
        """Return the used memory in bytes."""
        found: dict[str, Any] = self.client.info("memory")
        used: int = found["used_memory"]
        return used

    def connections(self) -> int:
        """Return the number of connected clients."""
        found: dict[str, Any] = self.client.info("clients")
        connected: int = found["connected_clients"]
        return connected

    def kept(self, pattern: str = "*") -> dict[str, int]:
        """Return the memory in bytes of each key that matches a pattern."""
        keys = [key.decode() for key in self.client.scan_iter(pattern, count=1000)]
        return {key: int(self.client.memory_usage(key, samples=0) or 0) for key in keys}

    def remaining_lease(self, pattern: str) -> float:
        """Return the seconds until the last of some leases expires."""
        keys = list(self.client.scan_iter(pattern, count=1000))
        until: list[Any] = [self.client.hget(key, "until") for key in keys]
        seconds, micros = self.client.time()
        return float(max(int(each) for each in until)) / 1000 - seconds - micros / 1e6

    def empty(self) -> None:
        """Delete all keys."""
        self.client.flushall()


@contextmanager
def running_redis() -> Iterator[RunningRedis]:
    """Run a server with an append-only file on a free port while the block runs."""
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
    """Wait until a server is ready."""
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

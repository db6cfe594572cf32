"""A real redis-server for tests, which can be killed, suspended, and restarted with its data."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis.asyncio.connection import AbstractConnection

from .support import wait_until

__all__ = ["RedisServer", "free_port", "lose_before_next_command"]

PROGRAM = "/usr/bin/redis-server"
STARTS_WITHIN = 20.0  # seconds; other tests may keep the machine busy
READY = "Ready to accept connections"


class RedisServer:
    """Debian's redis-server on a free loopback port, with an append-only file; a context manager that runs it.

    Args:
        password: The password that clients need, or None.
        fsync: When the append-only file is written to disk. With ``"always"``, no acknowledged write is lost when the
            server is killed. With ``"everysec"``, acknowledged writes may be lost if the disk is slow.
    """

    def __init__(self, *, password: str | None = None, fsync: str = "always") -> None:
        self._password = password
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The URL for clients, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    @property
    def home(self) -> Path:
        """The directory of its files."""
        return self._home

    @property
    def log(self) -> str:
        """The log of all its runs so far."""
        path = self._home / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it on the same port with the same data, and wait until it is ready."""
        assert self._process is None, "it is running"
        ready = self.log.count(READY)
        process = subprocess.Popen(
            [PROGRAM, str(self._home / "redis.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._process = process
        try:
            wait_until(
                lambda: process.poll() is not None or self.log.count(READY) > ready, "Redis started", STARTS_WITHIN
            )
            assert process.poll() is None, f"Redis exited at startup:\n{self.log[-2000:]}"
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut it down and wait: connections are closed, and all data is on disk."""
        process = self._running()
        process.send_signal(signal.SIGCONT)  # a suspended process does not handle SIGTERM
        process.terminate()
        process.wait(STARTS_WITHIN)
        self._process = None

    def kill(self) -> None:
        """Kill it, as with ``kill -9``."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self, *, hard: bool = False) -> None:
        """Stop it, and start it again on the same port with its data.

        Args:
            hard: Whether to kill it instead of shutting it down.
        """
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Suspend it (SIGSTOP): connections stay open, without responses."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        assert Path(PROGRAM).exists(), f"{PROGRAM} is missing: apt-get install redis-server"
        self._home = Path(tempfile.mkdtemp(prefix="redis-"))
        try:
            self.port = free_port()
            self._configure()
            self.start()
        except BaseException:
            shutil.rmtree(self._home)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._home)

    def _configure(self) -> None:
        lines = [
            *("bind 127.0.0.1", f"port {self.port}", f'dir "{self._home}"', f'logfile "{self._home}/redis.log"'),
            *('save ""', "appendonly yes", f"appendfsync {self._fsync}", "daemonize no"),
            *([f'requirepass "{self._password}"'] if self._password else []),
        ]
        (self._home / "redis.conf").write_text("\n".join(lines) + "\n")

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it is not running"
        return self._process


def free_port() -> int:
    """Return a port that is currently unused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def lose_before_next_command() -> None:
    """Close the connection over which redis-py is about to send its next command, on uvloop."""
    send = AbstractConnection.send_packed_command

    async def send_too_late(self: Any, *arguments: Any, **options: Any) -> None:
        AbstractConnection.send_packed_command = send  # type: ignore[method-assign]  # the next one is sent in time
        transport = self._writer.transport
        transport.abort()
        while "closed=True" not in repr(transport):  # noqa: ASYNC110 - uvloop has no event for it
            await asyncio.sleep(0)
        await send(self, *arguments, **options)

    AbstractConnection.send_packed_command = send_too_late  # type: ignore[method-assign]  # see above

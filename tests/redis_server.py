"""A real redis-server for tests, which may be killed, stopped, and started again with what it has written."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from .support import wait_until

__all__ = ["RedisServer", "free_port"]

PROGRAM = "/usr/bin/redis-server"
STARTS_WITHIN = 20.0  # seconds; other tests may keep the machine busy
READY = "Ready to accept connections"


class RedisServer:
    """Debian's redis-server on a free loopback port, with an append-only file; ``with`` starts it.

    Args:
        password: What clients have to give; none is asked for without it.
        fsync: When the append-only file reaches the disk. With ``"always"`` no write that was answered is lost when the
            server is killed. With ``"everysec"`` writes that were answered while the disk was slow may be.
    """

    def __init__(self, *, password: str | None = None, fsync: str = "always") -> None:
        self._password = password
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address for clients, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process that is running."""
        return self._running().pid

    @property
    def home(self) -> Path:
        """The directory of everything it writes."""
        return self._home

    @property
    def log(self) -> str:
        """What it has said so far, in all its lives."""
        path = self._home / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, on the port and with the data that it had before, and wait until it answers."""
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
            assert process.poll() is None, f"Redis ended at its start:\n{self.log[-2000:]}"
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask it to end, and wait until it has: connections are closed, all data is on the disk."""
        process = self._running()
        process.send_signal(signal.SIGCONT)  # one that is paused could not listen
        process.terminate()
        process.wait(STARTS_WITHIN)
        self._process = None

    def kill(self) -> None:
        """End it at once, as ``kill -9`` or the kernel would."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self, *, hard: bool = False) -> None:
        """End it and start it again on the same port with its data.

        Args:
            hard: Kill it instead of asking it to end.
        """
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it (SIGSTOP): connections are kept, and nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
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
    """Return a port that nothing on this machine listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

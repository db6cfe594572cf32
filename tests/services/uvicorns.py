"""The chat service of the examples, run by uvicorn in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import wait_until

__all__ = ["Uvicorn"]

SERVICE = Path(__file__).parents[2] / "examples" / "fastapi_chat"
ADDRESS = re.compile(r"running on (http://[\d.:]+)")
STARTS_WITHIN = 30.0  # seconds; other tests may keep the machine busy


class Uvicorn:
    """The service in a process.

    Args:
        environment: Variables that lead its client to the upstream.
        workers: How many workers share its port.
        grace: Seconds that open responses have to end when it is stopped.
        port: The port to listen on; 0 picks a free one.
        app: The module and name of the app.
        directory: Where the module is.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        workers: int = 1,
        grace: int = 1,
        port: int = 0,
        app: str = "service:app",
        directory: Path = SERVICE,
    ) -> None:
        self._environment = environment
        self._workers = workers
        self._grace = grace
        self._port = port
        self._app = ("-m", "uvicorn", app, "--app-dir", str(directory))
        self.address = ""
        self.may_log_tracebacks = False

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile("ab")
        self._process = subprocess.Popen(
            [
                # With several workers uvicorn's own parent process leaves its socket to the garbage collector.
                *(sys.executable, *(("-W", "error::ResourceWarning") if self._workers == 1 else ())),
                *(*self._app, "--port", str(self._port), "--workers", str(self._workers)),
                *("--timeout-graceful-shutdown", str(self._grace)),
            ],
            env={**os.environ, "CHAT_SECRET": "of these tests", **self._environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: self._ended() or self._ready(), "the start of uvicorn", STARTS_WITHIN)
            found = ADDRESS.search(self.log)
            assert found, self.log
            self.address = found[1]
        except BaseException:
            self.kill()
            self._log.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if not self._ended():
                self.stop()
            if error is None:
                assert self.may_log_tracebacks or "Traceback" not in self.log, self.log
                assert "Warning" not in self.log, self.log
        finally:
            self.kill()
            self._log.close()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return Path(self._log.name).read_text()

    def stop(self) -> float:
        """Ask it to stop, as a deployment does, and wait for its end; returns the seconds that took."""
        started = time.monotonic()
        self._process.terminate()
        self._process.wait(self._grace + 10)
        return time.monotonic() - started

    def kill(self) -> None:
        """End it at once, workers included, as a crash would."""
        for worker in self.workers():
            os.kill(worker, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def workers(self) -> list[int]:
        """The processes that answer requests, where there are several."""
        if self._workers == 1 or self._ended():
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def _ready(self) -> bool:
        return bool(ADDRESS.search(self.log)) and self.log.count("startup complete") == self._workers

    def _ended(self) -> bool:
        return self._process.poll() is not None

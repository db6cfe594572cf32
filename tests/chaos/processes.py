"""The processes of a fleet, each in a group of its own, so that it can be killed as a whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.redis_server import RedisServer, free_port

from . import agent

__all__ = ["Fleet", "Process"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fleet"
PATIENCE = 30.0  # seconds that a process may take to end when it is asked to


class Process:
    """A program in a process group of its own.

    Args:
        command: The program and its arguments.
        log: The file that its output is added to.
        environment: More variables.
        stdout: Where its standard output goes, if not to the log.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], stdout: int | None = None
    ) -> None:
        path = os.pathsep.join([str(ROOT), str(EXAMPLE)])
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.PIPE,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )
        self.paused = False

    @property
    def ended(self) -> bool:
        """Whether its first process is over."""
        return self._process.poll() is not None

    @property
    def stdout(self) -> IO[bytes]:
        """What it prints, if that is not logged."""
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its first process, as a deployment does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def pause(self) -> None:
        """Stop all of it."""
        self.paused = True
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)
        self.paused = False

    def kill(self) -> None:
        """End all of it at once, as when its machine is gone."""
        self._signal_all(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _signal_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the group is empty
            os.killpg(self._process.pid, number)


class Fleet:
    """Redis, the embedded runtime, fronts and workers; a context manager.

    Args:
        fronts: How many fronts.
        workers: How many workers.
        pace: Seconds between the pieces of a reply.
        longest: Seconds that the slowest handler takes.
        settings: More variables of the example's processes.
    """

    def __init__(
        self, *, fronts: int, workers: int, pace: float, longest: float, settings: Mapping[str, str] | None = None
    ) -> None:
        self.redis = RedisServer()
        self.fronts: list[Process] = []
        self.workers: list[Process] = []
        self.addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(fronts)]
        self._count = workers
        self._pace = pace
        self._longest = longest
        self._settings = dict(settings or {})
        self._numbers = itertools.count(1)
        self._exits = contextlib.ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the example's processes."""
        return {
            "REDIS_URL": self.redis.url,
            "INFERENCE_BASE_URL": self._upstream,
            "INFERENCE_API_KEY": self.api_key,
            "FLEET_AGENT": f"{agent.__name__}:AGENT",
            agent.HANDLERS: str(self.handlers),
            agent.LONGEST: str(self._longest),
            **self._settings,
        }

    @property
    def handlers(self) -> Path:
        """What the handlers have written down."""
        return self.home / "handlers.jsonl"

    @property
    def posted(self) -> Path:
        """What results the runtime was sent."""
        return self.home / "posted.jsonl"

    def start_runtime(self) -> None:
        """Start the runtime, and wait for its address."""
        command = [sys.executable, "-m", "tests.chaos.runtime", str(self.posted), str(self._pace)]
        self._runtime = Process(command, self.home / "runtime.log", {}, subprocess.PIPE)
        self._exits.callback(self._runtime.kill)
        line = self._runtime.stdout.readline().decode().split()
        assert line, self.log("runtime")
        self.runtime_url, self.api_key = line

    def start_front(self, number: int) -> None:
        """Start a front, on the port that is its own; it is not waited for."""
        port = self.addresses[number].rpartition(":")[2]
        options = ["--host", "127.0.0.1", "--port", port, "--timeout-graceful-shutdown", "5", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", "front:app", "--app-dir", str(EXAMPLE), *options]
        process = Process(command, self.home / f"front-{number}.log", self._named("front"))
        self.fronts[number : number + 1] = [process]

    def start_worker(self, number: int) -> None:
        """Start a worker, in the place of the one before; it is not waited for."""
        command = [sys.executable, str(EXAMPLE / "worker.py")]
        process = Process(command, self.home / f"worker-{number}.log", self._named("worker"))
        self.workers[number : number + 1] = [process]

    def log(self, name: str) -> str:
        """Return the end of what a process has written."""
        path = self.home / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            self.home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
            exits.enter_context(self.redis)
            exits.callback(self._kill_all)
            self._exits = exits
            self.start_runtime()
            self._exits = exits.pop_all()
        return self

    def start(self, upstream: str = "") -> None:
        """Start all fronts and workers.

        Args:
            upstream: The address at which they find the runtime, if not its own.
        """
        self._upstream = upstream or self.runtime_url
        for number in range(len(self.addresses)):
            self.start_front(number)
        for number in range(self._count):
            self.start_worker(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()

    def _kill_all(self) -> None:
        for process in (*self.fronts, *self.workers):
            process.kill()

    def _named(self, kind: str) -> dict[str, str]:
        return {**self.environment, "FLEET_NAME": f"{kind}-{next(self._numbers)}"}


def wait_for_end(process: Process, patience: float = PATIENCE) -> None:
    """Block until a process that was asked to end has done so."""
    deadline = time.monotonic() + patience
    while not process.ended:
        assert time.monotonic() < deadline, "a process does not end"
        time.sleep(0.02)

"""The processes of a fleet, which can be terminated, killed, suspended and resumed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.redis_server import RedisServer, free_port
from tests.support import wait_until

from . import agent, fork_server, runtime

__all__ = ["Fleet", "Process"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fleet"
_ENDS_WITHIN = 30.0  # seconds
_STARTS_WITHIN = 30.0


class Process:
    """A running program and its child processes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.paused = False

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def terminate(self) -> None:
        """Send SIGTERM, as a deployment does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> None:
        """Block until it has exited."""
        wait_until(lambda: self.ended, "the end of a process", _ENDS_WITHIN)

    def kill(self) -> None:
        """Kill it, as when its machine fails."""
        self._signal_all(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """Suspend it (SIGSTOP)."""
        self.paused = True
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it (SIGCONT)."""
        self._signal_all(signal.SIGCONT)
        self.paused = False

    def _signal_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class ForkServer:
    """Forks processes from one with preloaded modules; a context manager that kills all of them on exit."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", fork_server.__name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # so that Ctrl-C reaches only the program that prints the figures
            text=True,
        )
        assert self._answer() == "ready"
        return self

    def start(self, program: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        """Start a Python program.

        Args:
            program: A script with its arguments, or ``-m``, a module and its arguments.
            log: The file to which its output is appended.
            environment: Additional environment variables.
        """
        wanted = {"program": list(program), "log": str(log), "environment": dict(environment)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return Process(int(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._process:  # closes its standard input and waits for its exit
            pass


class Fleet:
    """Redis, the embedded runtime, fronts and workers; a context manager that starts Redis and the runtime.

    Args:
        fronts: The number of fronts.
        workers: The number of workers.
        pace: Seconds between the pieces of a reply.
        longest: The maximum duration of a handler in seconds.
        settings: Additional environment variables of fronts and workers.
        logs: A new directory to which the logs are copied at the end, or None.

    Attributes:
        redis: Redis.
        fronts: The fronts by number.
        workers: The workers by number.
        addresses: The addresses of the fronts.
    """

    def __init__(
        self,
        *,
        fronts: int,
        workers: int,
        pace: float,
        longest: float,
        settings: Mapping[str, str],
        logs: Path | None = None,
    ) -> None:
        self.redis = RedisServer()
        self.fronts: dict[int, Process] = {}
        self.workers: dict[int, Process] = {}
        self.addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(fronts)]
        self._workers = workers
        self._pace = pace
        self._longest = longest
        self._settings = dict(settings)
        self._logs = logs
        self._names = itertools.count(1)

    @property
    def handlers(self) -> Path:
        """The log of the handlers."""
        return self.home / "handlers.jsonl"

    @property
    def accepted(self) -> Path:
        """The log of the results that the runtime has accepted."""
        return self.home / "accepted.jsonl"

    def start(self, runtime_url: str, redis_url: str) -> None:
        """Start all fronts and workers.

        Args:
            runtime_url: The URL of the runtime for workers.
            redis_url: The URL of Redis for fronts and workers.
        """
        self._addresses = {"REDIS_URL": redis_url, "INFERENCE_BASE_URL": runtime_url}
        for number in range(len(self.addresses)):
            self.start_front(number)
        for number in range(self._workers):
            self.start_worker(number)

    def start_front(self, number: int) -> None:
        """Start a front on its port, without waiting until it is ready."""
        port = self.addresses[number].rpartition(":")[2]
        options = ["--host", "127.0.0.1", "--port", port, "--timeout-graceful-shutdown", "5", "--log-level", "warning"]
        program = ["-m", "uvicorn", "front:app", "--app-dir", str(EXAMPLE), *options]
        self.fronts[number] = self._fork_server.start(program, self.home / f"front-{number}.log", self._named("front"))

    def start_worker(self, number: int) -> None:
        """Start a worker with a number, without waiting until it is ready."""
        program = [str(EXAMPLE / "worker.py")]
        self.workers[number] = self._fork_server.start(
            program, self.home / f"worker-{number}.log", self._named("worker")
        )

    def kill_all(self) -> None:
        """Kill all fronts and workers, and wait until they have exited."""
        for process in (*self.fronts.values(), *self.workers.values()):
            process.kill()

    def log(self, name: str) -> str:
        """Return the end of the log of a process."""
        path = self.home / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            self.home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
            if self._logs is not None:
                exits.callback(shutil.copytree, self.home, self._logs)
            exits.enter_context(self.redis)
            self._fork_server = exits.enter_context(ForkServer())
            self._start_runtime(exits)
            exits.callback(self.kill_all)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()

    def _start_runtime(self, exits: contextlib.ExitStack) -> None:
        written = self.home / "runtime.address"
        program = ["-m", runtime.__name__, str(written), str(self.accepted), str(self._pace)]
        process = self._fork_server.start(program, self.home / "runtime.log", {})
        exits.callback(process.kill)
        wait_until(lambda: written.exists() or process.ended, "the start of the runtime", _STARTS_WITHIN)
        assert written.exists(), self.log("runtime")
        self.runtime_url, self.api_key = written.read_text().split()

    def _named(self, kind: str) -> dict[str, str]:
        return {
            **self._addresses,
            "INFERENCE_API_KEY": self.api_key,
            "FLEET_AGENT": f"{agent.__name__}:AGENT",
            "FLEET_NAME": f"{kind}-{next(self._names)}",
            agent.HANDLERS: str(self.handlers),
            agent.LONGEST: str(self._longest),
            **self._settings,
        }

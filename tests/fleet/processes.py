"""A fleet for a test: Redis, a scripted runtime in this process, and fronts and workers in separate processes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.chaos.processes import EXAMPLE, ForkServer, Process
from tests.redis_server import RedisServer, free_port
from tests.support import Served, Step, wait_until

from .agent import HOME

__all__ = ["EXAMPLE", "Fleet"]

STARTS_WITHIN = 60.0  # seconds; other tests may keep the machine busy


class Fleet:
    """Fronts and workers under test; a context manager that starts Redis and the runtime, and stops everything.

    Args:
        fork_server: Starts the processes.
        home: A temporary directory of the test.
        steps: The script of the model.
        settings: Additional environment variables of all processes.

    Attributes:
        fronts: The HTTP clients of the fronts, by name.
    """

    def __init__(self, fork_server: ForkServer, home: Path, *steps: Sequence[Step], **settings: str) -> None:
        self.home = home
        self._fork_server = fork_server
        self.redis = RedisServer()
        self.runtime = Served(*steps)
        self._settings = settings
        self._processes: dict[str, Process] = {}
        self.fronts: dict[str, httpx.Client] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            exits.enter_context(self.redis)
            exits.enter_context(self.runtime)
            exits.callback(self._kill_all)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()
        if error is None:
            for name in self._processes:
                assert "Traceback" not in self.log(name), f"{name}: {self.log(name)}"

    def start(self, *names: str, **settings: str) -> None:
        """Start fronts and workers concurrently, and wait until all of them are ready.

        Args:
            names: Names such as "front 1" and "worker 2"; "taskiq" is a worker that the command of Taskiq runs.
            settings: Additional environment variables of these processes.
        """
        for name in names:
            if name.startswith("front"):
                self.fronts[name] = self._client()
                port = str(self.fronts[name].base_url.port)
                options = ["--app-dir", str(EXAMPLE), "--host", "127.0.0.1", "--port", port, "--log-level", "warning"]
                self._start(name, ["-m", "uvicorn", "front:app", *options], settings)
            elif name.startswith("taskiq"):
                options = ["--app-dir", str(EXAMPLE), "--receiver", "broker:JobReceiver", "--workers", "1"]
                self._start(name, ["-m", "taskiq", "worker", "worker:broker", *options], settings)
            else:
                self._start(name, [str(EXAMPLE / "worker.py")], settings)
        for name in names:
            wait_until(lambda name=name: self._is_ready(name), f"the start of {name}", STARTS_WITHIN)  # type: ignore[misc]

    def __getitem__(self, name: str) -> Process:
        """The process with a name."""
        return self._processes[name]

    def log(self, name: str) -> str:
        """Return the log of a process so far."""
        return self._log(name).read_text()

    @property
    def starts(self) -> list[str]:
        """The starts of the tool ``look_up``, each as the name of the worker and the attempt."""
        path = self.home / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_starts(self, *starts: str) -> None:
        """Wait until exactly these starts of the tool are logged."""
        wait_until(lambda: self.starts == list(starts), f"the tool was started by {starts}", STARTS_WITHIN)

    def finish_tool(self, what: str) -> None:
        """Let the tool finish."""
        (self.home / what).touch()

    def _start(self, name: str, arguments: Sequence[str], settings: Mapping[str, str]) -> None:
        environment = {
            "REDIS_URL": self.redis.url,
            "INFERENCE_BASE_URL": self.runtime.runtime.base_url,
            "INFERENCE_API_KEY": self.runtime.runtime.api_key,
            "FLEET_AGENT": "tests.fleet.agent:AGENT",
            "FLEET_INTERVAL": "0",
            "FLEET_NAME": name,
            HOME: str(self.home),
            **self._settings,
            **settings,
        }
        self._log(name).touch()
        self._processes[name] = self._fork_server.start(arguments, self._log(name), environment)

    def _log(self, name: str) -> Path:
        return self.home / f"{name.replace(' ', '-')}.log"

    def _client(self) -> httpx.Client:
        client = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", timeout=30, trust_env=False)
        self._exits.callback(client.close)
        return client

    def _is_ready(self, name: str) -> bool:
        assert not self[name].ended, self.log(name)
        if name not in self.fronts:
            return "ready" in self.log(name)
        with contextlib.suppress(httpx.TransportError):
            return self.fronts[name].get("/ready").status_code == 200
        return False

    def _kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()

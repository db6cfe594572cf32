"""A server that answers byte by byte as a scenario says, on a thread of its own, so that either client can meet it.

It speaks HTTP/1.1 over bare asyncio transports: it decides where each segment ends, what is never sent and how a
connection dies. It counts the connections and streams that are open and keeps every request it has read.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Self, cast

from .connection import Connection, Request
from .forms import Json, asked, chat_of, message_of, page_of, task_of
from .script import Reply, Scenario, Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from types import TracebackType

LIMIT = 10.0  # seconds that anything awaited here may take before the test fails


class FaultServer:
    """A scenario's server; a context manager.

    Args:
        scenario: What to answer.
        tls: A server-side context makes it an https server.
        port: The port to listen on; 0 lets the system choose.
    """

    def __init__(self, scenario: Scenario, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.scenario = scenario
        self.requests: list[Request] = []
        self.connections: set[Connection] = set()
        self.streams = 0
        self.pushed = 0
        self._tls = tls
        self._port = port
        self._changed = threading.Condition()
        self._known_chat = chat_of("working")
        self._known_messages: dict[object, Json] = {}
        self._known_task = task_of(1)
        self._released: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)
        self._ready = threading.Event()
        self._moved = asyncio.Event()  # replaced whenever something has happened
        self._failures: list[BaseException] = []

    # For tests, from any thread

    @property
    def url(self) -> str:
        """The address, for ``base_url``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def play(self, scenario: Scenario) -> None:
        """Start over with another scenario; open connections stay."""
        with self._changed:
            self.scenario = scenario
            self.requests.clear()
            self._known_chat = chat_of("working")
            self._known_messages.clear()
            self._known_task = task_of(1)
            self._released.clear()

    def seen(self, line: str) -> list[Request]:
        """The requests named ``line`` (``"POST /agents/run"``) so far."""
        with self._changed:
            return [request for request in self.requests if request.line == line]

    def wait_for_request(self, line: str, count: int = 1, timeout: float = LIMIT) -> Request:
        """Block until ``line`` was requested ``count`` times; returns the last of them."""
        self.wait_until(lambda: len(self.seen(line)) >= count, f"{count} x {line}", timeout)
        return self.seen(line)[count - 1]

    def wait_until_no_connections(self, timeout: float = 1.0) -> None:
        """Block until every connection is closed; an AssertionError after ``timeout`` seconds."""
        self.wait_until(lambda: not self.connections, "all connections closed", timeout)

    def wait_until_no_streams(self, timeout: float = 1.0) -> None:
        """Block until no stream is open; an AssertionError after ``timeout`` seconds."""
        self.wait_until(lambda: self.streams == 0, "all streams closed", timeout)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = LIMIT) -> None:
        """Block until ``condition``, looked at whenever something happened here, holds."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise AssertionError(
                    f"after {timeout} s still no {what}: {len(self.connections)} connections, "
                    f"{self.streams} streams, requests {[r.line for r in self.requests]}"
                )

    def wait_until_held_back(self, quiet: float = 0.7) -> int:
        """Block until nothing could be sent for so many seconds; returns the bytes of streams that were."""
        before = -1
        while before != self.pushed:
            before = self.pushed
            time.sleep(quiet)
        return before

    def release(self, name: str) -> None:
        """Let the scripts that ``hold(name)`` go on."""
        with self._changed:
            self._released.add(name)
        self._loop.call_soon_threadsafe(self.notify)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(LIMIT):
            raise AssertionError("the fault server did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "the fault server did not stop"
        if self._failures and error is None:  # a script went wrong, not the client
            raise self._failures[0]

    # For scripts, on the server's own loop

    def notify(self) -> None:
        """Wake everyone who waits for something to have happened."""
        with self._changed:
            self._changed.notify_all()
        self._moved.set()
        self._moved = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait on the server's loop until ``condition`` holds."""
        while not condition():
            await self._moved.wait()

    def is_released(self, name: str) -> bool:
        """Whether ``release(name)`` was called."""
        return name in self._released

    def remember(self, line: Json) -> None:
        """Take in a line that was sent, so that GET answers agree with the streams."""
        data, name = line.get("data"), line.get("event")
        if line.get("id") == self._known_task["id"]:
            self._known_task = self._known_task | line
        if not isinstance(data, dict):
            return
        if name == "chat_messages":
            known = self._known_messages.get(data.get("id")) if "fields" in line else {}
            if known is not None:
                self._known_messages[data.get("id")] = known | data
        elif name == "chats" and data.get("id") == self._known_chat["id"]:
            self._known_chat = self._known_chat | data
        elif name == "agent_runs":
            self._known_chat = self._known_chat | {"active_run": data}

    def arrived(self, request: Request) -> Script:
        """Keep a request and find what answers it."""
        with self._changed:
            self.requests.append(request)
            count = len(self.seen(request.line))
        self.notify()
        answers = self._answers(request)
        return answers[min(count, len(answers)) - 1]

    def failed(self, error: BaseException) -> None:
        """Keep what went wrong in a script until the server is left."""
        self._failures.append(error)

    def _answers(self, request: Request) -> Sequence[Script]:
        plan, line = self.scenario, request.line
        if line in plan.answers:
            return plan.answers[line]
        if line == "POST /agents/run":
            return plan.post
        if line == "POST /apps/run":
            return plan.runs
        if request.path.endswith("/stream"):
            return plan.streams
        if line.endswith("/messages"):
            return [(Reply(page_of(*self._messages())),)]
        if request.method == "GET" and request.path.startswith("/chats/"):
            return [(Reply(self._known_chat),)]
        if request.method == "GET" and request.path.startswith("/tasks/"):
            return [(Reply(self._known_task),)]
        return [(Reply({}),)]

    def _messages(self) -> list[Json]:
        replies = list(self._known_messages.values()) or [message_of("")]
        return sorted([asked(), *replies], key=lambda form: -cast("int", form["order"]))

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        listener = await self._loop.create_server(lambda: Connection(self), "127.0.0.1", self._port, ssl=self._tls)
        self._port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        listener.close()
        for connection in tuple(self.connections):
            connection.transport.abort()
        await self.until(lambda: not self.connections)

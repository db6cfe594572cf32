"""Signals, forks and exits, each in a real process: it ends by itself, connections close, and stderr stays empty."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest

from tests.children import start

from .forms import call_of, chat, message
from .script import STALL, Scenario, Script, heartbeats, hold
from .server import FaultServer
from .turns import POST, STOP, STREAM, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BUSY = chat("working")
HEL = message("Hel")
END: Script = (message(TEXT, "ready"), chat("completed"))
ENDLESS: Script = (BUSY, HEL, heartbeats(1000, 0.05))
WHOLE: Script = (BUSY, HEL, *END)


class Program:
    """A running program of ``programs``."""

    def __init__(self, name: str, server: FaultServer) -> None:
        self.process = start(
            [sys.executable, "-W", "error", "-X", "faulthandler", "-m", "tests.faults.programs", name, server.url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hear(self) -> str:
        """The next word it says."""
        return cast("IO[str]", self.process.stdout).readline().strip()

    def end(self, code: int = 0, within: float = 2.0) -> list[str]:
        """Wait for its end in good order; returns what else it said."""
        began = time.monotonic()
        try:
            out, err = self.process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler says what its threads are doing
            out, err = self.process.communicate()
        assert err == ""
        assert self.process.returncode == code
        assert time.monotonic() - began < within
        return out.splitlines()


@contextmanager
def program(name: str, scenario: Scenario) -> Iterator[tuple[Program, FaultServer]]:
    """A program and the server it talks to; both are gone at the end."""
    with FaultServer(scenario) as server:
        running = Program(name, server)
        try:
            yield running, server
            server.wait_until_no_connections()
            assert server.seen(STOP) == []
        finally:
            running.process.kill()
            running.process.communicate()


@pytest.mark.parametrize("name", ["reading", "calling", "in_the_body"])
def test_ctrl_c_leaves_a_stream(name: str) -> None:
    """KeyboardInterrupt reaches the caller, the connection closes, and the client works on."""
    with program(name, Scenario(streams=[ENDLESS, WHOLE])) as (running, server):
        assert running.hear() == "Hel"
        running.process.send_signal(signal.SIGINT)
        assert running.hear() == "interrupted"
        server.wait_until(lambda: server.streams == len(server.seen(STREAM)) - 1, "the first stream's end", 1.0)
        assert running.end()[-1] == TEXT
        assert len(server.seen(POST)) == 2


@pytest.mark.parametrize("name", ["in_a_tool", "in_an_async_tool"])
def test_ctrl_c_leaves_a_tool(name: str) -> None:
    """The tool is given up with its turn, and no result is posted."""
    asks = message("", calls=[call_of()])
    with program(name, Scenario(streams=[(BUSY, asks, STALL), WHOLE])) as (running, server):
        assert running.hear() == "working"
        running.process.send_signal(signal.SIGINT)
        assert [running.hear(), running.hear()] == ["interrupted", TEXT]
        running.end()
        assert [request.line for request in server.requests if "/tools/" in request.path] == []


@pytest.mark.parametrize(
    ("scenario", "moment"),
    [
        (Scenario(post=[(STALL,), *Scenario().post], streams=[WHOLE]), POST),
        (Scenario(streams=[(STALL,), WHOLE]), STREAM),
    ],
    ids=["posting", "opening"],
)
def test_ctrl_c_leaves_a_request(scenario: Scenario, moment: str) -> None:
    """While the message is posted, and while its stream is opened."""
    with program("reading", scenario) as (running, server):
        server.wait_for_request(moment)
        running.process.send_signal(signal.SIGINT)
        assert running.hear() == "interrupted"
        assert running.end() == [TEXT]


def test_ctrl_c_ends_the_async_client() -> None:
    """asyncio.run cancels the turn; the connection closes and KeyboardInterrupt is raised."""
    with program("async_reading", Scenario(streams=[ENDLESS])) as (running, _):
        assert running.hear() == "Hel"
        running.process.send_signal(signal.SIGINT)
        assert running.end() == ["interrupted"]


def test_ctrl_c_at_any_moment_leaves_the_client_usable() -> None:
    """Sixty turns, interrupted half a millisecond later each time, leave no stream open."""
    with program("at_any_moment", Scenario(streams=[WHOLE])) as (running, server):
        assert [running.hear(), running.hear()] == [TEXT, "left"]
        server.wait_until_no_streams()
        running.process.communicate("\n", timeout=5)
        assert running.process.returncode == 0


@pytest.mark.parametrize(("name", "code"), [("terminated", 0), ("killed", -signal.SIGTERM)])
def test_sigterm_ends_the_program(name: str, code: int) -> None:
    """With a handler that exits and without one, at once."""
    with program(name, Scenario(streams=[ENDLESS])) as (running, _):
        assert running.hear() == "Hel"
        running.process.send_signal(signal.SIGTERM)
        running.end(code)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("unclosed", WHOLE),
        ("unclosed_in_a_stream", ENDLESS),
        ("unclosed_by_an_error", ENDLESS),
        ("unclosed_async", ENDLESS),
    ],
)
def test_a_client_that_is_never_closed_does_not_hold_the_exit(name: str, stream: Script) -> None:
    """The interpreter exits within two seconds, without a word on stderr."""
    with program(name, Scenario(streams=[stream])) as (running, _):
        assert running.hear() == (TEXT if stream is WHOLE else "Hel")
        running.end()


def test_a_fork_in_the_middle_of_a_stream() -> None:
    """The child uses the client for a turn of its own; the parent's stream goes on to its end."""
    with program("forked", Scenario(streams=[(BUSY, HEL, hold("go"), *END), WHOLE])) as (running, server):
        assert [running.hear(), running.hear(), running.hear()] == ["Hel", f"child {TEXT}", "child ended 0"]
        assert server.streams == 1
        server.release("go")
        cast("IO[str]", running.process.stdin).write("\n")
        assert running.end() == [f"parent {TEXT}"] * 2


def test_a_child_cannot_harm_the_stream_of_its_parent() -> None:
    """It closes its copy of the stream and of the client, and the parent reads on."""
    scenario = Scenario(streams=[(BUSY, HEL, hold("go"), *END)])
    with program("forked_with_the_stream", scenario) as (running, server):
        assert [running.hear(), running.hear()] == ["Hel", "child ended 0"]
        assert server.streams == 1
        server.release("go")
        cast("IO[str]", running.process.stdin).write("\n")
        assert running.end() == [f"parent {TEXT}"]
        assert len(server.seen(STREAM)) == 1


def test_an_async_client_works_in_a_forked_child() -> None:
    """Made and used before the fork, it works in both processes."""
    with program("forked_async", Scenario(streams=[WHOLE])) as (running, _):
        expected = [TEXT, f"child {TEXT}", "child ended 0", f"parent {TEXT}"]
        assert [running.hear() for _ in expected] == expected
        running.end()

"""Exits, Ctrl-C and forks in real processes, with the embedded runtime inside: quick, and without a word on stderr."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self, cast

import pytest

from tests.children import start
from tests.command_line import address, environment
from tests.faults.script import STALL, Scenario
from tests.faults.server import FaultServer
from tests.support import Served

ROOT = Path(__file__).parents[2]


class Program:
    """A running program of ``programs``, in development mode and with warnings as errors; ``with`` ends it for sure."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._began = time.monotonic()
        self.process = start(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.clients.programs", *arguments],
            cwd=ROOT,
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hear(self) -> str:
        """The next word it says."""
        return cast("IO[str]", self.process.stdout).readline().strip()

    def end(self, code: int = 0) -> list[str]:
        """Wait for its end in good order; returns what else it said."""
        heard = time.monotonic()
        out, err = self.process.communicate(timeout=15)
        # Development mode also reports steps of a loop that take long, which on a busy machine says nothing.
        assert [line for line in err.splitlines() if not line.startswith("Executing <")] == []
        assert self.process.returncode == code
        assert time.monotonic() - heard < 5
        return out.splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(
    ("name", "code"),
    [("page", 0), ("page_left_early", 0), ("page_raises", 3), ("stuck", 0), ("sync", 0), ("sync_in_a_thread", 0)],
)
def test_a_client_that_is_never_closed_ends_with_its_program(name: str, code: int) -> None:
    """Silently and at once, whatever was going on."""
    with Program(name) as program:
        assert program.hear() == "over"
        assert program.end(code) == []


def test_a_program_ends_in_the_middle_of_a_response() -> None:
    """That a daemon thread reads, silently and at once."""
    lines = Scenario(answers={"GET /lines": [(b"{}\n", STALL)]})
    with FaultServer(lines) as server, Program("response_in_a_thread", server.url) as program:
        assert program.hear() == "over"
        assert program.end() == []


def test_ctrl_c_reaches_a_blocking_call() -> None:
    """As KeyboardInterrupt, in the middle of a reply; the run can be stopped and the client closed afterwards."""
    with Program("interrupted") as program:
        assert program.hear() == "waiting"
        program.process.send_signal(signal.SIGINT)
        assert [word for word in program.end() if word != "waiting"] == ["interrupted", "cancelled"]


def test_ctrl_c_ends_an_async_program() -> None:
    """As with any other coroutine."""
    with Program("interrupted_async") as program:
        assert program.hear() == "waiting"
        program.process.send_signal(signal.SIGINT)
        assert [word for word in program.end() if word != "waiting"] == ["interrupted"]


def test_a_fork_in_the_middle_of_a_stream() -> None:
    """The child has a whole turn of its own; the parent's stream goes on and misses nothing."""
    with Program("forked") as program:
        assert [program.hear() for _ in range(3)] == ["child ready", "child ended 0", "parent ready"]
        assert program.end() == []


@pytest.mark.timeout(30)
def test_one_process_approves_what_another_waits_for() -> None:
    """The requester is told that it waits, and waits until its tool has run and the agent has replied."""
    with Served() as served:
        variables = address(served.runtime.base_url, served.runtime.api_key)
        with Program("requester", **variables) as requester:
            chat_id, *state = requester.hear().split()
            assert state == ["True", "True"]
            with Program("approver", chat_id, **variables) as approver:
                assert approver.hear() == "refund"
                assert approver.hear() == "approved"
                approver.end()
            heard = requester.hear()
            assert heard.startswith("False ")
            assert "17 refunded" in heard
            requester.end()

"""What finds leftovers does find them: every test rests on it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import clean_loop
from tests.support import CannedAnswers, Leftovers


@pytest.fixture
def leftovers() -> Leftovers:
    """What there is before the test."""
    return Leftovers()


def test_nothing_is_found_where_nothing_is_left(leftovers: Leftovers) -> None:
    """What has come and gone is no leftover."""
    with socket.create_server(("127.0.0.1", 0)):
        thread = threading.Thread(target=str)
        thread.start()
    leftovers.check(patience=1)


def test_an_open_socket_is_found(leftovers: Leftovers) -> None:
    """A listening one as well as a connected one."""
    with socket.create_server(("127.0.0.1", 0)), pytest.raises(AssertionError, match="'socket'"):
        leftovers.check(patience=0.01)
    left, right = socket.socketpair()
    with left, right, pytest.raises(AssertionError, match="'socket'"):
        leftovers.check(patience=0.01)


def test_an_open_file_is_found(leftovers: Leftovers, tmp_path: Path) -> None:
    """And a pipe."""
    with (tmp_path / "file").open("w"), pytest.raises(AssertionError, match="'file'"):
        leftovers.check(patience=0.01)
    ends = os.pipe()
    with pytest.raises(AssertionError, match="'pipe'"):
        leftovers.check(patience=0.01)
    for end in ends:
        os.close(end)


def test_a_thread_is_found(leftovers: Leftovers) -> None:
    """One that does not end by itself."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    with pytest.raises(AssertionError, match="forgotten"):
        leftovers.check(patience=0.01)
    end.set()
    thread.join()


@pytest.mark.parametrize("left", ["a task", "an async generator"])
def test_what_an_async_test_leaves_on_its_loop_is_found(left: str) -> None:
    """A task that is pending, and an async generator that was left in the middle."""

    async def generate() -> object:
        yield 1

    async def main() -> None:
        check = clean_loop.__wrapped__()  # type: ignore[attr-defined] # the function behind the fixture
        await anext(check)
        generator = generate()
        task = asyncio.create_task(asyncio.Event().wait())
        if left == "an async generator":
            task.cancel()
            await anext(generator)  # type: ignore[call-overload] # it is an async generator
        with pytest.raises(AssertionError, match="Event.wait" if left == "a task" else "async_generator"):
            await anext(check)
        task.cancel()

    asyncio.run(main())


async def test_canned_answers_fit_the_installed_aiohttp(canned: CannedAnswers) -> None:
    """Status, headers and body arrive through a session of the original aiohttp, and the request is known."""
    canned.get("https://example.com/", status=418, body="short", headers={"X-Pot": "tea"})
    async with aiohttp.ClientSession() as session, session.get("https://example.com/", headers={"A": "b"}) as response:
        assert (response.status, response.headers["X-Pot"], await response.text()) == (418, "tea", "short")
    assert [made["headers"] for made in canned.made("GET", "https://example.com/")] == [{"A": "b"}]

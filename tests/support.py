"""What tests share: a scripted model, a runtime to watch, canned answers, and the search for what a test leaves."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import aiohttp
import pytest
from aioresponses import aioresponses

from inferencesh.local import Conversation, LocalRuntime, Piece, RuntimeOptions, Text

__all__ = [
    "KINDS",
    "CannedAnswers",
    "Gate",
    "Kind",
    "Leftovers",
    "Script",
    "Served",
    "Step",
    "eventually",
    "wait_until",
]

T = TypeVar("T")

Kind = Literal["async", "sync"]  # of a client
KINDS: tuple[Kind, ...] = ("async", "sync")

LIMIT = 20.0  # seconds after which something that should happen at once will not, on a machine that is busy


class Gate:
    """Something to wait for on any event loop until somebody on any thread opens it."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()
        self._reached: Future[None] = Future()

    def open(self) -> None:
        """Let everybody pass."""
        if not self._opened.done():
            self._opened.set_result(None)

    async def passed(self) -> None:
        """Wait until it is open."""
        self._note()
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def wait(self) -> None:
        """Block until it is open."""
        self._note()
        self._opened.result(LIMIT)

    def reached(self) -> None:
        """Block until somebody stands before it, or has passed."""
        self._reached.result(LIMIT)

    async def someone_there(self) -> None:
        """Wait until somebody stands before it, or has passed."""
        async with asyncio.timeout(LIMIT):
            await asyncio.shield(asyncio.wrap_future(self._reached))

    def _note(self) -> None:
        if not self._reached.done():
            self._reached.set_result(None)


Step = str | Piece | Gate | BaseException


class Script:
    """A model that answers its n-th question with the n-th step list, and every further one with the last.

    Args:
        steps: Of each answer: texts and other pieces to yield, gates to wait at, exceptions to raise.
    """

    def __init__(self, *steps: Sequence[Step]) -> None:
        self._steps = steps
        self.asked: list[Conversation] = []

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Answer as the script says."""
        steps = self._steps[min(len(self.asked), len(self._steps) - 1)]
        self.asked.append(conversation)
        for step in steps:
            if isinstance(step, Gate):
                await step.passed()
            elif isinstance(step, BaseException):
                raise step
            else:
                yield Text(step) if isinstance(step, str) else step


class Served:
    """An embedded runtime on an event loop in a thread of its own, for clients of either kind; ``with`` starts it.

    Args:
        steps: The script of its model; the demo model without any.
        options: Those of ``LocalRuntime``; it does not pause between pieces unless told so.
    """

    def __init__(self, *steps: Sequence[Step], **options: Unpack[RuntimeOptions]) -> None:
        settings: RuntimeOptions = {"pace": 0}
        self.script = Script(*steps)
        if steps:
            settings["model"] = self.script
        settings.update(options)
        self.runtime = LocalRuntime(**settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runtime under test")

    @property
    def address(self) -> dict[str, Any]:
        """The arguments of a client that lead here."""
        return {"api_key": self.runtime.api_key, "base_url": self.runtime.base_url}

    def wait_until_left(self, within: float = LIMIT) -> None:
        """Block until nobody follows a stream."""
        wait_until(lambda: self.runtime.open_streams == 0, "the end of all streams", within)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the runtime's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LIMIT)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.runtime.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.run(self.runtime.aclose())
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "the runtime's loop did not stop"
        self._loop.close()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The warnings and errors that the package has logged; those of asyncio come with a busy machine."""
    return [each for each in caplog.records if each.levelno >= logging.WARNING and each.name.startswith("inferencesh")]


def wait_until(condition: Callable[[], object], what: str, within: float = LIMIT) -> None:
    """Block until ``condition`` holds; an AssertionError after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"after {within} s still not: {what}"
        time.sleep(0.005)


async def eventually(condition: Callable[[], object], what: str, within: float = LIMIT) -> None:
    """Wait until ``condition``, sync or async, holds; an AssertionError after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (await result if inspect.isawaitable(result := condition()) else result):
        assert time.monotonic() < deadline, f"after {within} s still not: {what}"
        await asyncio.sleep(0.005)


class Leftovers:
    """Remembers which threads and descriptors there are, and finds the new ones later."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def check(self, patience: float = 2.0) -> None:
        """Fail when a thread or descriptor is new and does not go away within ``patience`` seconds.

        Threads that were told to end are given the time: worker threads end after the loop that used them.
        """
        gc.collect()
        deadline = time.monotonic() + patience
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        threads = [thread for thread in set(threading.enumerate()) - self._threads if thread.is_alive()]
        while (descriptors := _descriptors() - self._descriptors) and time.monotonic() < deadline:
            time.sleep(0.005)
            gc.collect()
        assert not threads, f"threads are left: {threads}"
        assert not descriptors, f"descriptors are left open: {sorted(descriptors)}"


def _descriptors() -> set[tuple[int, str, int]]:
    """Everything this process has open: descriptor, kind and inode."""
    found = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - the directory itself is one of them, and must be closed again
        try:
            status = os.fstat(int(name))
        except OSError:  # the directory that was just read, or one that another thread has closed since
            continue
        kind = "socket" if stat.S_ISSOCK(status.st_mode) else "pipe" if stat.S_ISFIFO(status.st_mode) else "file"
        found.add((int(name), kind, status.st_ino))
    return found


class CannedAnswers(aioresponses):
    """aioresponses for every aiohttp that is supported; use it like the original.

    Up to 0.7.9 it cannot make a response for aiohttp 3.14, whose ClientResponse has one more required argument.
    """

    def add(self, url: Any, *arguments: Any, **options: Any) -> None:
        """As the original, with a response class that fits the installed aiohttp."""
        options.setdefault("response_class", _response_class())
        super().add(url, *arguments, **options)

    def made(self, method: str, url: str) -> list[dict[str, Any]]:
        """The arguments of the requests that were made to one address."""
        return [
            call.kwargs
            for (verb, target), calls in self.requests.items()
            if verb == method and str(target) == url
            for call in calls
        ]


def _response_class() -> type[aiohttp.ClientResponse]:
    if "stream_writer" not in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        return aiohttp.ClientResponse
    return _Response


class _Response(aiohttp.ClientResponse):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"stream_writer": _NothingSent(), **options})


class _NothingSent:
    """What stands for the writer of a request that was never sent."""

    output_size = 0

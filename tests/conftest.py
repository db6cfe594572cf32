"""What every test gets: a clean environment, and a check that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from hypothesis import settings

from .redis_server import RedisServer
from .support import CannedAnswers, Leftovers

settings.register_profile("deep", max_examples=2000)

_OURS = ("INFERENCE_API_KEY", "INFERENCE_BASE_URL")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, address or proxy of the machine reaches a test."""
    for name in (*_OURS, *_PROXIES, *(proxy.lower() for proxy in _PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> Iterator[None]:
    """What exists before the first test is left out of garbage collections, which then cost next to nothing."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged may hold halves of characters, which a worker process cannot send to the main one."""
    report = yield
    report.sections = [(title, text.encode(errors="replace").decode()) for title, text in report.sections]
    return report


class _LoopComplaints(logging.Handler):
    """Keeps what event loops, in whatever thread, report as errors: exceptions that nobody has handled."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.seen.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test: no thread, descriptor, task or async generator that was not there before, and no complaint.

    It is set up first, so it looks after everything else has been torn down, the event loop of an async test included.
    """
    complaints = _LoopComplaints()
    logging.getLogger("asyncio").addHandler(complaints)
    leftovers = Leftovers()
    yield
    try:
        leftovers.check()
    finally:
        gc.freeze()  # what has survived was there to stay; looking at it again after every test takes half a second
        logging.getLogger("asyncio").removeHandler(complaints)
    assert not complaints.seen, "\n".join(["an event loop reported:", *complaints.seen])


@pytest.fixture(autouse=True)
def nothing_left_on_the_loop(nothing_left: None, request: pytest.FixtureRequest) -> None:
    """Async tests, and they alone, get the check of their event loop as well."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("clean_loop")


@pytest.fixture
async def clean_loop() -> AsyncIterator[None]:
    """After an async test: no task is pending, and no async generator is left in the middle.

    It looks before the loop is closed, which would clear away what is to be found.
    """
    yield
    gc.collect()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:  # what was cancelled may need a moment for its end
        _, tasks = await asyncio.wait(tasks, timeout=1)
    generators = getattr(asyncio.get_running_loop(), "_asyncgens", ())  # what asyncio.run would close at its end
    suspended = [each for each in generators if each.ag_frame is not None and not each.ag_running]
    left = [*tasks, *suspended]
    assert not left, f"tasks that are pending, async generators in the middle: {left}"


@pytest.fixture
def canned() -> Iterator[CannedAnswers]:
    """Canned answers to every request that goes through an aiohttp session."""
    answers = CannedAnswers()
    with answers:
        yield answers


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A redis-server of the test's own; a test that uses it is marked with ``redis``."""
    with RedisServer() as server:
        yield server

"""Handlers that are generators: what they yield is reported, what they end with is the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from inferencesh import Tool, ToolCall, ToolContext, inline, integer, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, Served, wait_until, warnings_of

from .conftest import Connect, Serve
from .styles import STYLES, styled

spoken: ContextVar[str] = ContextVar("spoken", default="nothing")

CALL = Calls("work", {"steps": 3})


def results(served: Served) -> list[str]:
    """What the model was told that its tools returned, in the order of the calls."""
    return [message.text for message in served.script.asked[-1].messages if message.role == "tool"]


def returns(steps: int) -> Generator[str, None, str]:
    """Yield some, return another."""
    for number in range(steps):
        yield f"step {number}"
    return "all done"


def yields(steps: int) -> Iterator[str]:
    """Yield some; the last is the result."""
    for number in range(steps):
        yield f"step {number}"


async def yields_async(steps: int) -> AsyncIterator[str]:
    """Yield some; the last is the result."""
    for number in range(steps):
        await asyncio.sleep(0)
        yield f"step {number}"


@inline
def yields_inline(steps: int) -> Iterator[str]:
    """Yield some on the loop; the last is the result."""
    yield from yields(steps)


class Worker:
    """Something with methods that are generators."""

    @tool
    def work(self, steps: int) -> Generator[str, None, str]:
        """Yield some, return another."""
        return (yield from returns(steps))

    def __call__(self, steps: int) -> Iterator[str]:
        """Yield some."""
        yield from yields(steps)


def typed(function: Callable[..., Any]) -> Tool:
    """A typed tool of this function."""
    return tool("work")(function)


def plain(function: Callable[..., Any]) -> Tool:
    """A tool with this handler."""
    return tool("work").param("steps", integer()).handler(function).build()


WRITTEN = [
    (typed(returns), "all done"),
    (plain(returns), "all done"),
    (Worker().work, "all done"),
    (typed(yields), "step 2"),
    (plain(Worker().__call__), "step 2"),
    (typed(Worker()), "step 2"),
    (plain(yields_inline), "step 2"),
    (typed(yields_async), "step 2"),
    (plain(yields_async), "step 2"),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("built", "result"), WRITTEN)
def test_what_is_yielded_is_reported(serve: Serve, connect: Connect, built: Tool, result: str, style: str) -> None:
    """In order, with the call, before the result is sent; the callback may be written in any way."""
    heard: list[tuple[str, object]] = []

    def note(call: ToolCall, value: object) -> None:
        heard.append((call.name, value))

    served = serve([CALL], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [built]})
    assert side.result(agent.send_message("Go", on_tool_progress=styled(style, note))).text == "done"
    assert heard == [("work", f"step {number}") for number in range(3)]
    assert results(served) == [result]


def test_nobody_needs_to_listen(serve: Serve, connect: Connect) -> None:
    """A generator is run to its end without a callback too."""
    served = serve([CALL], ["done"])
    side = connect(served)
    side.result(side.agent({"tools": [typed(returns)]}).send_message("Go"))
    assert results(served) == ["all done"]


@pytest.mark.parametrize("function", [yields, yields_async])
def test_a_generator_that_yields_nothing_has_no_result(
    serve: Serve, connect: Connect, function: Callable[..., Any]
) -> None:
    """As a function that returns nothing."""
    served = serve([Calls("work", {"steps": 0})], ["done"])
    side = connect(served)
    side.result(side.agent({"tools": [typed(function)]}).send_message("Go"))
    assert results(served) == ["null"]


def test_progress_is_reported_for_a_turn_that_is_taken_up(serve: Serve, connect: Connect) -> None:
    """``stream_messages`` takes the callback as well."""
    heard: list[object] = []
    side = connect(serve([CALL], ["done"]))
    first = side.agent({"tools": [tool("work").build()]})
    side.result(first.send_message("Go"))
    agent = side.agent({"tools": [typed(yields)]}, chat_id=first.chat_id)
    side.snapshots(agent.stream_messages(on_tool_progress=lambda _call, value: heard.append(value)))
    assert heard == ["step 0", "step 1", "step 2"]


def test_bad_arguments_do_not_start_a_generator(serve: Serve, connect: Connect) -> None:
    """The agent is told as with any other tool."""
    served = serve([Calls("work", {"steps": "three"})], ["done"])
    side = connect(served)
    heard: list[object] = []
    agent = side.agent({"tools": [typed(yields)]})
    side.result(agent.send_message("Go", on_tool_progress=lambda *given: heard.append(given)))
    assert "steps: expected int, got 'three'" in json.loads(results(served)[0])["error"]
    assert heard == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("function", [returns, yields_async])
def test_what_the_callback_raises_reaches_the_caller(
    serve: Serve, connect: Connect, function: Callable[..., Any], style: str
) -> None:
    """As with the other callbacks; the generator is closed, and nothing is sent."""
    closed = threading.Event()

    def sync(steps: int) -> Iterator[str]:
        with contextlib.closing(Closing(closed)):
            yield from yields(steps)

    async def asynchronous(steps: int) -> AsyncIterator[str]:
        with contextlib.closing(Closing(closed)):
            async for step in yields_async(steps):
                yield step

    def fail(call: ToolCall, value: object) -> None:
        raise LookupError("no screen")

    served = serve([CALL], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [plain(asynchronous if function is yields_async else sync)]})
    with pytest.raises(LookupError, match="no screen"):
        side.result(agent.send_message("Go", on_tool_progress=styled(style, fail)))
    assert closed.is_set()
    assert len(served.script.asked) == 1


class Closing:
    """Something to close."""

    def __init__(self, closed: threading.Event) -> None:
        self._closed = closed

    def close(self) -> None:
        """Say so."""
        self._closed.set()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_generator_that_raises_answers_the_agent(serve: Serve, connect: Connect, asynchronous: bool) -> None:
    """With the error's text, after what it has yielded was reported."""

    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("not today")

    async def fails_async() -> AsyncIterator[int]:
        yield 1
        raise ValueError("not today")

    heard: list[object] = []
    served = serve([Calls("work", {})], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [typed(fails_async if asynchronous else fails)]})
    side.result(agent.send_message("Go", on_tool_progress=lambda _call, value: heard.append(value)))
    assert heard == [1]
    assert json.loads(results(served)[0]) == {"error": "ValueError: not today"}


# -- where it runs, and how it ends early ------------------------------------------------------------------------------


def test_sync_generators_run_where_sync_handlers_do(serve: Serve, connect: Connect) -> None:
    """On the calling thread of the blocking client; in worker threads, with one context, in the async client."""
    threads: list[threading.Thread] = []

    def work(steps: int, context: ToolContext) -> Iterator[str]:
        spoken.set("by the generator")
        for _ in range(steps):
            threads.append(threading.current_thread())
            yield spoken.get()

    heard: list[object] = []
    side = connect(serve([CALL], ["done"]))
    agent = side.agent({"tools": [typed(work)]})
    side.result(agent.send_message("Go", on_tool_progress=lambda _call, value: heard.append(value)))
    assert heard == ["by the generator"] * 3
    assert all((thread is threading.current_thread()) == (side.kind == "sync") for thread in threads)
    assert spoken.get() == "nothing"


def test_several_generators_run_side_by_side(serve: Serve, connect: Connect) -> None:
    """Each makes a step while another is between two; callbacks come one after the other."""
    heard: list[tuple[str, object]] = []
    gate = Gate()

    async def waits() -> AsyncIterator[str]:
        yield "begun"
        await gate.passed()
        yield "ended"

    async def opens() -> AsyncIterator[str]:
        yield "begun"
        await gate.someone_there()
        gate.open()
        yield "ended"

    side = connect(serve([Calls("waits", {}), Calls("opens", {})], ["done"]))
    agent = side.agent({"tools": [tool(waits), tool(opens)]})
    side.result(agent.send_message("Go", on_tool_progress=lambda call, value: heard.append((call.name, value))))
    assert sorted(heard) == [(name, word) for name in ("opens", "waits") for word in ("begun", "ended")]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["between steps", "in a step"])
def test_the_time_limit_is_for_all_steps_together(
    serve: Serve, connect: Connect, asynchronous: bool, where: str
) -> None:
    """The agent is told so, and the generator is closed."""
    closed, late = threading.Event(), threading.Event()

    def endless() -> Iterator[int]:
        with contextlib.closing(Closing(closed)):
            for number in range(10_000):
                late.wait(0.3 if where == "in a step" else 0.01)
                yield number

    async def endless_async() -> AsyncIterator[int]:
        with contextlib.closing(Closing(closed)):
            for number in range(10_000):
                await asyncio.sleep(0.3 if where == "in a step" else 0.01)
                yield number

    kept: list[object] = []  # lest the generator is closed because nobody holds it any more

    def work() -> Any:
        kept.append(endless_async() if asynchronous else endless())
        return kept[0]

    served = serve([Calls("work", {})], ["done"])
    side = connect(served, tool_timeout=0.1)
    side.result(side.agent({"tools": [typed(work)]}).send_message("Go"))
    assert json.loads(results(served)[0]) == {"error": "the tool took longer than 0.1 seconds"}
    wait_until(closed.is_set, "the generator's end")


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_leaving_the_turn_closes_the_generator(serve: Serve, connect: Connect, asynchronous: bool) -> None:
    """Wherever it stands; nothing more is reported."""
    closed = threading.Event()
    heard: list[object] = []

    def endless() -> Iterator[int]:
        with contextlib.closing(Closing(closed)):
            yield from range(1_000_000)

    async def endless_async() -> AsyncIterator[int]:
        with contextlib.closing(Closing(closed)):
            for number in range(1_000_000):
                await asyncio.sleep(0)
                yield number

    def leave(call: ToolCall, value: object) -> None:
        heard.append(value)
        if value == 3:
            raise KeyboardInterrupt

    side = connect(serve([Calls("work", {})], ["done"]))
    agent = side.agent({"tools": [typed(endless_async if asynchronous else endless)]})
    if side.kind == "sync":
        with pytest.raises(KeyboardInterrupt):
            agent.send_message("Go", on_tool_progress=leave)
    else:

        async def cancel() -> None:
            reached = asyncio.Event()

            async def note(call: ToolCall, value: object) -> None:
                heard.append(value)
                if value == 3:
                    reached.set()
                    await asyncio.get_running_loop().create_future()

            turn = asyncio.create_task(agent.send_message("Go", on_tool_progress=note))
            await reached.wait()
            turn.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await turn

        side.result(cancel())
    wait_until(closed.is_set, "the generator's end")
    assert heard == [0, 1, 2, 3]


def test_what_goes_wrong_at_the_close_is_logged(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The callback's error still reaches the caller."""

    def work() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("cannot let go")

    def fail(call: ToolCall, value: object) -> None:
        raise LookupError("no screen")

    side = connect(serve([Calls("work", {})], ["done"]))
    with pytest.raises(LookupError):
        side.result(side.agent({"tools": [typed(work)]}).send_message("Go", on_tool_progress=fail))
    (record,) = warnings_of(caplog)
    assert record.exc_info is not None
    assert "cannot let go" in str(record.exc_info[1])

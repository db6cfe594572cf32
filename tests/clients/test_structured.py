"""Nothing outlives what was awaited: the clean-up of an async handler has run when its turn was left, by any way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from inferencesh import AsyncAgent, AsyncInference, Inference, InferenceError, ToolCall, tool
from inferencesh.local import ToolCall as Calls
from tests.support import wait_until, warnings_of

from .conftest import Serve

TEXT = "Let me see. "


class Work:
    """A tool that does not end by itself, and whose clean-up takes a while."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cleaned_up = False

    async def run(self) -> None:
        """The handler."""
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(5):
                await asyncio.sleep(0.01)
            self.cleaned_up = True

    async def steps(self) -> AsyncIterator[int]:
        """The same as a generator."""
        yield 1
        await self.run()

    def sync_steps(self) -> Iterator[int]:
        """A generator that is left at its first value."""
        try:
            yield 1
        finally:
            threading.Event().wait(0.05)
            self.cleaned_up = True

    async def has_begun(self) -> None:
        """Wait until it runs."""
        assert await asyncio.to_thread(self.begun.wait, 5)


class CallbackError(Exception):
    """What a callback raises."""


Leave = Callable[[AsyncAgent, Work, dict[str, Any]], Awaitable[None]]


async def by_a_timeout(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """asyncio.wait_for around a call."""
    turn = asyncio.create_task(asyncio.wait_for(agent.send_message("Go", **options), 0.5))
    with pytest.raises(TimeoutError):
        await turn


async def by_cancelling(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """The task that awaits a call is cancelled."""
    turn = asyncio.create_task(agent.send_message("Go", **options))
    await work.has_begun()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn


async def by_cancelling_twice(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """The second time while the clean-up is under way, which is interrupted then, but has ended."""
    turn = asyncio.create_task(agent.send_message("Go", **options))
    await work.has_begun()
    turn.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("inferencesh tool")] == []
    work.cleaned_up = True  # as far as it was let


async def by_the_end_of_a_block(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """Out of an ``async with``, while nobody waits for the stream."""
    async with agent.send_message("Go", stream=True, **options) as stream:
        reader = asyncio.create_task(stream.get_final_message())
        await work.has_begun()
    with pytest.raises(InferenceError):
        await reader


async def by_an_error_in_a_block(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """The block raises while the stream is read by another task."""
    readers: list[asyncio.Task[Any]] = []

    async def use() -> None:
        async with agent.send_message("Go", stream=True, **options) as stream:
            readers.append(asyncio.create_task(stream.get_final_message()))
            await work.has_begun()
            raise CallbackError

    with pytest.raises(CallbackError):
        await use()
    with pytest.raises(InferenceError):
        await readers[0]


async def by_closing(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """aclose()."""
    stream = agent.send_message("Go", stream=True, **options)
    reader = asyncio.create_task(stream.get_final_message())
    await work.has_begun()
    await stream.aclose()
    assert work.cleaned_up
    with pytest.raises(InferenceError):
        await reader


async def by_a_failing_callback(agent: AsyncAgent, work: Work, options: dict[str, Any]) -> None:
    """on_tool_call raises about another call of the same message."""

    async def on_tool_call(call: ToolCall) -> None:
        if call.name == "other":
            await work.has_begun()
            raise CallbackError

    with pytest.raises(CallbackError):
        await agent.send_message("Go", on_tool_call=on_tool_call, **options)


WAYS: list[Leave] = [
    *(by_a_timeout, by_cancelling, by_cancelling_twice, by_the_end_of_a_block),
    *(by_an_error_in_a_block, by_closing, by_a_failing_callback),
]


def tools(work: Work, handler: Callable[..., Any] | None = None) -> dict[str, Any]:
    """An agent with the work, and a second tool."""
    other = tool("other").handler(work.has_begun).build()
    return {"name": "t", "tools": [tool("work").handler(handler or work.run).build(), other]}


@pytest.mark.parametrize("conflate", [False, True], ids=["whole", "conflated"])
@pytest.mark.parametrize("generator", [False, True], ids=["handler", "generator"])
@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
async def test_clean_up_has_run_when_a_turn_was_left(
    serve: Serve, leave: Leave, generator: bool, conflate: bool
) -> None:
    """And no stream is open, nor anything posted for the call."""
    work = Work()
    served = serve([TEXT, Calls("work", {}), Calls("other", {})], ["done"])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(tools(work, work.steps if generator else None))
        await leave(agent, work, {"conflate": conflate})
        assert work.cleaned_up
        await asyncio.to_thread(served.wait_until_left)
    assert len(served.script.asked) == 1


async def test_clean_up_of_a_sync_generator_is_waited_for(serve: Serve) -> None:
    """It is closed in a thread, and stands at a value at that time."""
    work = Work()
    reached = asyncio.Event()

    async def hold(call: ToolCall, value: object) -> None:
        reached.set()
        await asyncio.get_running_loop().create_future()

    async with AsyncInference(**serve([Calls("work", {})]).address) as client:
        turn = asyncio.create_task(client.agent(tools(work, work.sync_steps)).send_message("Go", on_tool_progress=hold))
        await reached.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert work.cleaned_up


async def test_closing_the_client_ends_handlers(serve: Serve) -> None:
    """Of a stream that somebody holds, and nobody reads at the time."""
    work = Work()
    served = serve([TEXT, Calls("work", {})], ["done"])
    client = AsyncInference(**served.address)
    stream = client.agent(tools(work)).send_message("Go", stream=True)
    reader = asyncio.create_task(stream.get_final_message())
    await work.has_begun()
    await client.aclose()
    assert work.cleaned_up
    with pytest.raises(InferenceError):
        await reader


async def test_a_handler_may_close_its_own_client(serve: Serve) -> None:
    """It is cancelled by that, and does not wait for itself, in a task of its own neither."""
    served = serve([Calls("work", {})], ["done"])
    client = AsyncInference(**served.address)

    async def close() -> None:
        await asyncio.create_task(client.aclose())

    agent = client.agent({"name": "t", "tools": [tool("work").handler(close).build()]})
    with pytest.raises(InferenceError):
        await asyncio.wait_for(agent.send_message("Go"), 5)
    await client.aclose()


async def test_what_does_not_end_is_told_of(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that goes on although it was cancelled: the log says what is waited for."""
    monkeypatch.setattr("inferencesh._loops.threads._LOG_AFTER", 0.05)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    async with AsyncInference(**serve([Calls("work", {})]).address) as client:
        agent = client.agent({"name": "t", "tools": [tool("work").handler(stubborn).build()]})
        turn = asyncio.create_task(agent.send_message("Go"))
        await begun.wait()
        turn.cancel()
        await asyncio.to_thread(wait_until, lambda: warnings_of(caplog), "a line in the log")
        assert not turn.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await turn
    (warning, *_) = warnings_of(caplog)
    assert "inferencesh tool work" in warning.getMessage()


async def test_clean_up_of_on_progress_has_run_when_an_upload_was_left(serve: Serve) -> None:
    """Also where it is called while the file is on its way."""
    work = Work()

    async def on_progress(sent: int, total: int | None) -> None:
        if sent and sent != total:
            await work.run()

    async with AsyncInference(**serve().address) as client:
        upload = asyncio.create_task(client.files.upload(bytes(1024 * 1024), filename="a", on_progress=on_progress))
        await work.has_begun()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert work.cleaned_up


# -- the blocking client -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CallbackError, KeyboardInterrupt])
def test_a_blocking_call_waits_for_clean_up(serve: Serve, error: type[BaseException]) -> None:
    """What a callback raises comes out when the handler that runs on the background loop has cleaned up."""
    work = Work()
    served = serve([TEXT, Calls("work", {}), Calls("other", {})], ["done"])

    def fail(call: ToolCall) -> None:
        if call.name == "other":
            assert work.begun.wait(5)
            raise error

    with Inference(**served.address) as client:
        with pytest.raises(error):
            client.agent(tools(work)).send_message("Go", on_tool_call=fail)
        assert work.cleaned_up
        served.wait_until_left()

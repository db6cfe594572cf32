"""The async client and event loops: any number of them, and none that it blocks."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from inferencesh import AsyncInference, InferenceError, Message, ToolCall, inline, string, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, Served

from .conftest import Serve

CALL = Calls("worker", {})
MADE_AT_IMPORT_TIME = AsyncInference("inf_local", base_url="http://127.0.0.1:1")

spoken: ContextVar[str] = ContextVar("spoken", default="nothing")


async def whole_turn(client: AsyncInference) -> Message:
    """A turn on a new chat."""
    return await client.agent("tests/agent").send_message("Hi")


# -- several loops -----------------------------------------------------------------------------------------------------


def test_a_client_may_be_made_before_there_is_a_loop() -> None:
    """At import time; agents and streams too."""
    stream = MADE_AT_IMPORT_TIME.agent("tests/agent").send_message("Hi", stream=True)
    with pytest.raises(InferenceError, match="no connection could be made"):
        asyncio.run(stream.get_final_message(), debug=True)


def test_one_client_on_one_loop_after_the_other(serve: Serve) -> None:
    """Never closed: each loop closes what it opened, without a word."""
    served = serve(["Hello"])
    client = AsyncInference(**served.address)
    for _ in range(3):
        assert asyncio.run(whole_turn(client), debug=True).text == "Hello"


def test_one_agent_on_one_loop_after_the_other(serve: Serve) -> None:
    """A conversation goes on, and a turn that was left on one loop is taken up on the next."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"], ["two"])
    agent = AsyncInference(**served.address).agent("tests/agent")

    async def begin() -> str:
        async for snapshot in agent.send_message("Hi", stream=True):
            return snapshot.text
        raise AssertionError

    async def go_on() -> list[str]:
        gate.open()
        first = await agent.wait()
        return [first.text, (await agent.send_message("And?")).text]

    assert asyncio.run(begin(), debug=True) == "Hello,"
    assert asyncio.run(go_on(), debug=True) == ["Hello, world", "two"]


def test_one_client_on_several_loops_at_once(serve: Serve) -> None:
    """Each in a thread of its own, all in the middle of a turn at the same time."""
    gates = [Gate() for _ in range(3)]
    served = serve(*[("Hello,", gate, " world") for gate in gates])
    client = AsyncInference(**served.address)
    replies: list[str] = []

    def run() -> None:
        replies.append(asyncio.run(whole_turn(client), debug=True).text)

    threads = [threading.Thread(target=run) for _ in gates]
    for thread in threads:
        thread.start()
    for gate in gates:
        gate.reached()
    for gate in gates:
        gate.open()
    for thread in threads:
        thread.join(5)
    assert replies == ["Hello, world"] * 3


def test_closing_on_one_loop_closes_the_others(serve: Serve) -> None:
    """aclose() ends streams of other loops too; their readers get an error, not silence."""
    served = serve(["Hello,", Gate(), " world"])
    client = AsyncInference(**served.address)
    reading = threading.Event()
    ends: list[BaseException] = []

    async def read() -> None:
        async for _ in client.agent("tests/agent").send_message("Hi", stream=True):
            reading.set()

    def run() -> None:
        try:
            asyncio.run(read(), debug=True)
        except InferenceError as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert reading.wait(5)
    asyncio.run(client.aclose(), debug=True)
    thread.join(5)
    assert len(ends) == 1
    assert "closed" in str(ends[0])


async def test_many_streams_at_once_on_one_client(serve: Serve) -> None:
    """More than aiohttp's own limit of 100 connections."""
    count, gate = 110, Gate()
    served = serve(["Hello,", gate, " world"])
    async with AsyncInference(**served.address) as client:
        streams = [client.agent("tests/agent").send_message("Hi", stream=True) for _ in range(count)]
        assert {snapshot.text for snapshot in await asyncio.gather(*map(anext, streams))} == {"Hello,"}
        assert served.runtime.open_streams == count
        gate.open()
        replies = await asyncio.gather(*(stream.get_final_message() for stream in streams))
        assert {reply.text for reply in replies} == {"Hello, world"}


async def test_a_dropped_client_closes_its_connections(serve: Serve) -> None:
    """One that nobody holds any more, on a loop that goes on."""
    served = serve(["Hello,", Gate(), " world"])
    stream = AsyncInference(**served.address).agent("tests/agent").send_message("Hi", stream=True)
    await anext(stream)
    del stream
    gc.collect()
    for _ in range(200):
        if served.runtime.open_streams == 0:
            break
        await asyncio.sleep(0.005)
    assert served.runtime.open_streams == 0


# -- nothing of ours blocks the loop -----------------------------------------------------------------------------------


class Blocked:
    """A function of the user that blocks its thread until the loop has shown that it goes on without it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, *_: object) -> str:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.go.wait(5), "the event loop stood still"
        return "done"

    async def loop_goes_on(self, client: AsyncInference) -> None:
        """Only a loop that runs can get through this: another turn, while the function blocks."""
        await asyncio.to_thread(self.entered.wait, 5)
        assert (await client.agent("tests/other").send_message("Hi")).text == "done"
        self.go.set()


Use = Callable[[AsyncInference, Blocked], Coroutine[Any, Any, Message]]
USES: dict[str, Use] = {
    "a handler": lambda client, blocked: client.agent(
        {"name": "t", "tools": [tool("worker").handler(blocked).build()]}
    ).send_message("Hi"),
    "on_tool_call": lambda client, blocked: client.agent(
        {"name": "t", "tools": [tool("worker").handler(str).build()]}
    ).send_message("Hi", on_tool_call=blocked),
    "on_message": lambda client, blocked: client.agent("tests/agent").send_message("Hi", on_message=blocked),
}


@pytest.mark.parametrize("use", USES)
async def test_a_function_that_blocks_does_not_block_the_loop(serve: Serve, use: str) -> None:
    """While it blocks its worker thread, the same loop and client do a whole other turn."""
    blocked = Blocked()
    steps = [["done"]] if use == "on_message" else [[CALL], ["done"]]
    async with AsyncInference(**serve(*steps).address) as client:
        turn = asyncio.ensure_future(USES[use](client, blocked))
        await blocked.loop_goes_on(client)
        assert (await turn).text == "done"
    assert threading.get_ident() not in blocked.threads


async def test_blocking_handlers_run_at_once(serve: Serve) -> None:
    """Four of them stand at one barrier, which none could pass alone."""
    barrier = threading.Barrier(4)
    worker = tool("worker").handler(lambda: str(barrier.wait(5))).build()
    served = serve([CALL] * 4, ["done"])
    async with AsyncInference(**served.address) as client:
        assert (await client.agent({"name": "t", "tools": [worker]}).send_message("Go")).text == "done"
    told = sorted(message.text for message in served.script.asked[1].messages if message.role == "tool")
    assert told == ["0", "1", "2", "3"]


async def test_a_blocked_handler_does_not_hold_up_leaving(serve: Serve) -> None:
    """Closing its stream returns at once; the thread is left to itself and posts nothing."""
    blocked = Blocked()
    served = serve([CALL], ["done"])
    worker = tool("worker").handler(blocked).build()
    async with AsyncInference(**served.address) as client:
        agent = client.agent({"name": "t", "tools": [worker]})
        stream = agent.send_message("Hi", stream=True)
        reader = asyncio.create_task(stream.get_final_message())
        await asyncio.to_thread(blocked.entered.wait, 5)
        await asyncio.wait_for(stream.aclose(), 1)
        blocked.go.set()
        with pytest.raises(InferenceError, match="closed before the reply was complete"):
            await asyncio.wait_for(reader, 1)
        reply = await agent.wait()
        assert [call.name for call in reply.pending_tool_calls] == ["worker"]


async def test_threads_of_functions_are_used_again(serve: Serve) -> None:
    """By the turns that follow one another on a loop; they are daemons, which do not hold up the interpreter's end."""
    threads: set[threading.Thread] = set()
    async with AsyncInference(**serve(["Hello"]).address) as client:
        for _ in range(3):
            message = await client.agent("a/b").send_message(
                "Hi", on_message=lambda *_: threads.add(threading.current_thread())
            )
            assert message.text == "Hello"
    (thread,) = threads
    assert thread.daemon


async def test_functions_declared_cheap_run_on_the_loop(serve: Serve) -> None:
    """Callbacks and handlers marked with ``inline`` are called on the loop's own thread."""
    threads: set[int] = set()

    @inline
    def note(*_: object) -> str:
        threads.add(threading.get_ident())
        return "42"

    worker = tool("worker").handler(note).build()
    async with AsyncInference(**serve([CALL], ["done"]).address) as client:
        agent = client.agent({"name": "t", "tools": [worker]})
        await agent.send_message("Hi", on_message=note, on_tool_call=note)
    assert threads == {threading.get_ident()}


async def test_functions_see_the_context_of_the_caller(serve: Serve) -> None:
    """Context variables set around a turn are seen by everything it calls, on the loop and in threads."""
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.append(spoken.get())

    async def note_on_the_loop(call: ToolCall) -> None:
        note()

    worker = tool("worker").handler(note).build()
    spoken.set("here")
    async with AsyncInference(**serve([CALL], ["done"]).address) as client:
        agent = client.agent({"name": "t", "tools": [worker]})
        await agent.send_message("Hi", on_message=note, on_tool_call=note_on_the_loop)
    assert len(seen) >= 4
    assert set(seen) == {"here"}


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conflate", [False, True], ids=["whole", "conflated"])
async def test_a_reader_ends_when_its_stream_is_closed_elsewhere(serve: Serve, conflate: bool) -> None:
    """Another task closes the stream: the reader comes to an end, and nothing is opened again."""
    served = serve(["Hello,", Gate(), " world"])
    async with AsyncInference(**served.address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        await anext(stream)
        reader = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0)
        await stream.aclose()
        assert await asyncio.wait_for(reader, 1) is None
        await asyncio.to_thread(served.wait_until_left)


@pytest.mark.parametrize("conflate", [False, True], ids=["whole", "conflated"])
async def test_a_cancelled_reader_closes_its_connection(serve: Serve, conflate: bool) -> None:
    """Even where the stream itself is kept; it can be taken up again."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"])
    async with AsyncInference(**served.address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        await anext(stream)
        reader = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await asyncio.to_thread(served.wait_until_left)
        gate.open()
        assert (await stream.get_final_message()).text == "Hello, world"
        assert len(served.script.asked) == 1


async def test_a_message_that_may_have_been_sent_is_not_sent_again(serve: Serve, silent_server: str) -> None:
    """A stream cancelled while its message was being posted refuses to go on: nobody knows what the server has."""
    async with AsyncInference("inf_local", base_url=silent_server) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.1)
        with pytest.raises(InferenceError):
            await asyncio.wait_for(anext(stream), 0.1)


async def test_tools_are_cancelled_with_their_turn(serve: Serve) -> None:
    """An async handler under way is cancelled when the stream is closed, before aclose() returns."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def endless(expression: str) -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    worker = tool("worker").param("expression", string()).handler(endless).build()
    async with AsyncInference(**serve([Calls("worker", {"expression": "1"})], ["done"]).address) as client:
        stream = client.agent({"name": "t", "tools": [worker]}).send_message("Hi", stream=True)
        reader = asyncio.create_task(stream.get_final_message())
        await asyncio.wait_for(started.wait(), 5)
        await stream.aclose()
        assert ended.is_set()
        with pytest.raises(InferenceError):
            await asyncio.wait_for(reader, 1)


def test_a_loop_that_ends_in_the_middle_of_a_stream(serve: Serve) -> None:
    """asyncio.run ends, and the connection with it, whoever still holds the stream."""
    served: Served = serve(["Hello,", Gate(), " world"])
    client = AsyncInference(**served.address)
    kept = [client.agent("tests/agent").send_message("Hi", stream=True)]

    async def first() -> str:
        return (await anext(kept[0])).text

    assert asyncio.run(first(), debug=True) == "Hello,"
    served.wait_until_left()
    kept.clear()
    gc.collect()

"""Leaving a turn of the async client, by any way: the connection closes, the run goes on, the client works on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from inferencesh import AsyncAgent, AsyncInference, InferenceError, string, tool
from tests.support import eventually

from .forms import CALL, call_of, chat, message
from .script import RST, STALL, Reply, Scenario, Script, after, heartbeats, hold, together
from .server import FaultServer
from .turns import POST, STOP, STREAM, TEXT, client_options

HEL = message("Hel")
ENDLESS: Script = (chat("working"), HEL, heartbeats(1000, 0.05))
WHOLE: Script = (chat("working"), HEL, message(TEXT, "ready"), chat("completed"))
Leave = Callable[[AsyncAgent, FaultServer], Awaitable[None]]


class BodyError(Exception):
    """What the body of a loop raises."""


async def by_break(agent: AsyncAgent, server: FaultServer) -> None:
    """Out of a plain loop, over a stream that nobody else holds."""
    async for _ in agent.send_message("Hi", stream=True):
        break


async def by_break_within_a_block(agent: AsyncAgent, server: FaultServer) -> None:
    """Out of a loop over a stream that is a context manager."""
    async with agent.send_message("Hi", stream=True) as stream:
        async for _ in stream:
            break


async def by_an_exception(agent: AsyncAgent, server: FaultServer) -> None:
    """The body of the loop raises, and nobody keeps the exception."""

    async def read() -> None:
        async for _ in agent.send_message("Hi", stream=True):
            raise BodyError

    with pytest.raises(BodyError):
        await read()


async def by_an_exception_within_a_block(agent: AsyncAgent, server: FaultServer) -> None:
    """The body of a block raises; the exception, which holds the frame, is still alive when the stream closes."""

    async def read() -> None:
        async with agent.send_message("Hi", stream=True) as stream:
            await anext(stream)
            raise BodyError

    with pytest.raises(BodyError) as caught:
        await read()
    await eventually(lambda: server.streams == 0, "end of the stream")
    assert caught.tb is not None


async def by_an_exception_in_a_callback(agent: AsyncAgent, server: FaultServer) -> None:
    """on_message raises."""

    def broken(text: str, done: bool) -> None:
        raise BodyError

    with pytest.raises(BodyError):
        await agent.send_message("Hi", on_message=broken)


async def by_cancelling_the_task(agent: AsyncAgent, server: FaultServer) -> None:
    """The task that waits for the next snapshot is cancelled."""
    seen = asyncio.Event()

    async def read() -> None:
        async for _ in agent.send_message("Hi", stream=True):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_cancelling_a_call(agent: AsyncAgent, server: FaultServer) -> None:
    """The task that waits for the reply is cancelled."""
    task = asyncio.create_task(agent.send_message("Hi"))
    await eventually(lambda: server.streams, "stream", 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_timeout(agent: AsyncAgent, server: FaultServer) -> None:
    """asyncio.timeout around a call."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await agent.send_message("Hi")


async def by_dropping_it(agent: AsyncAgent, server: FaultServer) -> None:
    """The last reference to the stream goes away."""
    stream = agent.send_message("Hi", stream=True)
    assert (await anext(stream)).text == "Hel"
    del stream
    gc.collect()


async def by_closing_it(agent: AsyncAgent, server: FaultServer) -> None:
    """aclose(), twice; a closed stream yields nothing more."""
    stream = agent.send_message("Hi", stream=True)
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert [snapshot async for snapshot in stream] == []
    assert stream.message is not None
    assert stream.message.text == "Hel"


async def by_closing_it_elsewhere(agent: AsyncAgent, server: FaultServer) -> None:
    """Another task closes the stream that is being read; the reader comes to an end."""
    stream = agent.send_message("Hi", stream=True)
    await anext(stream)
    reader = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    await stream.aclose()
    async with asyncio.timeout(1):
        await asyncio.wait([reader])
    assert reader.exception() is None or isinstance(reader.exception(), InferenceError)


async def by_ending_a_generator_around_it(agent: AsyncAgent, server: FaultServer) -> None:
    """A generator of the caller's, such as a web framework's response body, is closed early."""

    async def body() -> AsyncIterator[str]:
        async with agent.send_message("Hi", stream=True) as stream:
            async for snapshot in stream:
                yield snapshot.text

    pieces = body()
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined] # it is a generator


WAYS: list[Leave] = [
    by_break,
    by_break_within_a_block,
    by_an_exception,
    by_an_exception_within_a_block,
    by_an_exception_in_a_callback,
    by_cancelling_the_task,
    by_cancelling_a_call,
    by_a_timeout,
    by_dropping_it,
    by_closing_it,
    by_closing_it_elsewhere,
    by_ending_a_generator_around_it,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda leave: leave.__name__)
async def test_leaving_a_stream_closes_its_connection(leave: Leave) -> None:
    """Within a second, without stopping the run; the next call on the client works."""
    with FaultServer(Scenario(streams=[ENDLESS, WHOLE])) as server:
        async with AsyncInference(**client_options(server)) as client:
            await leave(client.agent("a/b"), server)
            await eventually(lambda: server.streams == 0, "end of the stream")
            assert server.seen(STOP) == []
            reply = await client.agent("a/b").send_message("Hi")
            assert reply.text == TEXT
            assert len(server.seen(POST)) == 2
        await eventually(lambda: not server.connections, "closed connections")


@pytest.mark.parametrize("post", [(STALL,), (Reply({}, 429, {"Retry-After": "30"}),)], ids=["posting", "waiting"])
async def test_a_call_can_be_left_while_it_is_being_sent(post: Script) -> None:
    """Cancelled while the message is posted, or while a repetition is waited for."""
    with FaultServer(Scenario(post=[post])) as server:
        async with AsyncInference(**client_options(server, timeout=60)) as client:
            task = asyncio.create_task(client.agent("a/b").send_message("Hi"))
            await eventually(lambda: server.seen(POST), "request", 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await eventually(lambda: not server.connections, "closed connections")
    assert len(server.seen(POST)) == 1


async def test_a_stream_can_be_left_while_it_reconnects() -> None:
    """Cancelled in the middle of a connection that gets no answer."""
    with FaultServer(Scenario(streams=[(HEL, RST), (STALL,)])) as server:
        async with AsyncInference(**client_options(server)) as client:
            stream = client.agent("a/b").send_message("Hi", stream=True)
            await anext(stream)
            task = asyncio.create_task(anext(stream))
            await eventually(lambda: len(server.seen(STREAM)) == 2, "second connection", 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del stream, task
            await eventually(lambda: server.streams == 0, "end of the stream")


async def test_closing_the_client_ends_its_streams() -> None:
    """A reader whose client is closed gets a typed error with the last snapshot, not silence."""
    with FaultServer(Scenario(streams=[ENDLESS])) as server:
        client = AsyncInference(**client_options(server))
        stream = client.agent("a/b").send_message("Hi", stream=True)
        await anext(stream)
        reader = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(InferenceError) as caught:
            await asyncio.wait_for(reader, 1)
        assert caught.value.message is not None
        assert caught.value.message.text == "Hel"
        await eventually(lambda: not server.connections, "closed connections")
        with pytest.raises(InferenceError):
            await client.agent("a/b").send_message("Hi")


async def test_a_stream_that_is_never_read_sends_nothing() -> None:
    """Made and dropped: no request, no warning about it."""
    with FaultServer(Scenario(streams=[WHOLE])) as server:
        async with AsyncInference(**client_options(server)) as client:
            client.agent("a/b").send_message("Hi", stream=True)
            gc.collect()
        assert server.requests == []


async def test_leaving_cancels_the_tools_of_the_turn() -> None:
    """An async handler that still runs when the turn is left is cancelled; no result is posted."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def endless(expression: str) -> str:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        raise AssertionError

    calculator = tool("calculator").param("expression", string()).handler(endless).build()
    asks = message("", calls=[call_of()])
    with FaultServer(Scenario(streams=[(chat("working"), asks, STALL)])) as server:
        async with AsyncInference(**client_options(server)) as client:
            task = asyncio.create_task(client.agent({"name": "t", "tools": [calculator]}).send_message("Hi"))
            await asyncio.wait_for(started.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(ended.wait(), 1)
            await eventually(lambda: server.streams == 0, "end of the stream")
        assert server.seen(f"POST /tools/{CALL}") == []


def test_one_client_serves_one_loop_after_the_other() -> None:
    """asyncio.run may end under an open stream; the connection closes with it, and the next loop works."""
    with FaultServer(Scenario(streams=[ENDLESS, WHOLE])) as server:
        client = AsyncInference(**client_options(server))

        async def leave() -> None:
            await anext(client.agent("a/b").send_message("Hi", stream=True))

        async def whole() -> str:
            reply = await client.agent("a/b").send_message("Hi")
            await client.aclose()
            return reply.text

        asyncio.run(leave(), debug=True)
        server.wait_until_no_connections()
        assert asyncio.run(whole(), debug=True) == TEXT
        server.wait_until_no_connections()


async def test_a_stream_that_is_over_does_not_disturb_the_one_that_took_its_turn_up() -> None:
    """It may be dropped, or left once more, at any time later, such as while a tool of the other one is under way."""
    waits = message("Hm.", calls=[call_of("awaiting_approval")])
    asks, more = (message(text, calls=[call_of()]) for text in ("Hm.", "Hm. So"))
    rest = (after(f"POST /tools/{CALL}"), message(TEXT, "ready", id="reply2", order=14), chat("completed"))
    pause = chat("input_required")
    streams = [(chat("working"), waits, pause), (asks, pause, hold("left"), together(more, pause), *rest)]
    seen = asyncio.Event()

    with FaultServer(Scenario(streams=streams)) as server:
        async with AsyncInference(**client_options(server)) as client:

            async def calculator(expression: str) -> str:
                first._leave()
                server.release("left")
                await seen.wait()
                return "714"

            built = tool("calculator").param("expression", string()).handler(calculator).build()
            agent = client.agent({"name": "tester", "tools": [built]})
            first = agent.send_message("Hi", stream=True)
            await first.get_final_message()
            await agent.approve_tool(CALL)
            async for snapshot in (second := agent.stream_messages()):
                if snapshot.text == "Hm. So":
                    seen.set()
            assert (await second.get_final_message()).text == TEXT


async def test_a_loop_ends_when_its_stream_is_closed_in_it() -> None:
    """Although further snapshots have arrived with the one that it has."""
    lines = together(chat("working"), *(message("x" * size) for size in range(1, 9)))
    with FaultServer(Scenario(streams=[(lines, STALL)])) as server:
        async with AsyncInference(**client_options(server)) as client:
            stream = client.agent("a/b").send_message("Hi", stream=True)
            seen = []
            async for snapshot in stream:
                seen.append(snapshot.text)
                if len(seen) == 2:  # of the batch's eight
                    await stream.aclose()
            assert seen == ["x", "xx"]

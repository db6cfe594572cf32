"""A client that is closed while functions of its caller run: a typed error, no word of event loops, nothing left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference, InferenceError, tool
from inferencesh.local import ToolCall
from tests.faults.forms import CHAT, TASK, chat, message, task_of
from tests.faults.script import STALL, Scenario
from tests.faults.server import FaultServer
from tests.faults.turns import client_options
from tests.support import Kind, Script, wait_until

from .conftest import Serve

CALL = ToolCall("clock", {})
WHERE = ("handler", "generator", "on_tool_call", "on_tool_progress", "on_approval", "on_message", "on_progress")


def use(client: Any, where: str, function: Callable[..., Any]) -> Any:
    """Something that calls back: ``function`` in one of the places."""
    if where == "on_progress":
        return client.files.upload(b"abc", on_progress=function)

    def steps() -> Any:
        yield 1
        function()
        yield 2

    def values() -> Any:
        yield from (1, 2)

    handler = {"handler": function, "generator": steps, "on_tool_progress": values}.get(where, lambda: "noon")
    clock = tool("clock").handler(handler)
    made = (clock.require_approval() if where == "on_approval" else clock).build()
    callbacks = {where: function} if where.startswith("on_") else {}
    return client.agent({"name": "t", "tools": [made]}).send_message("Hi", **callbacks)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("closer", ["itself", "another thread"])
def test_a_blocking_client_is_closed_in_a_callers_function(serve: Serve, where: str, closer: str) -> None:
    """The function runs to its end, and the call that has called it raises an InferenceError that says why."""
    client = Inference(**serve([CALL], ["Noon."]).address)
    ended = []

    def close(*_: object) -> str:
        if closer == "itself":
            client.close()
        else:
            closing = threading.Thread(target=client.close)
            closing.start()
            closing.join(5)
            assert not closing.is_alive(), "close() waits for the function"
        ended.append("ended")
        return "noon"

    with pytest.raises(InferenceError, match="closed"):
        use(client, where, close)
    assert set(ended) == {"ended"}  # on_message is told of what had arrived already


@pytest.mark.parametrize(
    ("where", "style"),
    # the generator of this test is a plain one
    [(where, style) for where in WHERE for style in ("sync", "async") if (where, style) != ("generator", "async")],
)
async def test_an_async_client_is_closed_in_a_callers_function(serve: Serve, where: str, style: str) -> None:
    """By the function itself: the same."""
    client, loop = AsyncInference(**serve([CALL], ["Noon."]).address), asyncio.get_running_loop()
    ended = []

    def close(*_: object) -> str:
        asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(5)
        ended.append("ended")
        return "noon"

    async def close_async(*_: object) -> str:
        await client.aclose()
        ended.append("ended")
        return "noon"

    with pytest.raises(InferenceError, match="closed"):
        await asyncio.wait_for(use(client, where, close if style == "sync" else close_async), 5)
    if style == "sync":  # an async function is cancelled with its turn
        wait_until(lambda: ended, "the end of the function")


@pytest.mark.parametrize("where", ["handler", "on_tool_call"])
async def test_an_embedded_runtime_is_stopped_by_a_function_that_is_cancelled_with_its_turn(where: str) -> None:
    """The function closes the client, which ends the turn and the function with it, but not the closing."""
    before = set(threading.enumerate())
    client = AsyncInference.local(model=Script([CALL], ["Noon."]))

    async def close(*_: object) -> str:
        await client.aclose()
        return "noon"

    with pytest.raises(InferenceError, match="closed"):
        await asyncio.wait_for(use(client, where, close), 5)
    started = {each for each in threading.enumerate() if each.name == "inferencesh.local"} - before
    wait_until(lambda: not any(each.is_alive() for each in started), "the end of the runtime")


def close_at_once(*things: Any) -> list[BaseException]:
    """Close each on a thread of its own; returns what they raised."""
    failures: list[BaseException] = []
    at_once = threading.Barrier(len(things))

    def close(thing: Any) -> None:
        at_once.wait(5)
        try:
            thing.close()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            failures.append(error)

    threads = [threading.Thread(target=close, args=(thing,)) for thing in things]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    return failures


def test_several_threads_close_at_once(serve: Serve) -> None:
    """The client and a stream of it: none of them fails, whoever is first."""
    address = serve(["Hello,", " world"]).address
    for _ in range(20):
        client = Inference(**address)
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        next(stream)
        assert close_at_once(client, stream, client, stream) == []


# -- streams -----------------------------------------------------------------------------------------------------------

SILENT = Scenario(
    streams=[(chat("working"), message("Hel"), STALL)],
    answers={"GET /lines": [(b'{"a": 1}\n', STALL)], f"GET /tasks/{TASK}/stream": [(task_of(7), STALL)]},
)
STREAMS: dict[str, Callable[[Any], Any]] = {
    "a turn": lambda client: client.agent("a/b").send_message("Hi", stream=True),
    "the newest of a turn": lambda client: client.agent("a/b").send_message("Hi", stream=True, conflate=True),
    "a task": lambda client: client.tasks.run("a/b", {}, stream=True),
    "events": lambda client: client.agent("a/b", chat_id=CHAT).stream_events(),
    "a response": lambda client: client.stream("GET", "/lines"),
}
CLOSED = InferenceError("the client was closed while this stream was open")


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("closed", ["stream", "client"])
def test_a_stream_that_is_closed_while_it_is_read_ends(kind: Kind, make: Callable[[Any], Any], closed: str) -> None:
    """By another task or thread: as after its last item. The end of the client is an error that says so."""
    with FaultServer(SILENT) as server:
        read = _read_async if kind == "async" else _read_sync
        end = read(server, make, closed)
        server.wait_until_no_connections()
    assert repr(end) == repr(None if closed == "stream" else CLOSED)


async def _closed_async(server: FaultServer, make: Callable[[Any], Any], closed: str) -> Exception | None:
    async with AsyncInference(**client_options(server)) as client:
        stream = make(client)
        begun = asyncio.Event()

        async def read() -> Exception | None:
            try:
                async for _ in stream:
                    begun.set()
            except InferenceError as error:
                return error
            return None

        reading = asyncio.create_task(read())
        await begun.wait()
        await asyncio.sleep(0.1)  # until it has read what there is
        await (stream if closed == "stream" else client).aclose()
        return await reading


def _read_async(server: FaultServer, make: Callable[[Any], Any], closed: str) -> Exception | None:
    return asyncio.run(_closed_async(server, make, closed), debug=True)


def _read_sync(server: FaultServer, make: Callable[[Any], Any], closed: str) -> Exception | None:
    ends: list[Exception | None] = []
    begun = threading.Event()
    with Inference(**client_options(server)) as client:
        stream = make(client)

        def read() -> None:
            try:
                for _ in stream:
                    begun.set()
            except InferenceError as error:
                ends.append(error)
            else:
                ends.append(None)

        reading = threading.Thread(target=read)
        reading.start()
        assert begun.wait(5)
        reading.join(0.1)  # until it has read what there is
        (stream if closed == "stream" else client).close()
        reading.join(5)
        assert not reading.is_alive()
    return ends[0]

"""A client that is closed while functions of its caller run: a typed error, no word of event loops, nothing left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference, InferenceError, tool
from inferencesh.local import ToolCall
from tests.support import Script, wait_until

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

"""A handler or callback cannot wait for a turn of the conversation whose turn waits for it: it is told so at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, InferenceError, Message, ToolContext, tool
from inferencesh.local import ToolCall as Calls

from .conftest import Connect, Serve
from .sides import Side

REFUSAL = "a turn of the same conversation is waiting for"

USES: dict[str, Callable[[Any], Any]] = {
    "send_message": lambda agent: agent.send_message("And you?"),
    "a stream": lambda agent: agent.send_message("And you?", stream=True).get_final_message(),
    "run": lambda agent: agent.run("And you?"),
    "stream_messages": lambda agent: agent.stream_messages().get_final_message(),
    "wait": lambda agent: agent.wait(),
    "reset": lambda agent: agent.reset(),
}
CALLBACKS = ("on_message", "on_tool_call", "on_tool_progress", "on_approval")


def using(side: Side, use: Callable[[Any], Any], agent: Callable[[], Any]) -> Callable[..., Any]:
    """A function that uses an agent: on the calling thread of the blocking client, on the loop of the async one."""
    if side.kind == "sync":
        return lambda *_: use(agent())

    async def on_the_loop(*_: object) -> Any:
        made = use(agent())
        return await made if asyncio.iscoroutine(made) else made

    return on_the_loop


@pytest.mark.parametrize("use", USES)
def test_a_handler_is_refused_a_turn_of_its_own(serve: Serve, connect: Connect, use: str) -> None:
    """The agent is told so as of any failure, and its turn goes on."""
    served = serve([Calls("work", {})], ["done"])
    side = connect(served)
    agents: list[Any] = []
    worker = tool("work").handler(using(side, USES[use], lambda: agents[0])).build()
    agents.append(side.agent({"name": "t", "tools": [worker]}))
    assert side.result(agents[0].send_message("Go")).text == "done"
    answer = served.script.asked[1].messages[-1].text
    assert REFUSAL in answer
    assert "client.agent(config)" in answer
    assert len(served.script.asked) == 2


@pytest.mark.parametrize("place", CALLBACKS)
def test_a_callback_is_refused_a_turn_of_its_own(serve: Serve, connect: Connect, place: str) -> None:
    """The error reaches the caller of the turn, with what had come of the reply."""
    served = serve(["Hello", Calls("work", {})], ["done"])
    side = connect(served)
    agents: list[Any] = []

    def steps() -> Any:
        yield 1

    made = tool("work").handler(steps)
    worker = (made.require_approval() if place == "on_approval" else made).build()
    agents.append(side.agent({"name": "t", "tools": [worker]}))
    callback = using(side, USES["send_message"], lambda: agents[0])
    with pytest.raises(InferenceError, match=REFUSAL) as caught:
        side.result(agents[0].send_message("Go", **{place: callback}))
    assert caught.value.chat_id == agents[0].chat_id
    assert caught.value.message is not None
    assert caught.value.message.text == "Hello"


def test_another_agent_in_the_same_chat_is_refused_too(serve: Serve, connect: Connect) -> None:
    """The message would wait in that chat all the same."""
    served = serve([Calls("work", {})], ["done"])
    side = connect(served)
    agents: list[Any] = []
    worker = (
        tool("work")
        .handler(using(side, USES["send_message"], lambda: side.agent("tests/agent", chat_id=agents[0].chat_id)))
        .build()
    )
    agents.append(side.agent({"name": "t", "tools": [worker]}))
    assert side.result(agents[0].send_message("Go")).text == "done"
    assert REFUSAL in served.script.asked[1].messages[-1].text


def test_a_turn_further_out_waits_too(serve: Serve, connect: Connect) -> None:
    """A handler of another agent's turn, which a handler has begun: the outer turn waits for it as well."""
    served = serve([Calls("work", {})], [Calls("ask", {})], ["inner"], ["outer"])
    side = connect(served)
    outer: list[Any] = []

    def ask_inner() -> Any:
        asker = tool("ask").handler(using(side, USES["send_message"], lambda: outer[0])).build()
        return side.agent({"name": "inner", "tools": [asker]})

    worker = tool("work").handler(using(side, lambda agent: agent.send_message("Go on"), ask_inner)).build()
    outer.append(side.agent({"name": "outer", "tools": [worker]}))
    assert side.result(outer[0].send_message("Go")).text == "outer"
    assert REFUSAL in served.script.asked[2].messages[-1].text


def test_a_second_agent_may_be_asked(serve: Serve, connect: Connect) -> None:
    """As the error advises: its conversation is another one, with the same configuration."""
    served = serve([Calls("work", {})], ["inner"], ["outer"])
    side = connect(served)
    config: dict[str, Any] = {"name": "t"}
    ask = using(side, lambda agent: agent.send_message("And you?"), lambda: side.agent(config))
    config["tools"] = [tool("work").handler(ask).build()]
    assert side.result(side.agent(config).send_message("Go")).text == "outer"


def test_what_needs_no_turn_is_allowed(serve: Serve, connect: Connect) -> None:
    """The chat, its history, uploads and stop() from a handler, by its context."""
    served = serve(["Hello", Calls("work", {})], ["done"])
    side = connect(served)
    seen: list[Any] = []

    def in_a_thread(context: ToolContext) -> str:
        seen.append(context.agent.get_chat().id)
        seen.append([message.text for message in context.agent.history()][:2])
        seen.append(context.agent.upload_file(b"notes", filename="notes.txt").filename)
        return "fine"

    async def on_the_loop(context: ToolContext) -> str:
        seen.append((await context.agent.get_chat()).id)
        seen.append([message.text for message in await context.agent.history()][:2])
        seen.append((await context.agent.upload_file(b"notes", filename="notes.txt")).filename)
        return "fine"

    worker = tool("work").handler(in_a_thread if side.kind == "sync" else on_the_loop).build()
    agent = side.agent({"name": "t", "tools": [worker]})
    assert side.result(agent.send_message("Go")).text == "done"
    assert seen == [agent.chat_id, ["Go", "Hello"], "notes.txt"]


@pytest.mark.parametrize("use", ["send_message", "reset"])
def test_the_last_on_message_may_begin_another_turn(serve: Serve, connect: Connect, use: str) -> None:
    """With ``done=True`` the turn is over."""
    served = serve(["one"], ["two"])
    side = connect(served)
    agent = side.agent()
    replies: list[Any] = []
    function = using(side, USES[use], lambda: agent)

    def on_message(text: str, done: bool) -> Any:
        return keep(function()) if done else None

    def keep(result: Any) -> Any:
        if not asyncio.iscoroutine(result):
            replies.append(result)
            return None

        async def later() -> None:
            replies.append(await result)

        return later()

    async def on_the_loop(text: str, done: bool) -> None:
        if done:
            replies.append(await function())

    side.result(agent.send_message("Go", on_message=on_message if side.kind == "sync" else on_the_loop))
    (reply,) = replies
    if use == "reset":
        assert agent.chat_id is None
    else:
        assert isinstance(reply, Message)
        assert reply.text == "two"


def test_what_a_handler_has_started_is_free_when_it_has_returned(serve: Serve, connect: Connect) -> None:
    """A task or thread that goes on after its handler, and then sends a message to the same conversation."""
    served = serve([Calls("work", {})], ["one"], ["two"])
    side = connect(served)
    agents: list[Any] = []
    tasks: list[Any] = []
    over = threading.Event()
    later: list[str] = []

    def in_a_thread() -> str:
        def work() -> None:
            assert over.wait(5)
            later.append(agents[0].send_message("And now?").text)

        tasks.append(threading.Thread(target=work))
        tasks[0].start()
        return "started"

    async def on_the_loop() -> str:
        async def work() -> None:
            await asyncio.to_thread(over.wait, 5)
            later.append((await agents[0].send_message("And now?")).text)

        tasks.append(asyncio.create_task(work()))
        return "started"

    worker = tool("work").handler(in_a_thread if side.kind == "sync" else on_the_loop).build()
    agents.append(side.agent({"name": "t", "tools": [worker]}))
    assert side.result(agents[0].send_message("Go")).text == "one"
    over.set()
    if side.kind == "sync":
        tasks[0].join(5)
    else:

        async def end() -> None:
            await tasks[0]

        side.result(end())
    assert later == ["two"]


async def test_a_sync_handler_of_the_async_client_is_refused_too(serve: Serve) -> None:
    """It runs in a thread, and asks the loop to do it."""
    served = serve([Calls("work", {})], ["done"])
    loop = asyncio.get_running_loop()

    def handler(context: ToolContext) -> Any:
        return asyncio.run_coroutine_threadsafe(context.agent.send_message("And you?"), loop).result(5)

    async with AsyncInference(**served.address) as client:
        agent = client.agent({"name": "t", "tools": [tool("work").handler(handler).build()]})
        assert (await agent.send_message("Go")).text == "done"
    assert REFUSAL in served.script.asked[1].messages[-1].text

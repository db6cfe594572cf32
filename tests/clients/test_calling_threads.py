"""Where the blocking client runs what the user gives it, and from where it may be called."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from inferencesh import Agent, Inference, InferenceError, Message, ToolCall, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, wait_until

from .conftest import Serve
from .styles import styled

CALL = Calls("worker", {})

spoken: ContextVar[str] = ContextVar("spoken", default="nothing")


class Where:
    """A function of the user that notes the threads it is called on."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def __call__(self, *_: object) -> str:
        self.threads.append(threading.current_thread())
        return "done"

    @property
    def here(self) -> bool:
        """Whether it was called, and on this thread alone."""
        return set(self.threads) == {threading.current_thread()}

    @property
    def on_one_other(self) -> bool:
        """Whether it was called, and on one other thread alone."""
        return len(set(self.threads)) == 1 and not self.here


PLAIN = ["a plain function", "a function declared cheap"]
ASYNC = ["a coroutine function", "an object with an async call"]


@pytest.mark.parametrize("streamed", [False, True], ids=["call", "stream"])
@pytest.mark.parametrize("style", PLAIN)
def test_sync_functions_run_on_the_calling_thread(serve: Serve, style: str, streamed: bool) -> None:
    """Callbacks and handlers, whichever thread it is that calls."""
    on_message, on_tool_call, handler = Where(), Where(), Where()
    worker = tool("worker").handler(styled(style, handler)).build()
    with Inference(**serve([CALL, CALL], ["done"]).address) as client:

        def turn() -> None:
            agent = client.agent({"name": "t", "tools": [worker]})
            callbacks: dict[str, Any] = {
                "on_message": styled(style, on_message),
                "on_tool_call": styled(style, on_tool_call),
            }
            if streamed:
                list(agent.send_message("Hi", stream=True, **callbacks))
            else:
                agent.send_message("Hi", **callbacks)
            assert on_message.here
            assert on_tool_call.here
            assert handler.here

        run_in_a_thread(turn)


@pytest.mark.parametrize("style", ASYNC)
def test_async_functions_run_on_the_background_loop(serve: Serve, style: str) -> None:
    """All of them on the same thread, which is not the calling one."""
    where = Where()
    worker = tool("worker").handler(styled(style, where)).build()
    with Inference(**serve([CALL], ["done"]).address) as client:
        agent = client.agent({"name": "t", "tools": [worker]})
        agent.send_message("Hi", on_message=styled(style, where), on_tool_call=styled(style, where))
    assert where.on_one_other
    assert {thread.name for thread in where.threads} == {"inferencesh"}


def test_functions_see_the_context_of_the_caller(serve: Serve) -> None:
    """Context variables are seen by callbacks and handlers, sync and async; sync ones may set them for the caller."""
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.append(spoken.get())

    async def note_on_the_loop(*_: object) -> None:
        note()

    with Inference(**serve([CALL], ["done"]).address) as client:
        for handler, callback in ((note, note_on_the_loop), (note_on_the_loop, note)):
            worker = tool("worker").handler(handler).build()
            agent = client.agent({"name": "t", "tools": [worker]})
            token = spoken.set("here")
            agent.send_message("Hi", on_message=callback, on_tool_call=callback)
            spoken.reset(token)
    assert len(seen) >= 6
    assert set(seen) == {"here"}


# -- calling the client again ------------------------------------------------------------------------------------------


def test_a_handler_may_call_the_client(serve: Serve) -> None:
    """A whole other turn from a handler, with a handler of its own that does the same: no deadlock."""
    served = serve([CALL], [CALL], ["inner"], ["middle"], ["outer"])
    with Inference(**served.address) as client:

        def agent_with(handler: Callable[[], str]) -> Agent:
            return client.agent({"name": "t", "tools": [tool("worker").handler(handler).build()]})

        def innermost() -> str:
            return client.agent("tests/agent").send_message("Hi").text

        def inner() -> str:
            return agent_with(innermost).send_message("Hi").text

        assert agent_with(inner).send_message("Hi").text == "outer"
    assert [asked.messages[-1].text for asked in served.script.asked[3:]] == ["inner", "middle"]


def test_callbacks_may_call_the_client(serve: Serve) -> None:
    """Another turn, the chat, and a stream, from on_message and on_tool_call."""
    with Inference(**serve([CALL], ["done"]).address) as client:
        agent = client.agent({"name": "t", "tools": [tool("worker").handler(str).build()]})
        heard: list[object] = []

        def on_message(text: str, done: bool) -> None:
            heard.append(agent.get_chat().id)

        def on_tool_call(call: ToolCall) -> None:
            heard.append([snapshot.text for snapshot in client.agent("a/b").send_message("Hi", stream=True)][-1])

        agent.send_message("Hi", on_message=on_message, on_tool_call=on_tool_call)
    assert agent.chat_id in heard
    assert "done" in heard


def test_an_async_handler_cannot_wait_for_its_own_loop(serve: Serve) -> None:
    """It gets an error that says what to do, at once; the agent is told, and nothing is left unawaited."""
    served = serve([CALL], ["done"])
    with Inference(**served.address) as client:

        async def handler() -> str:
            return client.agent("tests/agent").send_message("Hi").text

        agent = client.agent({"name": "t", "tools": [tool("worker").handler(handler).build()]})
        assert agent.send_message("Hi").text == "done"
    assert "called from its own event loop" in served.script.asked[1].messages[-1].text
    assert "use AsyncInference" in served.script.asked[1].messages[-1].text


@pytest.mark.parametrize("call", ["get_chat", "stop", "wait", "submit_tool_result"])
def test_no_call_works_on_the_clients_own_loop(serve: Serve, call: str) -> None:
    """From an async callback, every blocking call is refused with the same words."""
    with Inference(**serve([CALL]).address) as client:
        agent = client.agent({"name": "t", "tools": [tool("worker").handler(str).build()]})

        async def on_message(text: str, done: bool) -> None:
            arguments = ("call", "1") if call == "submit_tool_result" else ()
            getattr(agent, call)(*arguments)

        with pytest.raises(InferenceError, match="called from its own event loop"):
            agent.send_message("Hi", on_message=on_message)
        other = client.agent({"name": "t", "tools": [tool("worker").handler(str).build()]})
        with pytest.raises(InferenceError, match="called from its own event loop"):
            other.send_message("Hi", on_tool_call=lambda _call: on_message("", False))


# -- threads and loops -------------------------------------------------------------------------------------------------


def test_several_threads_use_one_client(serve: Serve) -> None:
    """All in the middle of a turn at the same time, over one background thread."""
    gates = [Gate() for _ in range(4)]
    served = serve(*[("Hello,", gate, " world") for gate in gates])
    replies: list[str] = []
    with Inference(**served.address) as client:
        threads = [
            threading.Thread(target=lambda: replies.append(client.agent("a/b").send_message("Hi").text)) for _ in gates
        ]
        for thread in threads:
            thread.start()
        for gate in gates:
            gate.reached()
        assert [thread.name for thread in threading.enumerate()].count("inferencesh") == 1
        for gate in gates:
            gate.open()
        for thread in threads:
            thread.join(5)
    assert replies == ["Hello, world"] * 4


def test_a_stream_may_go_from_thread_to_thread(serve: Serve) -> None:
    """Opened in one, read on in another, one after the other."""
    gate = Gate()
    with Inference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        seen: list[Message] = []
        run_in_a_thread(lambda: seen.append(next(stream)))
        gate.open()
        run_in_a_thread(lambda: seen.extend(stream))
        assert seen[-1].text == stream.get_final_message().text == "Hello, world"


async def test_it_works_inside_a_running_loop(serve: Serve) -> None:
    """As in a notebook: the loop of this thread is running, and is blocked, as whoever writes this wants."""
    with Inference(**serve([CALL], ["done"]).address) as client:
        agent = client.agent({"name": "t", "tools": [tool("worker").handler(str).build()]})
        assert agent.send_message("Hi").text == "done"
        assert [snapshot.text for snapshot in agent.send_message("Hi", stream=True)][-1] == "done"


async def test_it_works_beside_a_running_loop(serve: Serve) -> None:
    """In worker threads of an asyncio program, which goes on meanwhile."""
    gate = Gate()
    with Inference(**serve(["Hello,", gate, " world"]).address) as client:
        turn = asyncio.create_task(asyncio.to_thread(client.agent("a/b").send_message, "Hi"))
        await gate.someone_there()
        gate.open()
        assert (await turn).text == "Hello, world"


def test_a_client_that_was_dropped_ends_its_thread(serve: Serve) -> None:
    """Without close(): when the last reference to client and agents is gone, so is the thread."""
    client = Inference(**serve(["Hello"]).address)
    agent = client.agent("tests/agent")
    texts = [agent.send_message("Hi").text]
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "inferencesh"]
    del client
    gc.collect()
    texts.append(agent.send_message("Hi").text)
    assert thread.is_alive()
    del agent

    def has_ended() -> bool:
        gc.collect()  # again, because the loop may have been at work for the client at the first time
        return not thread.is_alive()

    wait_until(has_ended, "the end of its thread")
    assert texts == ["Hello", "Hello"]


def test_an_unused_client_has_no_thread(serve: Serve) -> None:
    """Making one starts nothing, and neither does closing it."""
    before = set(threading.enumerate())
    client = Inference(**serve().address)
    client.agent("tests/agent").send_message("Hi", stream=True)
    assert {thread.name for thread in set(threading.enumerate()) - before} == {"runtime under test"}
    client.close()


# -- leaving -----------------------------------------------------------------------------------------------------------


class BodyError(Exception):
    """What the body of a loop raises."""


def by_break(agent: Agent, conflate: bool) -> object:
    """Out of the loop, while the stream is kept."""
    stream = agent.send_message("Hi", stream=True, conflate=conflate)
    for _ in stream:
        break
    return stream


def by_an_exception(agent: Agent, conflate: bool) -> object:
    """Out of the loop, while the exception is kept."""

    def read() -> None:
        for _ in agent.send_message("Hi", stream=True, conflate=conflate):
            raise BodyError

    with pytest.raises(BodyError) as caught:
        read()
    return caught.value


def by_an_exception_in_a_callback(agent: Agent, conflate: bool) -> object:
    """Out of a plain call, while the exception is kept."""

    def broken(text: str, done: bool) -> None:
        raise BodyError

    with pytest.raises(BodyError) as caught:
        agent.send_message("Hi", on_message=broken, conflate=conflate)
    return caught.value


def by_dropping_it(agent: Agent, conflate: bool) -> object:
    """The last reference goes away."""
    stream = agent.send_message("Hi", stream=True, conflate=conflate)
    next(stream)
    return None


def by_the_end_of_a_block(agent: Agent, conflate: bool) -> object:
    """Out of a ``with`` block, while the stream is kept."""
    with agent.send_message("Hi", stream=True, conflate=conflate) as stream:
        next(stream)
    return stream


def by_the_end_of_a_generator(agent: Agent, conflate: bool) -> object:
    """A generator around the loop is closed, and kept."""

    def texts() -> Iterator[str]:
        for snapshot in agent.send_message("Hi", stream=True, conflate=conflate):
            yield snapshot.text

    generator = texts()
    next(generator)
    generator.close()  # type: ignore[attr-defined] # it is a generator
    return generator


WAYS = [
    by_break,
    by_an_exception,
    by_an_exception_in_a_callback,
    by_dropping_it,
    by_the_end_of_a_block,
    by_the_end_of_a_generator,
]


@pytest.mark.parametrize("conflate", [False, True], ids=["whole", "conflated"])
@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
def test_leaving_closes_the_connection_and_the_run_goes_on(
    serve: Serve, leave: Callable[[Agent, bool], object], conflate: bool
) -> None:
    """Within a second, whatever is kept; afterwards wait() brings the reply."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"])
    with Inference(**served.address) as client:
        agent = client.agent("tests/agent")
        kept = leave(agent, conflate)
        gc.collect()
        served.wait_until_left()
        gate.open()
        assert agent.wait().text == "Hello, world"
        assert len(served.script.asked) == 1
        del kept


@pytest.mark.parametrize("conflate", [False, True], ids=["whole", "conflated"])
def test_a_reader_ends_when_its_stream_is_closed_elsewhere(serve: Serve, conflate: bool) -> None:
    """Another thread closes it while this one waits: the loop comes to an end, or a typed error does."""
    served = serve(["Hello,", Gate(), " world"])
    with Inference(**served.address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        next(stream)
        ends: list[object] = []

        def read() -> None:
            try:
                ends.append(list(stream))
            except InferenceError as error:
                ends.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.02)  # it also has to work without; this makes it likely that the reader waits already
        stream.close()
        reader.join(2)
        assert len(ends) == 1
        served.wait_until_left()


def test_a_tool_that_was_stopped_midway_is_left_to_the_caller(serve: Serve) -> None:
    """Leaving a turn leaves its calls; a later wait() does not run a handler that had begun for a second time."""
    runs: list[str] = []
    gate = Gate()

    async def handle() -> str:
        runs.append("begun")
        await gate.passed()
        return "42"

    served = serve([CALL], ["done"])
    with Inference(**served.address) as client:
        agent = client.agent({"name": "t", "tools": [tool("worker").handler(handle).build()]})
        stream = agent.send_message("Hi", stream=True)

        def read() -> None:
            with contextlib.suppress(InferenceError):  # that it was closed; or the loop just ends
                list(stream)

        reader = threading.Thread(target=read)
        reader.start()
        gate.reached()
        stream.close()
        reader.join(5)
        (call,) = agent.wait().pending_tool_calls
        agent.submit_tool_result(call.id, "by hand")
        assert agent.wait().text == "done"
    assert runs == ["begun"]
    assert served.script.asked[1].messages[-1].text == "by hand"


def run_in_a_thread(function: Callable[[], Any]) -> None:
    """Run something in a thread and raise here what it raises there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    if errors:
        raise errors[0]

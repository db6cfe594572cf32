"""Time limits made of signals, which raise an ordinary exception in the middle of a blocking call, as Celery's do."""

from __future__ import annotations

import asyncio
import functools
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference, Tool, tool
from tests.uploads.storage import Storage, Way, service

from .forms import CALL, CHAT, call_of, chat, message
from .script import STALL, Scenario, Script, after, heartbeats
from .server import FaultServer
from .turns import POST, STREAM, TEXT, client_options

WORKING = chat("working")
ENDLESS: Script = (WORKING, message("Hel"), heartbeats(1000, 0.05))
WHOLE: Script = (WORKING, message("Hel"), message(TEXT, "ready"), chat("completed"))
ASKS: Script = (WORKING, message("Hel", calls=[call_of()]), heartbeats(1000, 0.05))
ASKS_A_PERSON: Script = (
    WORKING,
    message("Hel", calls=[call_of("awaiting_approval", type="app")]),
    heartbeats(1000, 0.05),
)


class LimitError(Exception):
    """What the time limit raises."""


def over(*_: object) -> None:
    """The signal handler of the limit."""
    raise LimitError


class Over:
    """Signal handlers of other forms than a function."""

    def method(self, *_: object) -> None:
        """A bound method."""
        raise LimitError

    def __call__(self, *_: object) -> None:
        """An instance that can be called."""
        raise LimitError


HANDLERS: dict[str, Callable[..., None]] = {
    "function": over,
    "partial": functools.partial(over, 1),
    "method": Over().method,
    "instance": Over(),
}


@pytest.fixture(params=["function"])
def limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """SIGUSR1 is the end of the time."""
    before = signal.signal(signal.SIGUSR1, HANDLERS[request.param])
    yield
    signal.signal(signal.SIGUSR1, before)


def strike() -> None:
    """The time is over."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@contextmanager
def struck(wait: Callable[[], object]) -> Iterator[None]:
    """Raise the limit's exception in the body, once ``wait``, on another thread, has returned."""

    def watch() -> None:
        wait()
        strike()

    watcher = threading.Thread(target=watch)
    began = time.monotonic()
    with pytest.raises(LimitError) as caught:  # noqa: PT012 - it is alive, with all its frames, when the connections are counted
        watcher.start()
        yield
        watcher.join()  # the interruption may come as late as this
    watcher.join()
    assert time.monotonic() - began < 8
    assert caught.value.__traceback__ is not None


def send(agent: Any) -> None:
    agent.send_message("Hi")


def run(agent: Any) -> None:
    agent.run("Hi")


def loop(agent: Any) -> None:
    for _ in agent.send_message("Hi", stream=True):
        pass


def loop_conflated(agent: Any) -> None:
    for _ in agent.send_message("Hi", stream=True, conflate=True):
        pass


def steps(agent: Any) -> None:
    stream = agent.send_message("Hi", stream=True)
    while True:
        next(stream)


def loop_within(agent: Any) -> None:
    with agent.send_message("Hi", stream=True) as stream:
        for _ in stream:
            pass


def final(agent: Any) -> None:
    agent.send_message("Hi", stream=True).get_final_message()


def enter(agent: Any) -> None:
    with agent.send_message("Hi", stream=True):
        raise AssertionError("it is entered")


READS = [send, run, loop, loop_conflated, steps, loop_within, final]


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_a_time_limit_closes_the_stream_that_is_read(read: Callable[[Any], None]) -> None:
    """Within a second, though the exception holds all that was under way; the client works on."""
    with FaultServer(Scenario(streams=[ENDLESS, WHOLE])) as server, Inference(**client_options(server)) as client:
        with struck(lambda: server.wait_until(lambda: server.streams > 0, "a stream")):
            read(client.agent("a/b"))
        server.wait_until_no_streams()
        assert client.agent("a/b").send_message("Hi").text == TEXT


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    ("scenario", "moment", "use"),
    [
        (Scenario(post=[(STALL,)]), POST, send),
        (Scenario(post=[(STALL,)]), POST, enter),
        (Scenario(streams=[(STALL,)]), STREAM, send),
        (
            Scenario(answers={f"GET /chats/{CHAT}": [(STALL,)]}),
            f"GET /chats/{CHAT}",
            lambda agent: agent.get_chat(),
        ),
        (
            Scenario(answers={f"GET /chats/{CHAT}/messages": [(STALL,)]}),
            f"GET /chats/{CHAT}/messages",
            lambda agent: agent.history(),
        ),
    ],
    ids=["posting", "entering", "opening", "reading a chat", "paging"],
)
def test_a_time_limit_ends_the_request_that_is_under_way(
    scenario: Scenario, moment: str, use: Callable[[Any], None]
) -> None:
    """Its connection is closed; nothing goes on behind the caller's back."""
    with FaultServer(scenario) as server, Inference(**client_options(server, timeout=20)) as client:
        agent = client.agent("a/b") if moment in {POST, STREAM} else client.agent("a/b", chat_id=CHAT)
        with struck(lambda: server.wait_for_request(moment)):
            use(agent)
        server.wait_until_no_connections()


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "with progress"])
def test_a_time_limit_ends_an_upload(watched: bool) -> None:
    """The connection is closed, and the file is read no further."""
    data = io.BytesIO(bytes(32_000_000))
    on_progress = (lambda _sent, _total: None) if watched else None
    with Storage(Way(pace=0.01)) as storage, FaultServer(service(storage.url)) as server:
        with Inference(**client_options(server)) as client:
            with struck(lambda: storage.wait_for(1)):
                client.files.upload(data, on_progress=on_progress)
            storage.wait_until_left()
        assert data.tell() == 0  # it is put back, which is done when nobody reads it any more
        assert storage.puts[0].size < 32_000_000


def asks(handler: Callable[..., Any]) -> dict[str, Any]:
    """The configuration of an agent with the tool that is called."""
    made: Tool = tool("calculator").param("expression", {"type": "string"}).handler(handler).build()
    return {"name": "t", "tools": [made]}


def waits(*_: object, **__: object) -> None:
    """What a caller's function does when the time is over."""
    strike()
    time.sleep(5)
    raise AssertionError("nothing has interrupted it")


def yields(expression: str) -> Iterator[str]:
    """A handler that reports, and is interrupted in its second step."""
    yield "first"
    waits()
    yield "second"


def interrupted(expression: str) -> None:
    """A handler that is interrupted."""
    waits()


def answers(expression: str) -> str:
    """A handler that is not."""
    return "5"


IN_CALLBACKS: dict[str, tuple[Script, dict[str, Any], Callable[..., Any]]] = {
    "handler": (ASKS, {}, interrupted),
    "generator": (ASKS, {}, yields),
    "on_tool_progress": (ASKS, {"on_tool_progress": waits}, yields),
    "on_tool_call": (ASKS, {"on_tool_call": waits}, answers),
    "on_approval": (ASKS_A_PERSON, {"on_approval": waits}, answers),
    "on_message": (ENDLESS, {"on_message": waits}, answers),
}


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("where", IN_CALLBACKS)
def test_a_time_limit_in_a_callers_function_is_no_failure_of_it(where: str) -> None:
    """It leaves the blocking call, nothing is answered to the agent, and the stream is closed."""
    script, callbacks, handler = IN_CALLBACKS[where]
    with FaultServer(Scenario(streams=[script, WHOLE])) as server, Inference(**client_options(server)) as client:
        with pytest.raises(LimitError):
            client.agent(asks(handler)).send_message("Hi", **callbacks)
        server.wait_until_no_streams()
        assert server.seen(f"POST /tools/{CALL}") == []
        assert client.agent("a/b").send_message("Hi").text == TEXT


@pytest.mark.usefixtures("limit")
def test_a_time_limit_while_a_handler_is_closed_is_no_failure_of_it() -> None:
    """A generator whose step outlasts ``tool_timeout`` is closed after it, on the thread that waits for the turn."""
    answered = f"POST /tools/{CALL}"
    script: Script = (*ASKS[:2], after(answered), message(TEXT, "ready"), chat("completed"))
    with FaultServer(Scenario(streams=[script])) as server:

        def outlasts(expression: str) -> Iterator[str]:
            try:
                server.wait_for_request(answered)
                yield expression
            finally:
                waits()

        with Inference(**client_options(server), tool_timeout=0.1) as client:
            with pytest.raises(LimitError):
                client.agent(asks(outlasts)).send_message("Hi")
            server.wait_until_no_streams()


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("limit", HANDLERS, indirect=True)
def test_a_limit_is_known_whatever_form_its_signal_handler_has() -> None:
    """A function, a partial, a method or an instance."""
    with FaultServer(Scenario(streams=[ASKS])) as server, Inference(**client_options(server)) as client:
        with pytest.raises(LimitError):
            client.agent(asks(interrupted)).send_message("Hi")
        server.wait_until_no_streams()
        assert server.seen(f"POST /tools/{CALL}") == []


@pytest.mark.parametrize("own", [True, False], ids=["its own limit", "no limit"])
@pytest.mark.usefixtures("limit")
def test_what_a_handler_raises_itself_is_told_to_the_agent(own: bool) -> None:
    """So is what comes of a limit that it has set and lifted itself."""

    def handler(expression: str) -> str:
        if not own:
            raise LimitError
        before = signal.signal(signal.SIGUSR1, lambda *_: over())
        try:
            waits()
        finally:
            signal.signal(signal.SIGUSR1, before)
        raise AssertionError

    answered = f"POST /tools/{CALL}"
    script: Script = (
        *ASKS[:2],
        after(answered),
        message(TEXT, "ready", calls=[call_of("completed")]),
        chat("completed"),
    )
    with FaultServer(Scenario(streams=[script])) as server, Inference(**client_options(server)) as client:
        if own:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert client.agent(asks(handler)).send_message("Hi").text == TEXT
        assert "LimitError" in str(server.seen(answered)[0].json)


@pytest.mark.usefixtures("limit")
def test_a_time_limit_in_an_async_handler_leaves_the_turn() -> None:
    """The agent is not told of it as of a failure of the tool: it is meant for whoever waits for the turn."""
    begun = threading.Event()

    async def busy(expression: str) -> str:
        begun.set()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            pass
        return expression

    async def main(server: FaultServer) -> None:
        async with AsyncInference(**client_options(server)) as client:
            with struck(begun.wait):
                await client.agent(asks(busy)).send_message("Hi")

    with FaultServer(Scenario(streams=[ASKS])) as server:
        asyncio.run(main(server))
        assert server.seen(f"POST /tools/{CALL}") == []

"""Whatever a handler or callback does, what called it ends: with a result or a typed error, and with nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest

from inferencesh import CallbackCancelledError, InferenceError, tool
from inferencesh.local import ToolCall as Calls

from .conftest import Connect, Serve
from .sides import Side

Function = Callable[..., Any]

LIMIT = 0.2  # seconds for what never returns


def yields(*_: object) -> Iterator[None]:
    """A generator function, as a callback becomes by one yield."""
    yield


async def async_yields(*_: object) -> AsyncIterator[None]:
    """The same, async."""
    yield


class Yields:
    """An object that is one when it is called."""

    def __call__(self, *_: object) -> Iterator[None]:
        yield


WRONG_CALLBACKS: dict[str, object] = {
    "number": 5,
    "text": "print",
    "generator function": yields,
    "async generator function": async_yields,
    "partial of one": functools.partial(yields, 1),
    "object that is one": Yields(),
}


@pytest.mark.parametrize("given", WRONG_CALLBACKS)
@pytest.mark.parametrize("name", ["on_message", "on_tool_call", "on_tool_progress", "on_approval"])
def test_what_is_no_callback_is_refused_before_the_message_is_sent(
    serve: Serve, connect: Connect, name: str, given: str
) -> None:
    """The body of a generator function would never run, and nobody would notice."""
    served = serve(["Hello"])
    side = connect(served)
    options = {name: WRONG_CALLBACKS[given]}
    calls: dict[str, Callable[[Any], Any]] = {
        "plain": lambda agent: agent.send_message("Hi", **options),
        "stream": lambda agent: agent.send_message("Hi", stream=True, **options),
        "attached": lambda agent: agent.stream_messages(**options),
    }
    for call in calls.values():
        with pytest.raises(TypeError, match=name):
            call(side.agent())
    assert served.script.asked == []


class OwnBaseError(BaseException):
    """An exception of the user's that is none for ``except Exception``."""


class UnprintableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


class Alarm(KeyboardInterrupt):
    """What ends a blocking call that takes too long, raised by a signal's handler."""


class Endless:
    """Waits until the test is over."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def block(self) -> None:
        """In a thread."""
        assert self._released.wait(30), "nobody ended the test"

    async def wait(self) -> None:
        """On a loop, where it can be cancelled."""
        await asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """Let threads that were given up end."""
        self._released.set()


@pytest.fixture
def endless() -> Iterator[Endless]:
    """Something that never returns, for as long as the test runs."""
    endless = Endless()
    yield endless
    endless.release()


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("no such city"),
    "unprintable": UnprintableError,
    "BaseException": OwnBaseError,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
}
DEEDS = [*RAISED, "awaits what was cancelled", "cancels its own task", "never returns"]
ASYNC_ONLY = {"awaits what was cancelled", "cancels its own task"}
CANCELLED = {"CancelledError", *ASYNC_ONLY}
WAYS = [(style, deed) for style in ("sync", "async") for deed in DEEDS if style == "async" or deed not in ASYNC_ONLY]
NO_CALLBACKS = ("wait", "on_message")  # a method that takes none


def make_error(deed: str) -> BaseException:
    """What is raised."""
    return RAISED[deed]()


def hostile(deed: str, style: str, endless: Endless) -> Function:
    """A function that does it."""

    def plain(*_: object) -> Any:
        if deed == "never returns":
            endless.block()
        else:
            raise make_error(deed)

    async def asynchronous(*_: object) -> Any:
        if deed == "never returns":
            await endless.wait()
        elif deed == "awaits what was cancelled":
            job = asyncio.ensure_future(asyncio.sleep(60))
            job.cancel()
            await job
        elif deed == "cancels its own task":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        else:
            raise make_error(deed)

    return plain if style == "sync" else asynchronous


# -- how it is called --------------------------------------------------------------------------------------------------

CALLBACKS = ("on_message", "on_tool_call", "on_tool_progress", "on_approval")
PLACES = ("handler", "generator", *CALLBACKS)


def work_tool(place: str, function: Function) -> Any:
    """A tool whose handler is the function, or yields before it calls it, or has nothing to do with it."""

    def steps() -> Iterator[int]:
        yield 1
        if place == "generator":
            function()

    async def async_steps() -> AsyncIterator[int]:
        yield 1
        await function()

    is_async = place == "generator" and asyncio.iscoroutinefunction(function)
    handler = function if place == "handler" else async_steps if is_async else steps
    made = tool("work").handler(handler)
    return (made.require_approval() if place == "on_approval" else made).build()


class Turn:
    """An agent with the hostile function at its place, and the arguments that go with it."""

    def __init__(self, side: Side, place: str, function: Function, *, paused: bool) -> None:
        config = {"name": "t", "tools": [work_tool(place, function)]}
        chat_id = None
        if paused:  # somebody without a handler has begun it
            bare = side.agent({"name": "t", "tools": [tool("work").build()]})
            side.result(bare.send_message("Go"))
            chat_id = bare.chat_id
        self.callbacks = {place: function} if place in CALLBACKS else {}
        self.agent = side.agent(config, chat_id=chat_id)


METHODS: dict[str, Callable[[Turn], Any]] = {
    "send_message": lambda turn: turn.agent.send_message("Go", **turn.callbacks),
    "send_message, conflated": lambda turn: turn.agent.send_message("Go", conflate=True, **turn.callbacks),
    "iterating a stream": lambda turn: Reading(turn.agent.send_message("Go", stream=True, **turn.callbacks)),
    "get_final_message": lambda turn: turn.agent.send_message("Go", stream=True, **turn.callbacks).get_final_message(),
    "get_final_output": lambda turn: turn.agent.send_message("Go", stream=True, **turn.callbacks).get_final_output(),
    "run": lambda turn: turn.agent.run("Go", **turn.callbacks),
    "stream_messages": lambda turn: turn.agent.stream_messages(**turn.callbacks).get_final_message(),
    "wait": lambda turn: turn.agent.wait(),
}


class Reading:
    """A stream that is to be iterated over."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream


def outcome(side: Side, call: Callable[[], Any], *, limited: bool) -> object:
    """What a call comes to, within the limit: what it returns or raises."""
    try:
        with time_limit() if limited and side.kind == "sync" else contextlib.nullcontext():
            if side.kind == "sync":
                called = call()
                return list(called.stream) if isinstance(called, Reading) else called
            return side.result(within_the_limit(call, limited=limited))
    except BaseException as error:  # noqa: BLE001 - looked at by the test
        return error


async def within_the_limit(call: Callable[[], Any], *, limited: bool) -> object:
    """Await a call, or iterate over it. What is not meant for the loop must not reach it."""

    async def use() -> object:
        called = call()
        if isinstance(called, Reading):
            return [snapshot async for snapshot in called.stream]
        return await called

    task = asyncio.current_task()
    assert task is not None
    try:
        async with asyncio.timeout(LIMIT if limited else 10):
            return await use()
    except asyncio.CancelledError as error:
        task.uncancel()
        return error
    except BaseException as error:  # noqa: BLE001 - looked at by the test
        return error


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Interrupt this thread after the limit, as programs do that want a blocking call to end."""

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_nothing_left(side: Side, served: Any) -> None:
    """No stream is open and no task is left on the client's loop; threads and descriptors are looked for elsewhere."""
    served.wait_until_left()

    async def tasks() -> set[Any]:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:  # what was cancelled in passing may need a moment
            _, others = await asyncio.wait(others, timeout=1)
        return others

    left = side.result(tasks()) if side.kind == "async" else side.client._thread.call(tasks())
    assert left == set()


def told(served: Any) -> str:
    """What the agent was told by the tool."""
    return str(served.script.asked[1].messages[-1].text)


# -- the tests ---------------------------------------------------------------------------------------------------------


def drive(serve: Serve, connect: Connect, method: str, place: str, style: str, deed: str, endless: Endless) -> None:
    """Call a method with such a function at such a place, and look at what has come of it."""
    served = serve([Calls("work", {})], ["done"])
    side = connect(served, tool_timeout=LIMIT)
    paused = method in {"stream_messages", "wait"}
    turn = Turn(side, place, hostile(deed, style, endless), paused=paused)
    blocks_the_caller = side.kind == style == "sync"
    limited = deed == "never returns" and (place in CALLBACKS or blocks_the_caller)
    result = outcome(side, lambda: METHODS[method](turn), limited=limited)
    if limited:
        assert isinstance(result, TimeoutError if side.kind == "async" else Alarm), repr(result)
    elif place in {"handler", "generator"}:
        check_handler(result, deed, served)
    else:
        check_callback(result, place, deed)
    check_nothing_left(side, served)


def check_callback(result: object, place: str, deed: str) -> None:
    """What it raises is raised by the call; a CancelledError that does not come from the caller, as another error."""
    if deed == "cancels its own task" and place == "on_message":
        # The task is the caller's, or in the blocking client one that there is for this call alone.
        assert isinstance(result, asyncio.CancelledError | InferenceError), repr(result)
    elif deed in CANCELLED:
        assert isinstance(result, CallbackCancelledError), repr(result)
        assert isinstance(result.__cause__, asyncio.CancelledError)
        assert result.chat_id is not None
    else:
        assert type(result) is type(make_error(deed)), repr(result)


def check_handler(result: object, deed: str, served: Any) -> None:
    """Exceptions are told to the agent and the turn goes on; what ends programs reaches the caller."""
    if deed in {"BaseException", "SystemExit", "GeneratorExit"}:
        assert type(result) is type(make_error(deed)), repr(result)
    elif deed == "cancels its own task":
        assert isinstance(result, CallbackCancelledError), repr(result)
    else:
        assert not isinstance(result, BaseException), repr(result)
        said = {
            "Exception": "ValueError: no such city",
            "unprintable": "UnprintableError",
            "never returns": f"the tool took longer than {LIMIT} seconds",
        }.get(deed, "CallbackCancelledError: ")
        assert said in told(served)


@pytest.mark.parametrize(("style", "deed"), WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_message_ends_whatever_is_called(
    serve: Serve, connect: Connect, endless: Endless, place: str, style: str, deed: str
) -> None:
    """Every place at which a turn calls a function of the user, sync and async."""
    drive(serve, connect, "send_message", place, style, deed, endless)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize(
    ("method", "place"),
    [(method, place) for method in METHODS for place in ("handler", "on_message") if (method, place) != NO_CALLBACKS],
)
def test_every_method_ends(
    serve: Serve, connect: Connect, endless: Endless, method: str, place: str, deed: str
) -> None:
    """Everything that follows a turn, with an async function as the tool's handler and as a callback."""
    drive(serve, connect, method, place, "async", deed, endless)


UPLOADS: dict[str, Callable[[Side], Function]] = {
    "files.upload": lambda side: side.client.files.upload,
    "upload_file": lambda side: side.agent().upload_file,
}


@pytest.mark.parametrize(("style", "deed"), WAYS)
@pytest.mark.parametrize("moment", ["at its start", "on the way", "at its end"])
@pytest.mark.parametrize("method", UPLOADS)
def test_an_upload_ends_whatever_is_called(
    serve: Serve, connect: Connect, endless: Endless, method: str, moment: str, style: str, deed: str
) -> None:
    """What on_progress does reaches the caller, whichever of its calls it is."""
    served = serve()
    side = connect(served)
    act = hostile(deed, style, endless)
    size = 1024 * 1024

    def at_that_moment(sent: int, total: int) -> Any:
        now = {0: "at its start", total: "at its end"}.get(sent, "on the way")
        return act() if now == moment else asyncio.sleep(0)

    limited = deed == "never returns"
    upload = UPLOADS[method](side)
    result = outcome(side, lambda: upload(bytes(size), filename="a.bin", on_progress=at_that_moment), limited=limited)
    if limited:
        assert isinstance(result, TimeoutError if side.kind == "async" else Alarm), repr(result)
    elif deed == "cancels its own task":
        assert isinstance(result, asyncio.CancelledError | InferenceError), repr(result)
    elif deed in CANCELLED:
        assert isinstance(result, CallbackCancelledError), repr(result)
    else:
        assert type(result) is type(make_error(deed)), repr(result)
    check_nothing_left(side, served)


@attrs.define
class Picky:
    """A class whose check fails in a way that cannot be shown."""

    name: str = attrs.field()

    @name.validator
    def _check(self, attribute: object, value: str) -> None:
        raise UnprintableError


def test_an_argument_whose_check_cannot_be_shown_is_told_to_the_agent(serve: Serve, connect: Connect) -> None:
    """By the name of its exception, and the place."""

    @tool
    def work(city: Picky) -> str:
        """Work."""
        raise AssertionError("it was called")

    served = serve([Calls("work", {"city": {"name": "Rome"}})], ["done"])
    side = connect(served)
    assert side.result(side.agent({"name": "t", "tools": [work]}).send_message("Go")).text == "done"
    assert "city: UnprintableError" in told(served)

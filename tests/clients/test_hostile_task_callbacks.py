"""Whatever a callback of a task does, the call ends with a result or a typed error, and with nothing left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import (
    AsyncInference,
    CallbackCancelledError,
    Inference,
    InferenceError,
    StreamError,
    Task,
    TaskTimeoutError,
)

from .conftest import Connect, Serve
from .sides import Side
from .styles import ASYNC, STYLES, styled

SLOW = {"steps": 3, "seconds": 0.1}


@pytest.fixture
def side(serve: Serve, connect: Connect) -> Side:
    """A client of a runtime."""
    return connect(serve())


def raising(error: BaseException) -> Callable[..., None]:
    """A callback that raises."""

    def callback(*_: object) -> None:
        raise error

    return callback


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("enough"), ValueError),
        (asyncio.CancelledError(), CallbackCancelledError),
        (StopIteration(), RuntimeError),
        (StopAsyncIteration(), RuntimeError),
        (TimeoutError("mine"), TimeoutError),
        (InferenceError("mine"), InferenceError),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_what_on_update_raises_ends_the_call(style: str, error: BaseException, expected: Any, side: Side) -> None:
    """As itself where it can be, and never as the end of the stream or a cancellation."""
    with pytest.raises(expected):
        side.result(side.client.tasks.run("demo/slow", SLOW, on_update=styled(style, raising(error))))
    assert side.result(side.client.tasks.run("demo/slow", {"steps": 1})).done


@pytest.mark.parametrize("style", STYLES)
def test_what_on_upload_raises_ends_the_call_before_a_task_is_created(style: str, side: Side) -> None:
    """As with ``on_progress`` of an upload."""
    callback = styled(style, raising(ValueError("enough")))
    with pytest.raises(ValueError, match="enough"):
        side.result(side.client.tasks.run("demo/text", {"template": b"x"}, on_upload=callback))


def test_a_timeout_of_the_caller_is_not_taken_for_that_of_the_callback(side: Side) -> None:
    """A TimeoutError that a callback raises stays what it is, also where the call has a time limit."""
    with pytest.raises(TimeoutError, match="mine") as raised:
        side.result(side.client.tasks.run("demo/slow", SLOW, on_update=raising(TimeoutError("mine")), timeout=60))
    assert not isinstance(raised.value, TaskTimeoutError)


def test_a_callback_may_cancel_its_task(serve: Serve) -> None:
    """The call then raises as for any cancelled task."""
    served = serve()
    with Inference(**served.address) as client, pytest.raises(InferenceError, match="cancelled"):
        client.tasks.run("demo/slow", {"steps": 2, "seconds": 30}, on_update=lambda task: client.tasks.cancel(task.id))

    async def main() -> None:
        async with AsyncInference(**served.address) as client:

            async def on_update(task: Task) -> None:
                await client.tasks.cancel(task.id)

            with pytest.raises(InferenceError, match="cancelled"):
                await client.tasks.run("demo/slow", {"steps": 2, "seconds": 30}, on_update=on_update)

    asyncio.run(main(), debug=True)


@pytest.mark.parametrize("style", ASYNC)
def test_a_callback_that_never_returns_can_be_left(style: str, serve: Serve) -> None:
    """By cancelling the asyncio task."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with AsyncInference(**serve().address) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.tasks.run("demo/slow", SLOW, on_update=never)

    assert style
    asyncio.run(main(), debug=True)


def test_a_callback_may_close_the_client(serve: Serve) -> None:
    """The call ends with a typed error."""
    client = Inference(**serve().address)

    def on_update(_: Task) -> None:
        client.close()

    with pytest.raises(InferenceError, match="closed"):
        client.tasks.run("demo/slow", {"steps": 2, "seconds": 30}, on_update=on_update)


def test_closing_the_client_from_another_thread_ends_a_call(serve: Serve) -> None:
    """With a typed error, at once."""
    client = Inference(**serve().address)
    seen = threading.Event()

    def close() -> None:
        seen.wait(5)
        client.close()

    threading.Thread(target=close).start()
    with pytest.raises(InferenceError, match="closed"):
        client.tasks.run("demo/slow", {"steps": 2, "seconds": 30}, on_update=lambda _: seen.set())


def test_a_second_reader_is_refused(serve: Serve) -> None:
    """And the first goes on."""

    async def main() -> None:
        async with AsyncInference(**serve().address) as client:
            stream = client.tasks.run("demo/slow", SLOW, stream=True)
            first = asyncio.create_task(stream.get_final_task())
            await asyncio.sleep(0)
            with pytest.raises(InferenceError, match="one reader"):
                await stream.get_final_task()
            assert (await first).done

    asyncio.run(main(), debug=True)


def test_a_stream_that_was_closed_has_no_result(side: Side) -> None:
    """Which is an error with the last snapshot, not a silent end."""
    stream = side.client.tasks.run("demo/slow", SLOW, stream=True)
    first: Any = side.next(stream)
    side.close(stream)
    with pytest.raises(StreamError) as raised:
        side.result(stream.get_final_task())
    assert raised.value.task == first

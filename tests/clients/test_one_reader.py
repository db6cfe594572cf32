"""A stream has one reader: a second one is told so at once, and the first reads on as if it had not been there."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference, InferenceError
from inferencesh.stream import OneReader
from tests.protocol.test_lazy_text import stepped
from tests.support import Gate, wait_until

from .conftest import Serve
from .test_calling_threads import run_in_a_thread

TEXT = "Hello, world"


async def loop_of(stream: Any) -> str:
    """The text that a loop ends with."""
    text = ""
    async for message in stream:
        text = message.text
    return text


async def batches_of(stream: Any) -> str:
    """The text that the last batch ends with."""
    text = ""
    while batch := await stream._next_batch():
        text = batch[-1].text
    return text


ASYNC_READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "for": loop_of,
    "anext": lambda stream: stream.__anext__(),
    "next_batch": batches_of,
    "get_final_message": lambda stream: stream.get_final_message(),
    "get_final_output": lambda stream: stream.get_final_output(),
}
SYNC_READS: dict[str, Callable[[Any], Any]] = {
    "for": list,
    "next": next,
    "get_final_message": lambda stream: stream.get_final_message(),
    "get_final_output": lambda stream: stream.get_final_output(),
}


@pytest.mark.parametrize("within", [False, True], ids=["plain", "with"])
@pytest.mark.parametrize("conflate", [False, True], ids=["all", "conflated"])
@pytest.mark.parametrize("first", ["for", "next_batch", "get_final_message"])
@pytest.mark.parametrize("second", ASYNC_READS)
async def test_a_second_task_is_refused(serve: Serve, first: str, second: str, conflate: bool, within: bool) -> None:
    """However the two read."""
    gate = Gate()
    async with AsyncInference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        if within:
            await stream.__aenter__()
        reading = asyncio.ensure_future(ASYNC_READS[first](stream))
        await gate.someone_there()
        await asyncio.sleep(0.05)  # the first has taken what there was, and waits
        with pytest.raises(InferenceError, match="one reader"):
            await ASYNC_READS[second](stream)
        gate.open()
        end = await reading
        assert getattr(end, "text", end) == TEXT
        assert (await stream.get_final_message()).text == TEXT


@pytest.mark.parametrize("within", [False, True], ids=["plain", "with"])
@pytest.mark.parametrize("conflate", [False, True], ids=["all", "conflated"])
@pytest.mark.parametrize("first", ["for", "get_final_message"])
@pytest.mark.parametrize("second", SYNC_READS)
def test_a_second_thread_is_refused(serve: Serve, first: str, second: str, conflate: bool, within: bool) -> None:
    """However the two read."""
    gate, ends = Gate(), []
    with Inference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        if within:
            stream.__enter__()

        def read() -> None:
            end = SYNC_READS[first](stream)
            ends.append(end[-1] if isinstance(end, list) else end)

        reading = threading.Thread(target=read)
        reading.start()
        gate.reached()
        wait_until(lambda: stream.message is not None, "the first snapshot")
        with pytest.raises(InferenceError, match="one reader"):
            SYNC_READS[second](stream)
        gate.open()
        reading.join(5)
        assert [end.text for end in ends] == [TEXT]
        assert stream.get_final_message().text == TEXT


async def test_a_loop_is_the_reader_between_two_snapshots_too(serve: Serve) -> None:
    """While its body is at something else: otherwise each of two would get half of the snapshots."""
    async with AsyncInference(**serve(["Hello,", " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        async for _ in stream:
            for read in ASYNC_READS.values():
                with pytest.raises(InferenceError, match="one reader"):
                    await asyncio.ensure_future(read(stream))
        assert (await stream.get_final_message()).text == TEXT


def test_an_iterator_that_threads_share_is_refused_while_it_waits(serve: Serve) -> None:
    """It may go from thread to thread, as thread pools have it; but not be in two at once."""
    gate = Gate()
    with Inference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        iterator = iter(stream)
        run_in_a_thread(lambda: next(iterator))
        ends: queue.SimpleQueue[object] = queue.SimpleQueue()

        def read() -> None:
            try:
                ends.put(next(iterator).text)
            except InferenceError as error:
                ends.put(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        assert "one reader" in str(ends.get(timeout=5))
        gate.open()
        assert ends.get(timeout=5) == TEXT
        for reader in readers:
            reader.join(5)


async def test_the_reader_itself_may_read_in_several_ways(serve: Serve) -> None:
    """In the body of its loop, and again after it was left."""
    async with AsyncInference(**serve(["Hello,", " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        async for _ in stream:
            assert (await stream.get_final_message()).text == TEXT
        assert await asyncio.ensure_future(loop_of(stream)) == ""  # it is over for others as well


async def test_a_loop_that_was_left_makes_room(serve: Serve) -> None:
    """Even where its iterator is still referenced, once its task has ended."""
    gate = Gate()
    async with AsyncInference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True)
        kept = []

        async def begin() -> None:
            iterator = aiter(stream)
            kept.append(iterator)
            await anext(iterator)

        await asyncio.ensure_future(begin())
        gate.open()
        assert await asyncio.ensure_future(loop_of(stream)) == TEXT


@pytest.mark.parametrize("conflate", [False, True], ids=["all", "conflated"])
async def test_a_reader_goes_on_when_its_connection_is_closed_by_another_task(serve: Serve, conflate: bool) -> None:
    """It waits, and it is detached meanwhile: it takes the turn up again."""
    gate = Gate()
    async with AsyncInference(**serve(["Hello,", gate, " world"]).address) as client:
        stream = client.agent("tests/agent").send_message("Hi", stream=True, conflate=conflate)
        reading = asyncio.ensure_future(loop_of(stream))
        await gate.someone_there()
        while stream.message is None:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
        stream._leave()
        gate.open()
        assert await asyncio.wait_for(reading, 5) == TEXT


# -- another thread, or a finalizer, in the middle of the check


def test_a_stream_may_end_while_another_thread_asks_to_read_it() -> None:
    """Whenever that is, the other is refused or reads, and nothing else."""
    first = threading.Thread()
    step = 1
    while True:
        reader: OneReader[threading.Thread] = OneReader(lambda: first, lambda _: False)
        reader.begin()
        more = stepped(reader.begin, OneReader._is_read_by.__code__, step, reader.end_all)
        if not more:
            break
        step += 1
    assert step > 5


def test_a_loop_may_be_finalized_while_its_stream_is_asked_for() -> None:
    """As by garbage collection, which runs at any moment; it needs the same lock."""
    task = threading.Thread()
    claims: list[object] = []

    def current() -> threading.Thread:
        for claim in claims:
            reader.end(claim)
        return task

    reader: OneReader[threading.Thread] = OneReader(current, lambda _: False)
    claims.append(reader.begin())
    again = threading.Thread(target=lambda: claims.append(reader.begin()), daemon=True)
    again.start()
    again.join(5)
    assert len(claims) == 2

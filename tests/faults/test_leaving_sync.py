"""Leaving a turn of the blocking client, by any way: the connection closes, the run goes on, the client works on."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from inferencesh import Agent, Inference, InferenceError

from .forms import chat, message
from .script import STALL, Scenario, Script, heartbeats
from .server import FaultServer
from .turns import POST, STOP, STREAM, TEXT, client_options

HEL = message("Hel")
ENDLESS: Script = (chat("working"), HEL, heartbeats(1000, 0.05))
WHOLE: Script = (chat("working"), HEL, message(TEXT, "ready"), chat("completed"))
Leave = Callable[[Agent, FaultServer], None]


class BodyError(Exception):
    """What the body of a loop raises."""


def by_break(agent: Agent, server: FaultServer) -> None:
    """Out of a plain loop, over a stream that nobody else holds."""
    for _ in agent.send_message("Hi", stream=True):
        break


def by_break_within_a_block(agent: Agent, server: FaultServer) -> None:
    """Out of a loop over a stream that is a context manager."""
    with agent.send_message("Hi", stream=True) as stream:
        for _ in stream:
            break


def by_an_exception(agent: Agent, server: FaultServer) -> None:
    """The body of the loop raises, and nobody keeps the exception."""

    def read() -> None:
        for _ in agent.send_message("Hi", stream=True):
            raise BodyError

    with pytest.raises(BodyError):
        read()


def by_an_exception_within_a_block(agent: Agent, server: FaultServer) -> None:
    """The body of a block raises; the exception, which holds the frame, is still alive when the stream closes."""

    def read() -> None:
        with agent.send_message("Hi", stream=True) as stream:
            next(stream)
            raise BodyError

    with pytest.raises(BodyError) as caught:
        read()
    server.wait_until_no_streams()
    assert caught.tb is not None


def by_an_exception_in_a_callback(agent: Agent, server: FaultServer) -> None:
    """on_message raises."""

    def broken(text: str, done: bool) -> None:
        raise BodyError

    with pytest.raises(BodyError):
        agent.send_message("Hi", on_message=broken)


def by_dropping_it(agent: Agent, server: FaultServer) -> None:
    """The last reference to the stream goes away."""
    stream = agent.send_message("Hi", stream=True)
    assert next(stream).text == "Hel"
    del stream
    gc.collect()


def by_dropping_it_in_a_cycle(agent: Agent, server: FaultServer) -> None:
    """The garbage collector finds the stream."""
    stream = agent.send_message("Hi", stream=True)
    next(stream)
    ring: list[object] = [stream]
    ring.append(ring)
    del stream, ring
    gc.collect()


def by_closing_it(agent: Agent, server: FaultServer) -> None:
    """close(), twice; a closed stream yields nothing more."""
    stream = agent.send_message("Hi", stream=True)
    next(stream)
    stream.close()
    stream.close()
    assert list(stream) == []
    assert stream.message is not None
    assert stream.message.text == "Hel"


def by_closing_it_from_another_thread(agent: Agent, server: FaultServer) -> None:
    """Another thread closes the stream that is being read; the reader comes to an end."""
    stream = agent.send_message("Hi", stream=True)
    next(stream)
    ends: list[object] = []

    def read() -> None:
        try:
            ends.append(list(stream))
        except InferenceError as error:
            ends.append(error)

    reader = threading.Thread(target=read, daemon=True)  # one that hangs must not hold up the other tests
    reader.start()
    stream.close()
    reader.join(1)
    assert not reader.is_alive(), "the reader waits for ever"
    assert len(ends) == 1


def by_ending_a_generator_around_it(agent: Agent, server: FaultServer) -> None:
    """A generator of the caller's is dropped early."""

    def body() -> Iterator[str]:
        for snapshot in agent.send_message("Hi", stream=True):
            yield snapshot.text

    pieces = body()
    next(pieces)
    del pieces
    gc.collect()


WAYS: list[Leave] = [
    by_break,
    by_break_within_a_block,
    by_an_exception,
    by_an_exception_within_a_block,
    by_an_exception_in_a_callback,
    by_dropping_it,
    by_dropping_it_in_a_cycle,
    by_closing_it,
    by_closing_it_from_another_thread,
    by_ending_a_generator_around_it,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda leave: leave.__name__)
def test_leaving_a_stream_closes_its_connection(leave: Leave) -> None:
    """Within a second, without stopping the run; the next call on the client works."""
    with FaultServer(Scenario(streams=[ENDLESS, WHOLE])) as server:
        with Inference(**client_options(server)) as client:
            leave(client.agent("a/b"), server)
            server.wait_until_no_streams()
            assert server.seen(STOP) == []
            reply = client.agent("a/b").send_message("Hi")
            assert reply.text == TEXT
            assert len(server.seen(POST)) == 2
        server.wait_until_no_connections()


def test_closing_from_another_thread_always_wakes_the_reader() -> None:
    """Whatever the reader is about to do when another thread closes its stream."""
    with FaultServer(Scenario(streams=[ENDLESS])) as server:
        with Inference(**client_options(server)) as client:
            for _ in range(40):
                by_closing_it_from_another_thread(client.agent("a/b"), server)
        server.wait_until_no_connections()


def test_closing_the_client_ends_its_streams() -> None:
    """A reader whose client is closed by another thread gets a typed error with the last snapshot, not silence."""
    with FaultServer(Scenario(streams=[ENDLESS])) as server:
        client = Inference(**client_options(server))
        stream = client.agent("a/b").send_message("Hi", stream=True)
        next(stream)
        closer = threading.Timer(0.05, client.close)
        closer.start()
        with pytest.raises(InferenceError) as caught:
            next(stream)
        closer.join()
        assert caught.value.message is not None
        assert caught.value.message.text == "Hel"
        server.wait_until_no_connections()
        with pytest.raises(InferenceError):
            client.agent("a/b").send_message("Hi")


@pytest.mark.parametrize(
    ("scenario", "moment"),
    [(Scenario(post=[(STALL,)]), POST), (Scenario(streams=[(STALL,)]), STREAM)],
    ids=["posting", "opening"],
)
def test_closing_the_client_ends_calls_that_have_no_answer(scenario: Scenario, moment: str) -> None:
    """While the message is posted, and while its stream is opened."""
    with FaultServer(scenario) as server:
        client = Inference(**client_options(server, timeout=20))

        def close() -> None:
            server.wait_for_request(moment)
            client.close()

        closer = threading.Thread(target=close)
        closer.start()
        began = time.monotonic()
        with pytest.raises(InferenceError):
            client.agent("a/b").send_message("Hi")
        closer.join()
        assert time.monotonic() - began < 5
        server.wait_until_no_connections()


def test_a_stream_that_is_never_read_sends_nothing() -> None:
    """Made and dropped: no request, no warning about it."""
    with FaultServer(Scenario(streams=[WHOLE])) as server:
        with Inference(**client_options(server)) as client:
            client.agent("a/b").send_message("Hi", stream=True)
            gc.collect()
        assert server.requests == []

"""``agent.stream_events()``: the events of a chat as the service sends them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from inferencesh import (
    Chat,
    Event,
    InferenceError,
    Message,
    NotFoundError,
    PermissionDeniedError,
    Role,
    Run,
    RunState,
    StreamError,
)
from tests.faults.forms import CHAT, HEARTBEAT, KEY, REPLY, chat, delta, event, message, run
from tests.faults.script import CUT, EOF, RST, STALL, Scenario, Step, head, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import STREAM, advance, call, client_options, meanwhile, rest_of
from tests.support import Kind

from .conftest import Connect, Serve

Ask = Generator[Any, Any, None]


def serving(*streams: Sequence[Step], **more: Any) -> FaultServer:
    """A server whose chat has these streams, one connection after the other."""
    return FaultServer(Scenario(streams=streams, **more))


def events_of(client: Any) -> Any:
    """The events of the chat."""
    return client.agent("a/b", chat_id=CHAT).stream_events()


def take(kind: Kind, stream: Any, count: int) -> Generator[Any, Any, list[Any]]:
    """The next events."""
    found: list[Event] = []
    for _ in range(count):
        found.append((yield advance(kind, stream)))  # noqa: PERF401 - a generator cannot yield in a comprehension
    return found


def test_every_event_is_told_as_it_came(kind: Kind) -> None:
    """With the object that it is about; of unknown names the data, of a partial one only what it says."""
    lines: list[Any] = [
        chat("working", name="A chat"),
        message("Hel", "pending"),
        delta("lo", 1),
        delta("!", 2),
        message("Hello!", "pending"),
        message("Hello!!", "pending"),
        run("completed"),
        event("chats", {"id": CHAT, "name": "Another"}, fields=["name"]),
        HEARTBEAT,
        event("knowledge", {"id": "k1"}),
    ]
    with serving([*lines, STALL]) as server:

        def ask(client: Any) -> Ask:
            found = yield from take(kind, events_of(client), 9)
            names = [
                "chats",
                "chat_messages",
                "delta",
                "delta",
                *["chat_messages"] * 2,
                "agent_runs",
                "chats",
                "knowledge",
            ]
            assert [each.name for each in found] == names
            sent = [line["data"] for line in lines if "event" in line]
            assert [each.data for each in found] == sent
            first, whole, piece, *_, last, ended, partial, unknown = found
            assert isinstance(first.chat, Chat)
            assert (first.chat.name, first.message, first.run) == ("A chat", None, None)
            assert isinstance(whole.message, Message)
            assert (last.message.text, last.message.role) == ("Hello!!", Role.ASSISTANT)
            assert isinstance(ended.run, Run)
            assert ended.run.state is RunState.COMPLETED
            assert (partial.fields, partial.chat, partial.data["name"]) == (("name",), None, "Another")
            assert piece.data == {"delta": {"response": "lo"}, "seq": 1, "resource_id": REPLY}
            assert (unknown.message, unknown.chat, unknown.run) == (None, None, None)
            unknown.data["id"] = "changed"
            assert unknown.data == {"id": "k1"}

        call(kind, server, ask)
        assert [request.line for request in server.requests] == [STREAM]


def test_server_sent_events_are_read_too(kind: Kind) -> None:
    """As for turns."""
    body = b'event: chats\ndata: {"id": "chat1", "status": "busy"}\n\n'
    with serving([body, STALL], head=head(content_type="text/event-stream")) as server:

        def ask(client: Any) -> Ask:
            (found,) = yield from take(kind, events_of(client), 1)
            assert found.chat.status == "busy"

        call(kind, server, ask)


@pytest.mark.parametrize("way", [EOF, CUT, RST], ids=["end", "cut", "reset"])
def test_a_connection_that_is_lost_is_opened_again(kind: Kind, way: Step) -> None:
    """However it was lost, also where the server refuses for a while; the reader can tell that it was."""
    with serving([chat("working"), way], refuse(503, "app_maintenance"), [chat("completed"), STALL]) as server:

        def ask(client: Any) -> Ask:
            stream = events_of(client)
            assert stream.reconnects == 0
            first, second = yield from take(kind, stream, 2)
            assert (first.chat.active_run.state, second.chat.active_run.state) == ("working", "completed")
            assert stream.reconnects == 1

        call(kind, server, ask)
        assert len(server.seen(STREAM)) == 3


def test_silence_is_a_loss(kind: Kind) -> None:
    """Without even a heartbeat."""
    with serving([chat("working"), STALL], [chat("completed"), STALL]) as server:

        def ask(client: Any) -> Ask:
            stream = events_of(client)
            yield from take(kind, stream, 2)
            assert stream.reconnects == 1

        call(kind, server, ask)


def test_connections_that_bring_nothing_new_are_given_up(kind: Kind) -> None:
    """A server that only repeats the state of the chat; a delta that it repeats is nothing new either."""
    lines = (chat("working"), message("Hel"), delta("lo", 1))
    with serving([*lines, CUT]) as server:

        def ask(client: Any) -> Ask:
            with pytest.raises(StreamError, match="lost 3 times in a row without anything new"):
                yield from rest_of(kind, events_of(client))

        call(kind, server, ask, max_reconnects=2)
        assert len(server.seen(STREAM)) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFoundError), (403, PermissionDeniedError)], ids=["deleted", "forbidden"]
)
@pytest.mark.parametrize("after", [True, False], ids=["after a loss", "at once"])
def test_a_refusal_ends_the_stream(kind: Kind, status: int, error: type[Exception], after: bool) -> None:
    """Where waiting does not help, such as after the chat was deleted."""
    refusal: Sequence[Step] = refuse(status, "no", f"{KEY} may not.")
    streams: list[Sequence[Step]] = [[chat("working"), CUT], refusal] if after else [refusal]
    with serving(*streams) as server:

        def ask(client: Any) -> Ask:
            with pytest.raises(error) as caught:
                yield from rest_of(kind, events_of(client))
            assert KEY not in str(caught.value)

        call(kind, server, ask)
        assert len(server.requests) == 1 + after


def test_what_cannot_be_read_is_logged_and_left_out(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Without the key."""
    unreadable = b'{"event": "chats", "data": ' + KEY.encode() + b"}\n"
    with serving([chat("working"), unreadable, chat("completed"), STALL]) as server:

        def ask(client: Any) -> Ask:
            assert len((yield from take(kind, events_of(client), 2))) == 2

        with caplog.at_level(logging.WARNING, "inferencesh"):
            call(kind, server, ask)
    assert "an event was left out: unreadable at byte" in caplog.text
    assert KEY not in caplog.text


def test_ids_that_are_no_texts_are_told_as_they_came(kind: Kind) -> None:
    """Whatever they are."""
    ids: list[Any] = [[1], {"a": 1}, None, 5]
    lines = [event("chats", {"id": each}) for each in ids]
    with serving([*lines, event("delta", {"delta": {}, "resource_id": ["m"]}), STALL]) as server:

        def ask(client: Any) -> Ask:
            found = yield from take(kind, events_of(client), 5)
            assert [each.data.get("id") for each in found[:4]] == ids

        call(kind, server, ask)


def test_an_event_that_is_nested_deeply_is_told_as_it_came(kind: Kind) -> None:
    """Also when it comes again, and is compared with what was there before."""
    line = b'{"event": "chats", "data": {"id": "c1", "output": ' + b"[" * 1010 + b"]" * 1010 + b"}}\n"
    with serving([line, line, chat("completed"), STALL]) as server:

        def ask(client: Any) -> Ask:
            found = yield from take(kind, events_of(client), 3)
            assert [each.data["id"] for each in found] == ["c1", "c1", CHAT]

        call(kind, server, ask)


def test_a_message_without_an_id_is_told_without_its_model(kind: Kind) -> None:
    """Its data are there; a loop that looks at the messages goes on."""
    with serving([event("chat_messages", {"id": None, "role": "assistant"}), message("Hi"), STALL]) as server:

        def ask(client: Any) -> Ask:
            first, second = yield from take(kind, events_of(client), 2)
            assert first.message is None
            assert first.data["role"] == "assistant"
            assert second.message.text == "Hi"

        call(kind, server, ask)


def test_a_closed_client_ends_its_streams(kind: Kind) -> None:
    """With an error that says so."""
    with serving([chat("working"), STALL]) as server:

        def ask(client: Any) -> Ask:
            stream = events_of(client)
            yield from take(kind, stream, 1)
            yield client.close() if kind == "sync" else client.aclose()
            with pytest.raises(InferenceError, match="closed"):
                yield advance(kind, stream)

        call(kind, server, ask)


def by_break(stream: Any) -> None:
    """Out of a loop."""
    for _ in stream:
        break


def by_close(stream: Any) -> None:
    """With close(), after which there is nothing more."""
    next(stream)
    stream.close()
    assert list(stream) == []


def by_block(stream: Any) -> None:
    """With the end of a block, which a loop in it does not end."""
    with stream:
        for _ in stream:
            break
        next(stream)


async def by_break_async(stream: Any) -> None:
    """Out of a loop."""
    async for _ in stream:
        break


async def by_close_async(stream: Any) -> None:
    """With aclose(), after which there is nothing more."""
    await anext(stream)
    await stream.aclose()
    assert [each async for each in stream] == []


async def by_block_async(stream: Any) -> None:
    """With the end of a block, which a loop in it does not end."""
    async with stream:
        async for _ in stream:
            break
        await anext(stream)


async def by_cancelling_async(stream: Any) -> None:
    """The task that reads."""

    async def read() -> None:
        async for _ in stream:
            began.set()

    began = asyncio.Event()
    task = asyncio.create_task(read())
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


WAYS = [by_break, by_close, by_block, by_break_async, by_close_async, by_block_async, by_cancelling_async]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
def test_leaving_closes_the_connection(leave: Callable[[Any], Any]) -> None:
    """Within a second, though the stream is still referenced."""
    kind: Kind = "async" if inspect.iscoroutinefunction(leave) else "sync"
    with serving([chat("working"), message("Hel"), STALL]) as server:

        def ask(client: Any) -> Ask:
            stream = events_of(client)
            yield leave(stream)
            yield meanwhile(kind, server.wait_until_no_streams)
            assert stream is not None

        call(kind, server, ask)


def test_dropping_closes_the_connection(kind: Kind) -> None:
    """Without a word."""
    with serving([chat("working"), STALL]) as server:

        def ask(client: Any) -> Ask:
            yield advance(kind, events_of(client))
            gc.collect()
            yield meanwhile(kind, server.wait_until_no_streams)

        call(kind, server, ask)


def test_a_loop_that_was_left_can_be_begun_again(kind: Kind) -> None:
    """With another connection."""
    with serving([chat("working"), STALL], [chat("completed"), STALL]) as server:

        async def twice(stream: Any) -> list[str]:
            found = []
            for _ in range(2):
                async for each in stream:
                    found.append(each.chat.status)
                    break
            return found

        def ask(client: Any) -> Ask:
            stream = events_of(client)
            if kind == "sync":
                found = []
                for _ in range(2):
                    for each in stream:
                        found.append(each.chat.status)
                        break
            else:
                found = yield twice(stream)
            assert len(set(found)) == 2

        call(kind, server, ask)


def test_a_stream_has_one_reader() -> None:
    """A second task gets an error, and the first goes on."""

    async def main(server: FaultServer) -> None:
        from inferencesh import AsyncInference

        async with AsyncInference(**client_options(server)) as client:
            stream = events_of(client)
            await anext(stream)
            waiting = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(InferenceError, match="one reader"):
                await anext(stream)
            waiting.cancel()
            await asyncio.wait([waiting])

    with serving([chat("working"), STALL]) as server:
        asyncio.run(main(server))


def test_without_a_chat_there_are_no_events(serve: Serve, connect: Connect) -> None:
    """An error that says what to do."""
    side = connect(serve(["Hello"]))
    with pytest.raises(InferenceError, match="no chat yet: send a message first"):
        side.agent().stream_events()


@pytest.mark.parametrize("updates", ["snapshots", "deltas", "both"])
def test_the_events_of_a_turn_are_seen_whole(serve: Serve, connect: Connect, updates: Any) -> None:
    """Of the user, of the agent, of its run and of the chat, against the embedded runtime."""
    served = serve(["Hello"], ["Hello", " again"], updates=updates)
    side, other = connect(served), connect(served)
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    stream = agent.stream_events()
    first: Any = side.next(stream)
    assert (first.name, first.chat.id) == ("chats", agent.chat_id)
    final = other.result(other.agent(chat_id=agent.chat_id).send_message("Hi"))
    names, texts = set(), []
    while True:
        found: Any = side.next(stream)
        names.add(found.name)
        if found.message is not None:
            texts.append((found.message.role, found.message.text, found.message.done))
        if found.run is not None and found.run.state == "completed":
            break
    side.close(stream)
    assert (Role.USER, "Hi", True) in texts
    assert (Role.ASSISTANT, final.text, True) in texts
    assert names == {"chats", "chat_messages", "agent_runs", *(["delta"] if updates != "snapshots" else [])}
    served.wait_until_left()

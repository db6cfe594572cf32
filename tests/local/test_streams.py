"""Chat streams: their first events, the events that follow, their formats, and slow readers."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from contextlib import suppress
from itertools import pairwise
from typing import Literal

import pytest

from inferencesh.local import Text, ToolCall
from inferencesh.local.feed import Subscription

from .caller import (
    NDJSON,
    SSE,
    Flood,
    Json,
    Scripted,
    calling,
    invocations,
    open_and_ignore,
    text_of,
    words,
)

SENTENCE = "the quick brown fox jumps over the lazy dog "


def joined(deltas: list[Json], field: str = "response") -> str:
    """The text that deltas add up to."""
    return "".join(each["delta"].get(field) or "" for each in deltas)


@pytest.mark.parametrize("accept", [NDJSON, SSE])
async def test_with_replay_a_stream_begins_with_the_chat_and_its_messages(accept: str) -> None:
    """The reader knows where the chat stands before anything new happens."""
    async with calling(model=Scripted([Text("Hi.")]), replay=True) as caller:
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
        async with caller.follow(reply["chat_id"], accept) as events:
            await events.until("chat_messages", lambda message: text_of(message) == "Hi.")
    assert [name for name, _ in events.seen] == ["chats", "chat_messages", "chat_messages"]
    assert events.seen[0][1]["status"] == "idle"
    assert [data["role"] for data in events.named("chat_messages")] == ["user", "assistant"]


async def test_without_replay_a_stream_begins_with_the_chat_and_the_reply_that_is_being_written() -> None:
    """What users said, and earlier replies, are to be read from their own address."""
    go = asyncio.Event()
    async with calling(model=Scripted([Text("Hi.")], [Text("Once"), go, Text(" again.")])) as caller:
        _, reply = await caller.send("Hello")
        chat_id = reply["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until_idle()
            await caller.send("Once more", chat_id=chat_id)
            await events.until("chat_messages", lambda message: text_of(message) == "Once")
        async with caller.follow(chat_id) as events:
            await events.until("chat_messages")
            go.set()
            await events.until_idle()
    assert events.seen[0][0] == "chats"
    assert [text_of(message) for message in events.named("chat_messages")] == ["Once", "Once again.", "Once again."]


async def test_without_replay_the_stream_of_an_idle_chat_begins_with_the_chat_alone() -> None:
    """A program that is called with every message is not called with the reply to an earlier question."""
    go = asyncio.Event()
    async with calling(model=Scripted([Text("Hi.")], [go, Text("Again.")])) as caller:
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats")
            await caller.send("Once more", chat_id=reply["chat_id"])
            go.set()
            await events.until("chat_messages", role="assistant", status="ready")
    assert events.seen[0][0] == "chats"
    said = [text_of(message) for message in events.named("chat_messages")]
    assert said[0] == "Once more"
    assert "Hi." not in said


async def test_without_replay_a_reader_of_a_paused_run_gets_what_it_waits_for() -> None:
    """With the call that is to be answered, whichever of them comes first."""
    call = ToolCall("calculator", {"expression": "1"})
    async with calling(model=Scripted([Text("Let me see."), call], [Text("Done.")])) as caller:
        _, reply = await caller.send("Go")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", status="awaiting_input")
        async with caller.follow(reply["chat_id"]) as events:
            message = await events.until("chat_messages")
            assert (message["id"], len(invocations(message))) == (reply["id"], 1)


async def test_an_answer_that_does_not_ask_for_ndjson_is_server_sent_events() -> None:
    """So it is with any Accept header, or none, and with other names of NDJSON the other way round."""
    async with calling() as caller:
        chat = await caller.post("/chats", {"agent": "acme/helper"})
        for accept, expected in [
            ("*/*", SSE),
            ("application/json", SSE),
            ("text/html, application/jsonl;q=0.9", NDJSON),
        ]:
            async with caller.session.get(f"/chats/{chat['id']}/stream", headers={"Accept": accept}) as response:
                assert response.content_type == expected


async def test_snapshots_send_every_piece_as_the_whole_message() -> None:
    """Each is the one before with a word more, and there are no deltas."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, *words(SENTENCE)]), updates="snapshots") as caller:
        _, reply = await caller.send("Go")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chat_messages", role="assistant")
            go.set()
            await events.until_idle()
    texts = [text_of(message) for message in events.named("chat_messages") if message["role"] == "assistant"]
    assert texts[0] == ""
    assert texts[-1] == SENTENCE
    assert all(after.startswith(before) for before, after in pairwise(texts))
    assert len(texts) > 2
    assert events.named("delta") == []


async def test_deltas_send_only_what_is_added() -> None:
    """The message is whole when it is created and when it is final; the deltas are numbered from 1 without a gap."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, *words(SENTENCE)]), updates="deltas") as caller:
        _, reply = await caller.send("Go")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chat_messages", role="assistant")
            go.set()
            await events.until_idle()
    whole = [message for message in events.named("chat_messages") if message["role"] == "assistant"]
    assert [(message["status"], text_of(message)) for message in whole] == [("pending", ""), ("ready", SENTENCE)]
    deltas = events.named("delta")
    assert [delta["seq"] for delta in deltas] == list(range(1, 10))
    assert {delta["resource_id"] for delta in deltas} == {reply["id"]}
    assert joined(deltas) == SENTENCE


async def test_both_send_each_delta_and_then_the_message_that_has_it() -> None:
    """A whole message never shows less than the deltas before it."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, *words(SENTENCE)]), updates="both") as caller:
        _, reply = await caller.send("Go")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chat_messages", role="assistant")
            go.set()
            await events.until_idle()
    so_far = ""
    for name, data in events.seen:
        if name == "delta":
            so_far += data["delta"]["response"]
        elif data.get("role") == "assistant":
            assert text_of(data) == so_far
    assert so_far == SENTENCE


async def test_a_calls_arguments_come_as_fragments_of_json_text() -> None:
    """The first fragment names the call; the message has it whole, with an object, once it is complete."""
    go = asyncio.Event()
    call = ToolCall("calculator", {"expression": "(1 + 2) * (3 + 4) - 5"})
    async with calling(model=Scripted([go, call, call]), updates="both") as caller:
        _, reply = await caller.send("Go")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chat_messages", role="assistant")
            go.set()
            message = await events.until("chat_messages", lambda message: bool(invocations(message)))
    fragments = [delta["delta"]["tool_calls"][0] for delta in events.named("delta")]
    calls = message["content"][0]["tool_calls"]
    for index in (0, 1):
        own = [fragment for fragment in fragments if fragment["index"] == index]
        assert (own[0]["id"], own[0]["type"]) == (calls[index]["id"], "function")
        assert own[0]["function"] == {"name": "calculator", "arguments": ""}
        assert all(fragment["function"].keys() == {"arguments"} for fragment in own[1:])
        assert len(own) > 2
        text = "".join(fragment["function"]["arguments"] for fragment in own)
        assert json.loads(text) == calls[index]["function"]["arguments"] == call.arguments
    for message in events.named("chat_messages"):
        for block in message["content"]:
            assert all(isinstance(each["function"]["arguments"], dict) for each in block["tool_calls"] or [])


@pytest.mark.parametrize("updates", ["snapshots", "deltas", "both"])
async def test_a_reader_that_comes_in_the_middle_misses_nothing_and_gets_nothing_twice(
    updates: Literal["snapshots", "deltas", "both"],
) -> None:
    """It gets the message as it stands, and then the deltas from exactly there."""
    middle = asyncio.Event()
    first, second = words("one two three"), words("four five")
    async with calling(model=Scripted([*first, middle, *second]), updates=updates) as caller:
        _, reply = await caller.send("Count")
        async with caller.follow(reply["chat_id"]) as early:
            async for _, data in early:
                if "three" in json.dumps(data):
                    break
            async with caller.follow(reply["chat_id"]) as late:
                await late.until("chat_messages", role="assistant")
                middle.set()
                await late.until_idle()
    text = ""
    for name, data in late.seen:
        if name == "delta":
            text += joined([data])
        elif data.get("role") == "assistant":
            assert text_of(data).startswith(text)
            text = text_of(data)
    assert text == "one two three four five "
    numbers = [delta["seq"] for delta in late.named("delta")]
    assert numbers == ([] if updates == "snapshots" else [4, 5])


@pytest.mark.parametrize("accept", [NDJSON, SSE])
async def test_a_silent_stream_sends_heartbeats(accept: str) -> None:
    """They come while nothing happens, and the stream stays open."""
    async with calling(heartbeat=0.01) as caller:
        chat = await caller.post("/chats", {"agent": "acme/helper"})
        async with caller.follow(chat["id"], accept) as events:
            for _ in range(3):
                await events.until("heartbeat")
    assert [name for name, _ in events.seen] == ["chats", "heartbeat", "heartbeat", "heartbeat"]


async def test_a_stream_ends_when_its_chat_is_deleted() -> None:
    """What happened before is still sent."""
    async with calling() as caller:
        chat = await caller.post("/chats", {"agent": "acme/helper"})
        async with caller.follow(chat["id"]) as events:
            await events.until("chats")
            await caller.ask("DELETE", f"/chats/{chat['id']}", status=204)
            assert await events.rest() == []
        await caller.ask("GET", f"/chats/{chat['id']}", status=404)


async def test_a_reader_that_leaves_is_noticed_at_once() -> None:
    """The server does not wait for its next write to find out, nothing is kept for it, and the run goes on."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, Text("Hi.")])) as caller:
        _, reply = await caller.send("Hello")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats")
            assert caller.runtime.open_streams == 1
            events.response.close()
        async with asyncio.timeout(5):
            while caller.runtime.open_streams:
                await caller.post("/chats/list")
        assert not [each for each in gc.get_objects() if isinstance(each, Subscription)]
        go.set()
        assert text_of((await caller.finish(reply["chat_id"]))[-1]) == "Hi."


@pytest.mark.parametrize("updates", ["snapshots", "deltas", "both"])
async def test_a_reader_that_does_not_read_holds_up_nobody_and_is_brought_up_to_date(
    updates: Literal["snapshots", "deltas", "both"],
) -> None:
    """Whole messages replace one another in its line: it gets the final one without all that came before."""
    go = asyncio.Event()
    pieces = [Text("word " * 200) for _ in range(1500)]
    async with calling(model=Scripted([go, *pieces]), updates=updates) as caller:
        _, reply = await caller.send("Much")
        reader, writer = await open_and_ignore(caller.runtime, f"GET /chats/{reply['chat_id']}/stream")
        async with caller.follow(reply["chat_id"]) as events:
            go.set()
            await events.until("agent_runs", state="completed")
        received = bytearray()
        while b'"state":"completed"' not in received:
            received += await reader.read(2**16)
        writer.close()
        await writer.wait_closed()
    # Every snapshot would be over 1000 MB; a few of them and what the sockets hold is all there may be.
    assert len(received) < 100_000_000
    final = next(line for line in received.splitlines() if b'"ready"' in line and b'"assistant"' in line)
    assert text_of(json.loads(final)["data"]) == "word " * 300_000


def sockets_of(port: int) -> list[socket.socket]:
    """The sockets of this process that have a port: the one that listens, and those of its connections."""
    sockets = [each for each in gc.get_objects() if isinstance(each, socket.socket) and each.fileno() >= 0]
    return [each for each in sockets if each.family == socket.AF_INET and each.getsockname()[1] == port]


async def test_a_runtime_closes_promptly_with_a_reader_that_does_not_read() -> None:
    """Its connection is cut; nothing waits for it, and no task or socket of it is left."""
    before = asyncio.all_tasks()
    model = Flood()
    async with calling(model=model) as caller:
        _, reply = await caller.send("Much")
        _, writer = await open_and_ignore(caller.runtime, f"GET /chats/{reply['chat_id']}/stream")
        await model.said.wait()
        port = int(caller.runtime.base_url.rpartition(":")[2])
        assert len(sockets_of(port)) > 1
        started = asyncio.get_running_loop().time()
        await caller.runtime.aclose()
        assert asyncio.get_running_loop().time() - started < 1
        assert asyncio.all_tasks() == before
        assert sockets_of(port) == []
        assert caller.runtime.open_streams == 0
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

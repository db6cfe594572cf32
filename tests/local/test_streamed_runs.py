"""``POST /agents/run`` with ``stream``: the reply comes on the answer of the POST itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from inferencesh.local import Fail, Piece, Text, ToolCall

from .caller import (
    AGENT,
    NDJSON,
    SSE,
    Caller,
    Events,
    Flood,
    Scripted,
    calling,
    invocations,
    open_and_ignore,
    text_of,
    words,
)


@asynccontextmanager
async def streamed(caller: Caller, accept: str = NDJSON, **body: object) -> AsyncIterator[Events]:
    """Run the agent with ``stream`` and read what comes."""
    data = json.dumps({"agent_config": AGENT, "input": {"text": "Hello"}, "stream": True, **body})
    async with caller.session.post("/agents/run", data=data, headers={"Accept": accept}) as response:
        assert response.status == 200
        yield Events(response)


async def test_each_line_is_a_bare_message_and_the_stream_ends_with_the_run() -> None:
    """Whole messages in whatever form chat streams are; the placeholder first, the final one last."""
    async with calling(model=Scripted(words("one two three")), updates="deltas") as caller:
        async with streamed(caller) as events:
            assert events.response.content_type == NDJSON
            assert await events.rest()
        messages = events.named("message")
        assert {message["role"] for message in messages} == {"assistant"}
        assert (messages[0]["status"], messages[0]["content"]) == ("pending", [])
        assert (messages[-1]["status"], text_of(messages[-1])) == ("ready", "one two three ")
        assert events.named("delta") == []
        assert events.named("agent_runs")[-1]["state"] == "completed"
        assert caller.runtime.open_streams == 0


async def test_it_is_server_sent_events_without_ndjson_in_accept() -> None:
    """The same events by their names."""
    async with calling(model=Scripted([Text("Hi.")])) as caller, streamed(caller, "*/*") as events:
        assert events.response.content_type == SSE
        assert await events.rest()
    assert text_of(events.named("chat_messages")[-1]) == "Hi."


async def test_a_queued_message_is_answered_with_plain_json() -> None:
    """There is no reply to stream yet."""
    async with calling(model=Scripted([asyncio.Event()])) as caller:
        _, reply = await caller.send("First")
        async with streamed(caller, chat_id=reply["chat_id"]) as events:
            assert events.response.content_type == "application/json"
            data = (await events.response.json())["data"]
    assert data["user_message"]["status"] == "queued"
    assert data["assistant_message"] is None


async def test_it_ends_when_the_run_waits_for_a_client() -> None:
    """The last message carries the call; the rest is to be had on the chat's stream."""
    model = Scripted([ToolCall("calculator", {"expression": "1"})])
    async with calling(model=model) as caller, streamed(caller) as events:
        assert await events.rest()
    assert invocations(events.named("message")[-1])[0]["status"] == "awaiting_input"


@pytest.mark.parametrize("step", [[Fail("Tired.")], [Text("So far"), Fail("Tired.")]])
async def test_it_ends_when_the_run_fails(step: list[Piece]) -> None:
    """With the failed message."""
    async with calling(model=Scripted(step)) as caller, streamed(caller) as events:
        assert await events.rest()
    assert events.named("message")[-1]["status"] == "failed"


async def test_it_follows_one_run_only() -> None:
    """What queued behind it is not waited for."""
    go, never = asyncio.Event(), asyncio.Event()
    async with calling(model=Scripted([go, Text("One.")], [never])) as caller, streamed(caller) as events:
        message = await events.until("message")
        await caller.send("Second", chat_id=message["chat_id"])
        go.set()
        async with asyncio.timeout(5):
            assert await events.rest()
    assert "One." in {text_of(each) for each in events.named("message")}


async def test_leaving_it_leaves_the_run_alone() -> None:
    """Only ``stop`` ends a run."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, Text("Hi.")])) as caller:
        async with streamed(caller) as events:
            message = await events.until("message")
            events.response.close()
        async with caller.follow(message["chat_id"]) as rest:
            await rest.until("chats")
            go.set()
            await rest.until_idle()
    assert text_of(rest.named("chat_messages")[-1]) == "Hi."


async def test_it_sends_heartbeats_while_the_model_thinks() -> None:
    """As the chat's stream does."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, Text("Hi.")]), heartbeat=0.01) as caller, streamed(caller) as events:
        await events.until("heartbeat")
        go.set()
        assert await events.rest()


async def test_it_is_sent_to_its_end_however_late_it_is_read() -> None:
    """The run is long over when the reader gets to its last message."""
    model = Flood()
    async with calling(model=model) as caller:
        body = {"agent_config": AGENT, "input": {"text": "Much"}, "stream": True}
        reader, writer = await open_and_ignore(caller.runtime, "POST /agents/run", body)
        await model.said.wait()
        await caller.post("/chats/list")
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            received += await reader.read(2**20)
        writer.close()
        await writer.wait_closed()
    final = next(line for line in received.splitlines() if b'"ready"' in line)
    assert len(text_of(json.loads(final))) == 2**24
    assert b'"state":"completed"' in received

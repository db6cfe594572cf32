"""Stopped runs, and messages that are queued behind an active run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from inferencesh.local import Conversation, Piece, Text, ToolCall

from .caller import AGENT, Scripted, calling, text_of


async def test_a_message_to_a_busy_chat_waits_its_turn() -> None:
    """It is queued without a reply, runs when the first is done, and stands after the first's answer."""
    go = asyncio.Event()
    model = Scripted([go, ToolCall("teleport", {})], [Text("One.")], [Text("Two.")])
    async with calling(model=model) as caller:
        first, reply = await caller.send("First")
        chat_id = reply["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until("chats", lambda chat: chat["active_run"]["state"] == "working")
            data = await caller.post("/agents/run", {"chat_id": chat_id, "input": {"text": "Second"}})
            assert data["assistant_message"] is None
            second = data["user_message"]
            assert (second["status"], second["agent_run_id"]) == ("queued", None)
            await events.until("chat_messages", id=second["id"])
            go.set()
            await events.until("chat_messages", lambda message: text_of(message) == "Two.")
            await events.until("chats", status="idle")
        messages = await caller.messages(chat_id)
        chat = await caller.get(f"/chats/{chat_id}")
    assert [text_of(message) for message in messages if message["role"] != "tool"] == [
        "First",
        "",
        "One.",
        "Second",
        "Two.",
    ]
    orders = [message["order"] for message in messages]
    assert orders == sorted(set(orders))
    assert messages[-2]["status"] == "ready"
    assert messages[-2]["agent_run_id"] == messages[-1]["agent_run_id"] == chat["active_run"]["id"]
    assert messages[0]["agent_run_id"] != messages[-2]["agent_run_id"]
    assert chat["active_run"]["user_message_id"] == second["id"]
    runs = {run["user_message_id"]: run["state"] for run in events.named("agent_runs")}
    assert runs == {first["id"]: "completed", second["id"]: "completed"}
    assert [message.text for message in model.asked[0].messages] == ["First"]


async def test_a_queued_message_brings_its_definition_along_when_its_turn_comes() -> None:
    """The run under way keeps the one it began with."""
    go = asyncio.Event()
    model = Scripted([go, Text("One.")], [Text("Two.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("First")
        brief = {**AGENT, "system_prompt": "Be brief."}
        await caller.send("Second", chat_id=reply["chat_id"], agent_config=brief)
        async with caller.follow(reply["chat_id"]) as events:
            go.set()
            await events.until("chat_messages", lambda message: text_of(message) == "Two.")
    assert [asked.system_prompt for asked in model.asked] == ["Be kind.", "Be brief."]


async def test_a_queued_message_can_be_withdrawn_once() -> None:
    """It never runs; what is not queued cannot be withdrawn."""
    go = asyncio.Event()
    model = Scripted([go, Text("One.")])
    async with calling(model=model) as caller:
        first, reply = await caller.send("First")
        second, _ = await caller.send("Second", chat_id=reply["chat_id"])
        path = f"/chats/messages/{second['id']}/cancel"
        assert (await caller.post(path))["status"] == "cancelled"
        await caller.ask("POST", path, status=409)
        await caller.ask("POST", f"/chats/messages/{first['id']}/cancel", status=409)
        await caller.ask("POST", "/chats/messages/nothing/cancel", status=404)
        async with caller.follow(reply["chat_id"]) as events:
            go.set()
            await events.until_idle()
        messages = await caller.messages(reply["chat_id"])
    assert {text_of(message): message["status"] for message in messages} == {
        "First": "ready",
        "One.": "ready",
        "Second": "cancelled",
    }
    assert len(model.asked) == 1


async def test_stopping_ends_the_run_and_keeps_what_was_written() -> None:
    """The message is cancelled, the run canceled, the chat idle, and the model's generator closed."""
    never = asyncio.Event()
    model = Scripted([Text("So far"), never])
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello")
        chat_id = reply["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until("chat_messages", lambda message: text_of(message) == "So far")
            chat = await caller.post(f"/chats/{chat_id}/stop")
            assert chat["status"] == "idle"
            await events.until_idle()
        message = (await caller.messages(chat_id))[-1]
        assert (message["status"], text_of(message)) == ("cancelled", "So far")
        assert [run["state"] for run in events.named("agent_runs")] == ["canceled"]
        assert model.closed == 1


async def test_stopping_a_chat_that_does_nothing_changes_nothing() -> None:
    """Stopping a chat without an active run does nothing."""
    async with calling(model=Scripted([Text("Hi.")])) as caller:
        chat = await caller.post("/chats", {"agent": "acme/helper"})
        assert (await caller.post(f"/chats/{chat['id']}/stop"))["status"] == "idle"
        await caller.post(f"/chats/{chat['id']}/messages", {"message": "Hello"})
        await caller.finish(chat["id"])
        stopped = await caller.post(f"/chats/{chat['id']}/stop")
        assert stopped["active_run"]["state"] == "completed"
        await caller.ask("POST", "/chats/nothing/stop", status=404)


async def test_what_queued_behind_a_stopped_run_has_its_turn() -> None:
    """Stopping is about the run; a queued message is withdrawn by itself."""
    async with calling(model=Scripted([asyncio.Event()], [Text("Two.")])) as caller:
        _, reply = await caller.send("First")
        await caller.send("Second", chat_id=reply["chat_id"])
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", lambda chat: chat["active_run"]["state"] == "working")
            await caller.post(f"/chats/{reply['chat_id']}/stop")
            await events.until("chat_messages", lambda message: text_of(message) == "Two.")


class Stubborn:
    """A model that continues after it was cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        yield Text("So far")
        try:
            self.began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
        yield Text(" and on")


async def test_a_stopped_message_stays_as_it_is_even_when_the_model_goes_on() -> None:
    """Nothing follows the final form of a message."""
    model = Stubborn()
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello")
        await model.began.wait()
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats")
            await caller.post(f"/chats/{reply['chat_id']}/stop")
            await model.cancelled.wait()
            await events.until_idle()
        message = (await caller.messages(reply["chat_id"]))[-1]
        assert (message["status"], text_of(message)) == ("cancelled", "So far")


class Resigned:
    """A model that takes its cancellation for the end of its first answer, after a last tool call."""

    def __init__(self) -> None:
        self.answers = 0
        self.began = asyncio.Event()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        self.answers += 1
        if self.answers > 1:
            yield Text("Two.")
            return
        yield ToolCall("teleport", {})
        try:
            self.began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return


async def test_a_stopped_run_whose_model_simply_ends_leaves_the_next_run_alone() -> None:
    """The stopped message stays as it is, and the queued message gets its own answer."""
    model = Resigned()
    async with calling(model=model) as caller:
        _, reply = await caller.send("First")
        await model.began.wait()
        chat_id = reply["chat_id"]
        await caller.send("Second", chat_id=chat_id)
        async with caller.follow(chat_id) as events:
            await caller.post(f"/chats/{chat_id}/stop")
            await events.until("chat_messages", lambda message: text_of(message) == "Two.")
            await events.until("chats", status="idle")
        messages = await caller.messages(chat_id)
    assert [(message["role"], message["status"]) for message in messages] == [
        ("user", "ready"),
        ("assistant", "cancelled"),
        ("user", "ready"),
        ("assistant", "ready"),
    ]
    assert messages[-1]["agent_run_id"] != messages[1]["agent_run_id"]
    assert model.answers == 2


async def test_deleting_a_chat_ends_its_run_and_its_queue() -> None:
    """Nothing of it is left to be asked for."""
    model = Scripted([asyncio.Event()], [Text("Never.")])
    async with calling(model=model) as caller:
        user, reply = await caller.send("First")
        await caller.send("Second", chat_id=reply["chat_id"])
        await caller.ask("DELETE", f"/chats/{reply['chat_id']}", status=204)
        await caller.ask("GET", f"/chats/{reply['chat_id']}/messages", status=404)
        await caller.ask("POST", f"/chats/messages/{user['id']}/cancel", status=404)
        await caller.ask("DELETE", f"/chats/{reply['chat_id']}", status=404)
    assert len(model.asked) <= 1


async def test_who_watches_sees_a_message_queue_and_be_withdrawn() -> None:
    """Its state is streamed each time it changes; a run that waits for input holds the queue as well."""
    model = Scripted([ToolCall("calculator", {"expression": "1"})], [Text("One.")], [Text("Three.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("First")
        async with caller.follow(reply["chat_id"]) as events:
            chat = await events.until("chats", status="awaiting_input")
            second, nothing = await caller.send("Second", chat_id=reply["chat_id"])
            third, _ = await caller.send("Third", chat_id=reply["chat_id"])
            assert not nothing
            await events.until("chat_messages", id=third["id"])
            assert (await caller.post(f"/chats/messages/{second['id']}/cancel"))["status"] == "cancelled"
            await events.until("chat_messages", id=second["id"], status="cancelled")
            await caller.post(f"/tools/{chat['pending_interrupts'][0]['resource_id']}", {"result": "1"})
            await events.until("chat_messages", lambda message: text_of(message) == "Three.", status="ready")
        states = {
            message["id"]: [each["status"] for each in events.named("chat_messages") if each["id"] == message["id"]]
            for message in (second, third)
        }
        assert states[second["id"]] == ["queued", "cancelled"]
        assert [state for at, state in enumerate(states[third["id"]]) if state not in states[third["id"]][:at]] == [
            "queued",
            "ready",
        ]
    assert [asked.messages[-1].text for asked in model.asked if asked.messages[-1].role == "user"] == ["First", "Third"]

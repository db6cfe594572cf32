"""One chat: its short id, the messages that come with it, a change of its agent, and its trace."""

from __future__ import annotations

from itertools import pairwise

import pytest

from inferencesh.local import Text, ToolCall

from .caller import AGENT, CALCULATOR, Scripted, calling, invocations, text_of

CALL = ToolCall("calculator", {"expression": "42 * 17"})


async def test_a_chat_is_found_by_its_short_id() -> None:
    """By every address that takes an id."""
    async with calling(model=Scripted([Text("Hi.")], [Text("Again.")])) as caller:
        _, reply = await caller.send("Hello")
        chat_id, short_id = reply["chat_id"], reply["chat_id"][:8]
        assert (await caller.get(f"/chats/{short_id}"))["id"] == chat_id
        await caller.send("Once more", chat_id=short_id)
        await caller.finish(short_id)
        assert len(await caller.messages(short_id)) == 4
        assert (await caller.get(f"/chats/{short_id}/status"))["id"] == chat_id
        await caller.ask("GET", f"/chats/{chat_id[:7]}", status=404)
        await caller.ask("DELETE", f"/chats/{short_id}", status=204)
        await caller.ask("GET", f"/chats/{chat_id}", status=404)


async def test_an_empty_chat_id_opens_a_new_chat() -> None:
    """As none does; it is not an unknown chat."""
    async with calling(model=Scripted([Text("Hi.")])) as caller:
        _, reply = await caller.send("Hello", chat_id="", agent="acme/helper")
        assert len(await caller.finish(reply["chat_id"])) == 2
        problem = await caller.ask("POST", "/agents/run", {"chat_id": "", "input": {"text": "Hello"}}, status=422)
        assert problem["field"] == "agent"


async def test_a_chat_comes_with_its_messages_while_they_grow() -> None:
    """Clients that poll learn from it what was said and what is to be done; events and lists leave them out."""
    async with calling(model=Scripted([Text("Let me see."), CALL], [Text("It is 714.")])) as caller:
        assert (await caller.post("/chats", {"agent": "acme/helper"}))["chat_messages"] == []
        _, reply = await caller.send("What's 42 * 17?")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", status="awaiting_input")
            user, asking = (await caller.get(f"/chats/{reply['chat_id']}"))["chat_messages"]
            assert (user["role"], text_of(asking), asking["status"]) == ("user", "Let me see.", "ready")
            (call,) = invocations(asking)
            await caller.post(f"/tools/{call['id']}", {"result": "714"})
            await events.until_idle()
        chat = await caller.get(f"/chats/{reply['chat_id']}")
        assert chat["chat_messages"] == await caller.messages(reply["chat_id"])
        assert [each["role"] for each in chat["chat_messages"]] == ["user", "assistant", "tool", "assistant"]
        assert {each["chat_messages"] for each in events.named("chats")} == {None}
        page = await caller.post("/chats/list")
        assert {each["chat_messages"] for each in page["items"]} == {None}


async def test_another_agent_can_take_over_a_chat() -> None:
    """From the next message on: the run that is under way keeps its tools."""
    model = Scripted([CALL], [Text("714.")], [Text("Hello from me.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("What's 42 * 17?")
        path = f"/chats/{reply['chat_id']}"
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", status="awaiting_input")
            before = await caller.get(path)
            changed = await caller.post(f"{path}/agent", {"agent": "acme/other@v2"})
            assert changed.keys() == {"chat_id", "agent_id", "agent", "agent_version_id", "agent_version"}
            assert changed["chat_id"] == reply["chat_id"]
            assert changed["agent_id"] != before["agent_id"]
            await events.until("chats", agent_id=changed["agent_id"])
            (call,) = invocations(before["chat_messages"][-1])
            await caller.post(f"/tools/{call['id']}", {"result": "714"})
            await events.until_idle()
        await caller.send("Hello", chat_id=reply["chat_id"])
        await caller.finish(reply["chat_id"])
        assert (await caller.get(path))["agent_id"] == changed["agent_id"]
    assert [[tool.name for tool in asked.tools] for asked in model.asked] == [["calculator"], ["calculator"], []]
    assert [asked.system_prompt for asked in model.asked] == ["Be kind.", "Be kind.", ""]


@pytest.mark.parametrize(("body", "field"), [({}, "agent"), ({"agent": "other"}, "agent"), ({"agent": 7}, "agent")])
async def test_a_malformed_agent_takes_nothing_over(body: dict[str, object], field: str) -> None:
    """The chat stays as it was; one that does not exist is not found."""
    async with calling() as caller:
        chat = await caller.post("/chats", {"agent_config": AGENT})
        problem = await caller.ask("POST", f"/chats/{chat['id']}/agent", body, status=422)
        assert problem["field"] == field
        assert await caller.get(f"/chats/{chat['id']}") == chat
        await caller.ask("POST", "/chats/nothing/agent", {"agent": "acme/other"}, status=404)


async def test_a_trace_shows_the_steps_of_a_chat() -> None:
    """Messages and calls in their order, each leading to the next, with how each ended and how long it took."""
    async with calling(model=Scripted([CALL], [Text("714.")], [ValueError("broken model")])) as caller:
        _, reply = await caller.send("What's 42 * 17?")
        chat_id = reply["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until("chats", status="awaiting_input")
            (call,) = invocations((await caller.messages(chat_id))[-1])
            trace = await caller.get(f"/chats/{chat_id}/trace")
            assert [each["status"] for each in trace["nodes"]] == ["completed", "completed", "blocked"]
            assert (trace["nodes"][2]["completed_at"], trace["nodes"][2]["duration_ms"]) == (None, None)
            assert (trace["total_steps"], trace["completed_steps"], trace["running_steps"]) == (2, 1, 1)
            await caller.post(f"/tools/{call['id']}", {"result": "714"})
            await events.until_idle()
        await caller.send("And now?", chat_id=chat_id)
        await caller.finish(chat_id)
        trace = await caller.get(f"/chats/{chat_id}/trace")
        messages = await caller.messages(chat_id)
    assert trace["graph_id"] == chat_id
    labels = ["user", "assistant", "calculator", "assistant", "user", "assistant"]
    assert [each["label"] for each in trace["nodes"]] == labels
    assert [each["status"] for each in trace["nodes"]] == [*["completed"] * 5, "failed"]
    assert [each["type"] for each in trace["nodes"]] == [
        *("trigger", "execution", "execution", "execution", "trigger", "execution")
    ]
    ids = [each["id"] for each in messages if each["role"] != "tool"]
    ids.insert(2, call["id"])
    assert [each["resource_id"] for each in trace["nodes"]] == ids
    assert [(each["from_node"], each["to_node"]) for each in trace["edges"]] == list(pairwise(ids))
    assert (trace["total_steps"], trace["completed_steps"], trace["failed_steps"]) == (4, 3, 1)
    assert all(each["duration_ms"] >= 0 and each["completed_at"] >= each["started_at"] for each in trace["nodes"])


async def test_an_unknown_type_of_tool_is_taken_beside_known_ones() -> None:
    """It is not offered to the model, as no tool of the service is; the others are."""
    model = Scripted([Text("Hi.")])
    tools = [CALCULATOR, {"name": "teleport", "type": "teleport", "teleport": {"to": "the moon"}}]
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello", agent_config={"tools": tools})
        await caller.finish(reply["chat_id"])
    assert [tool.name for tool in model.asked[0].tools] == ["calculator"]

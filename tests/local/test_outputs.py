"""Structured outputs, as shown by the run, the chat and the last message."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from inferencesh.local import Finish, Piece, Reasoning, Text, ToolCall

from .caller import CALCULATOR, Caller, Json, Scripted, calling, invocations, text_of, words

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "pages": {"type": "integer"}},
    "required": ["title", "pages"],
}
AGENT = {"agent_config": {"output_schema": SCHEMA}}
DEEP: object = 7
for _ in range(240):
    DEEP = [DEEP]


async def finished(caller: Caller, text: str = "Go", **body: object) -> tuple[Json, Json]:
    """Send a message and wait for the end of its run; returns the chat and its last message."""
    _, reply = await caller.send(text, **(body or AGENT))
    messages = await caller.finish(reply["chat_id"])
    return await caller.get(f"/chats/{reply['chat_id']}"), messages[-1]


@pytest.mark.parametrize(
    "output", [{"title": "Rain", "pages": 3}, {}, [1, {"a": None}], "text", 7, 1.5, True, None, {"ü": "\u2028"}, DEEP]
)
async def test_what_a_model_finishes_with_is_the_output_of_run_and_chat(output: object) -> None:
    """Whatever JSON it is, fitting or not: clients are to be tested with both."""
    async with calling(model=Scripted([Finish(output)])) as caller:
        chat, message = await finished(caller)
    assert chat["output"] == chat["active_run"]["output"] == output
    assert (chat["status"], chat["active_run"]["state"], message["status"]) == ("idle", "completed", "ready")
    (call,) = invocations(message)
    assert (call["type"], call["status"], call["result"]) == ("internal", "completed", None)
    assert call["function"] == {"name": "finish", "arguments": output}
    assert chat["pending_interrupts"] == []


async def test_finishing_is_streamed_as_a_call() -> None:
    """Its arguments come in fragments; the last chat of the turn has the output, and the text before it stays."""
    go = asyncio.Event()
    output = {"title": "A long walk in the rain", "pages": 3}
    model = Scripted([go, Reasoning("Hm."), *words("Here it is:"), Finish(output)])
    async with calling(model=model, updates="deltas") as caller:
        _, reply = await caller.send("Go", **AGENT)
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats")
            go.set()
            await events.until_idle()
    fragments = [call for data in events.named("delta") for call in data["delta"].get("tool_calls", ())]
    assert (fragments[0]["index"], fragments[0]["type"]) == (0, "function")
    assert [each["function"].get("name") for each in fragments] == ["finish"] + [None] * (len(fragments) - 1)
    assert len(fragments) > 3
    assert json.loads("".join(each["function"]["arguments"] for each in fragments)) == output
    last = events.named("chat_messages")[-1]
    assert (text_of(last), [block["type"] for block in last["content"]]) == (
        "Here it is: ",
        ["reasoning", "text", "tool"],
    )
    assert invocations(last)[0]["function"]["arguments"] == output
    assert events.named("chats")[-1]["output"] == events.named("agent_runs")[-1]["output"] == output


async def test_the_schema_reaches_the_model() -> None:
    """As it was sent; an agent without one has none, and no finish tool."""
    model = Scripted([Text("Hi.")], [Text("Hi.")], [Text("Hi.")])
    async with calling(model=model) as caller:
        await finished(caller)
        await finished(caller, agent_config={"internal_tools": {"finish": True, "plan": False}})
        await finished(caller, agent_config={"internal_tools": {"finish": False, "plan": None}})
    assert [(asked.output_schema, asked.finishes) for asked in model.asked] == [
        (SCHEMA, True),
        (None, True),
        (None, False),
    ]


async def test_an_output_is_that_of_the_newest_run_alone() -> None:
    """A run that ends without one does not show an older one's; a model is shown what it finished with."""
    model = Scripted([Finish({"title": "Rain"})], [Text("No more.")])
    async with calling(model=model) as caller:
        chat, message = await finished(caller)
        assert chat["output"] == {"title": "Rain"}
        chat, last = await finished(caller, chat_id=message["chat_id"])
        assert (chat["output"], chat["active_run"]["output"], text_of(last)) == (None, None, "No more.")
    assert [(each.role, each.text, each.tool_calls) for each in model.asked[1].messages] == [
        ("user", "Go", ()),
        ("assistant", '{"title":"Rain"}', ()),
        ("user", "Go", ()),
    ]


async def test_finishing_by_the_tools_name_is_the_same() -> None:
    """For models that know calls alone."""
    async with calling(model=Scripted([ToolCall("finish", {"title": "Rain"})])) as caller:
        chat, message = await finished(caller)
    assert chat["output"] == {"title": "Rain"}
    assert invocations(message)[0]["type"] == "internal"


async def test_a_finished_call_takes_no_result_and_no_decision() -> None:
    """The run is completed."""
    async with calling(model=Scripted([Finish({})])) as caller:
        _, message = await finished(caller)
        path = f"/tools/{invocations(message)[0]['id']}"
        await caller.ask("POST", path, {"result": "again"}, status=409)
        await caller.ask("POST", f"{path}/invoke", status=409)


@pytest.mark.parametrize(
    ("pieces", "config", "why"),
    [
        ([Finish({})], {}, "the agent has no finish tool or schema"),
        (
            [ToolCall("calculator", {"expression": "1"}), Finish({})],
            {"output_schema": SCHEMA, "tools": [CALCULATOR]},
            "finished and called tools in one step",
        ),
        ([Finish({}), Finish({})], {"output_schema": SCHEMA}, "finished and called tools in one step"),
        ([Finish({"a": object()})], {"output_schema": SCHEMA}, "TypeError"),
    ],
)
async def test_a_model_that_finishes_wrongly_fails(pieces: list[Piece], config: Json, why: str) -> None:
    """The run says why and has no output."""
    async with calling(model=Scripted(pieces)) as caller:
        chat, message = await finished(caller, agent_config=config)
    assert (chat["active_run"]["state"], message["status"], chat["output"]) == ("failed", "failed", None)
    assert why in chat["active_run"]["error"]
    assert invocations(message) == []


async def test_an_agent_that_is_only_named_may_finish() -> None:
    """Nobody knows which tools a stored agent has."""
    async with calling(model=Scripted([Text("Here it is."), Finish({"title": "Rain"})])) as caller:
        answer = await caller.ask("POST", "/agents/run", {"agent": "acme/reporter", "input": {"text": "Go"}})
        chat_id = answer["data"]["assistant_message"]["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until_idle()
        chat = (await caller.ask("GET", f"/chats/{chat_id}"))["data"]
    assert (chat["active_run"]["state"], chat["output"]) == ("completed", {"title": "Rain"})


async def test_without_a_finish_tool_its_name_is_one_like_any_other() -> None:
    """An agent may have a tool of its own called so, but not beside the service's."""
    mine = {**CALCULATOR, "name": "finish"}
    async with calling(model=Scripted([ToolCall("finish", {"expression": "1"})])) as caller:
        _, reply = await caller.send("Go", agent_config={"tools": [mine]})
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", status="awaiting_input")
        body = {"input": {"text": "Go"}, "agent_config": {"tools": [mine], "output_schema": SCHEMA}}
        problem = await caller.ask("POST", "/agents/run", body, status=422)
        assert problem["field"] == "agent_config.tools[0].name"


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
async def test_an_output_is_the_same_in_every_envelope(envelope: Literal["v1", "v2", "v3"]) -> None:
    """It is data, also where it looks like an envelope itself."""
    output = {"data": {"success": False}, "messages": []}
    async with calling(model=Scripted([Finish(output)]), envelope=envelope) as caller:
        answer = await caller.ask("POST", "/agents/run", {**AGENT, "input": {"text": "Go"}})
        reply = (answer if envelope == "v2" else answer["data"])["assistant_message"]
        async with caller.follow(reply["chat_id"]) as events:
            await events.until_idle()
        answer = await caller.ask("GET", f"/chats/{reply['chat_id']}")
    assert (answer if envelope == "v2" else answer["data"])["output"] == output


async def test_the_demo_model_finishes_with_what_the_schema_asks_for() -> None:
    """Without words of its own, unless a tool or a story gave it some."""
    async with calling() as caller:
        chat, message = await finished(caller, 'A book called "Rain" with 3 pages')
        assert (chat["output"], text_of(message)) == ({"title": "Rain", "pages": 3}, "")
        config = {"tools": [CALCULATOR], "output_schema": {"type": "object", "properties": {"sum": {"type": "number"}}}}
        _, reply = await caller.send("What's 42 * 17?", agent_config=config)
        async with caller.follow(reply["chat_id"]) as events:
            (interrupt,) = (await events.until("chats", status="awaiting_input"))["pending_interrupts"]
        await caller.post(f"/tools/{interrupt['resource_id']}", {"result": "714"})
        last = (await caller.finish(reply["chat_id"]))[-1]
        chat = await caller.get(f"/chats/{reply['chat_id']}")
        assert (chat["output"], text_of(last)) == ({"sum": 714}, "42 * 17 is 714.")


async def test_the_demo_model_finishes_with_its_text_when_any_output_will_do() -> None:
    """The finish tool alone asks for no form."""
    async with calling() as caller:
        chat, message = await finished(caller, agent_config={"internal_tools": {"finish": True}})
    assert chat["output"] == {"text": text_of(message)}


async def test_the_demo_model_fails_on_a_schema_that_it_cannot_satisfy() -> None:
    """The run says where in the output the trouble is."""
    schema = {**SCHEMA, "properties": {"title": {"type": "string", "pattern": "^R"}}}
    async with calling() as caller:
        chat, _ = await finished(caller, agent_config={"output_schema": schema})
    run: dict[str, Any] = chat["active_run"]
    assert run["state"] == "failed"
    assert run["error"] == (
        "The demo model cannot make an output of the agent's schema: "
        "output.title: the demo model does not know the keyword pattern."
    )

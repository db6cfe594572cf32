"""Questions, which a person allows or denies, and widgets, which are answered with an action."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from inferencesh.local import Ask, Text, ToolCall, Widget

from .caller import CALCULATOR, Caller, Json, Scripted, calling, invocations

SURFACE = {"version": "0.9", "surfaceId": "s", "components": [{"id": "ok", "Button": {"label": "OK"}}], "dataModel": {}}


async def asked(caller: Caller) -> tuple[Json, Json]:
    """Send a message whose answer asks something; returns the chat and the message."""
    _, reply = await caller.send("Go on")
    async with caller.follow(reply["chat_id"]) as events:
        chat = await events.until("chats", status="awaiting_input")
    return chat, (await caller.messages(reply["chat_id"]))[-1]


@pytest.mark.parametrize(("reason", "state"), [("confirmation", "input_required"), ("auth", "auth_required")])
@pytest.mark.parametrize(
    ("decision", "status", "result"),
    [("allow", "completed", "Allowed."), ("deny", "cancelled", "Error: the request was denied.")],
)
async def test_a_question_waits_for_a_decision(
    reason: Literal["confirmation", "auth"], state: str, decision: str, status: str, result: str
) -> None:
    """The run says what it needs, and goes on either way; the model is told."""
    model = Scripted([Text("One thing. "), Ask("Delete it all?", reason)], [Text("Well.")])
    async with calling(model=model) as caller:
        chat, message = await asked(caller)
        run, (call,), (interrupt,) = chat["active_run"], invocations(message), chat["pending_interrupts"]
        assert (run["state"], run["interrupt_reason"], run["interrupt_tool_id"]) == (state, reason, call["id"])
        assert (call["type"], call["status"]) == ("internal", "awaiting_input")
        assert call["function"] == {"name": "ask", "arguments": {"question": "Delete it all?"}}
        assert (interrupt["reason"], interrupt["resource_id"]) == (reason, call["id"])
        await caller.ask("POST", f"/tools/{call['id']}/invoke", status=409)
        resolved = await caller.post(f"/interrupts/{interrupt['id']}/resolve", {"decision": decision})
        assert (resolved["status"], resolved["resolution"]) == ("resolved", decision)
        messages = await caller.finish(chat["id"])
        (call,) = invocations(messages[1])
        assert (call["status"], call["result"]) == (status, result)
    assert (model.asked[1].messages[-1].role, model.asked[1].messages[-1].text) == ("tool", result)


ACTION = {"action": {"type": "submit", "payload": {"ok": True}}, "form_data": {"name": "Ada"}}


@pytest.mark.parametrize("body", [ACTION, {"result": json.dumps(ACTION)}], ids=["unwrapped", "as text"])
async def test_a_widget_is_answered_with_an_action(body: Json) -> None:
    """In either of the forms that the official SDKs send; a decision alone is not enough."""
    model = Scripted([Widget(SURFACE)], [Text("Thanks.")])
    async with calling(model=model) as caller:
        chat, message = await asked(caller)
        (call,), (interrupt,) = invocations(message), chat["pending_interrupts"]
        assert (call["type"], call["status"], call["widget"]) == ("internal", "awaiting_input", SURFACE)
        assert (interrupt["reason"], chat["active_run"]["state"]) == ("widget", "input_required")
        await caller.ask("POST", f"/interrupts/{interrupt['id']}/resolve", {"decision": "allow"}, status=409)
        answered = await caller.post(f"/tools/{call['id']}", body)
        assert (answered["status"], json.loads(answered["result"])) == ("completed", ACTION)
        await caller.finish(chat["id"])
    assert json.loads(model.asked[1].messages[-1].text) == ACTION


async def test_questions_stand_beside_calls() -> None:
    """The run goes on with the last answer, whatever it is an answer to."""
    model = Scripted([ToolCall("calculator", {"expression": "1"}), Ask("Sure?")], [Text("Done.")])
    async with calling(model=model) as caller:
        chat, message = await asked(caller)
        call, question = invocations(message)
        assert [each["reason"] for each in chat["pending_interrupts"]] == ["client_tool", "confirmation"]
        await caller.post(f"/interrupts/{chat['pending_interrupts'][1]['id']}/resolve", {"decision": "allow"})
        assert (await caller.get(f"/chats/{chat['id']}"))["active_run"]["interrupt_tool_id"] == call["id"]
        await caller.post(f"/tools/{call['id']}", {"result": "1"})
        await caller.finish(chat["id"])
    assert [each.text for each in model.asked[1].messages if each.role == "tool"] == ["1", "Allowed."]
    assert (question["function"]["name"], CALCULATOR["name"]) == ("ask", "calculator")


@pytest.mark.parametrize("reason", ["confirmation", "auth"])
async def test_a_run_that_waits_for_a_decision_can_be_stopped(reason: Literal["confirmation", "auth"]) -> None:
    """The question is called off with it."""
    async with calling(model=Scripted([Ask("Sure?", reason)])) as caller:
        chat, _ = await asked(caller)
        stopped = await caller.post(f"/chats/{chat['id']}/stop")
        assert (stopped["status"], stopped["pending_interrupts"]) == ("idle", [])
        (interrupt,) = (await caller.ask("GET", f"/agent-runs/{chat['active_run']['id']}/interrupts"))["data"]
        assert interrupt["status"] == "cancelled"

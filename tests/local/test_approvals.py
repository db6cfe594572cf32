"""Approvals: a call that requires one waits for a decision, and then for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import httpx
import pytest

from inferencesh.local import BackgroundRuntime, LocalRuntime, Text, ToolCall

from .caller import CALCULATOR, Caller, Json, Scripted, calling, invocations, text_of

GUARDED = {**CALCULATOR, "require_approval": True}
OTHER = {"name": "lookup", "type": "client", "client": {"input_schema": {}}}
CALL = ToolCall("calculator", {"expression": "42 * 17"})
AGENT = {"agent_config": {"tools": [GUARDED, OTHER]}}


async def paused(caller: Caller, **body: object) -> Json:
    """Send a message whose answer calls tools; return the assistant's message once the run is paused."""
    _, reply = await caller.send("What's 42 * 17?", **(body or AGENT))
    async with caller.follow(reply["chat_id"]) as events:
        await events.until("chats", status="awaiting_input")
    return (await caller.messages(reply["chat_id"]))[-1]


async def only_call(caller: Caller, message: Json) -> Json:
    """Return the only call of a message in its current state."""
    messages = await caller.messages(message["chat_id"])
    (call,) = invocations(next(each for each in messages if each["id"] == message["id"]))
    return call


async def test_a_call_that_requires_approval_waits_for_it() -> None:
    """Run, chat, call and interrupt say so, on the chat and on its stream."""
    async with calling() as caller:
        _, reply = await caller.send("What's 42 * 17?", **AGENT)
        async with caller.follow(reply["chat_id"]) as events:
            streamed = await events.until("chats", status="awaiting_input")
        message = (await caller.messages(reply["chat_id"]))[-1]
        chat = await caller.get(f"/chats/{reply['chat_id']}")
    (call,) = invocations(message)
    assert (call["type"], call["status"], call["result"]) == ("client", "awaiting_approval", None)
    run = chat["active_run"]
    assert (run["state"], run["interrupt_reason"], run["interrupt_tool_id"]) == (
        "input_required",
        "tool_approval",
        call["id"],
    )
    (interrupt,) = chat["pending_interrupts"]
    assert streamed["pending_interrupts"] == [interrupt]
    assert (interrupt["reason"], interrupt["status"], interrupt["resolution"]) == ("tool_approval", "pending", None)
    assert (interrupt["resource_type"], interrupt["resource_id"]) == ("tool_invocation", call["id"])
    assert (interrupt["run_id"], interrupt["chat_id"]) == (run["id"], chat["id"])
    assert interrupt["meta"] == {
        "tool_invocation_id": call["id"],
        "tool_name": "calculator",
        "arguments": {"expression": "42 * 17"},
        "reason": "",
    }


async def test_an_approved_call_still_needs_its_result() -> None:
    """It waits for the client's result with another interrupt, and then the run continues."""
    async with calling() as caller:
        message = await paused(caller)
        call, chat_id = await only_call(caller, message), message["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until("chats")
            approved = await caller.post(f"/tools/{call['id']}/invoke")
            assert (approved["id"], approved["status"]) == (call["id"], "awaiting_input")
            chat = await events.until("chats", lambda chat: chat["active_run"]["interrupt_reason"] == "client_tool")
            assert chat["active_run"]["state"] == "input_required"
            (interrupt,) = chat["pending_interrupts"]
            assert (interrupt["reason"], interrupt["resource_id"]) == ("client_tool", call["id"])
            await caller.post(f"/tools/{call['id']}", {"result": "714"})
            await events.until_idle()
        whole = [data for data in events.named("chat_messages") if data["id"] == message["id"]]
        assert [invocations(each)[0]["status"] for each in whole][-2:] == ["awaiting_input", "completed"]
        assert text_of((await caller.messages(chat_id))[-1]) == "42 * 17 is 714."
        listed = await caller.ask("GET", f"/agent-runs/{chat['active_run']['id']}/interrupts")
    assert [(each["reason"], each["status"], each["resolution"]) for each in listed["data"]] == [
        ("tool_approval", "resolved", "allow"),
        ("client_tool", "resolved", None),
    ]
    assert all(each["resolved_at"] for each in listed["data"])


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (None, "Error: the call was rejected."),
        ({}, "Error: the call was rejected."),
        ({"reason": ""}, "Error: the call was rejected."),
        ({"reason": None}, "Error: the call was rejected."),
        ({"reason": "Too risky"}, "Error: the call was rejected: Too risky"),
    ],
)
async def test_a_rejected_call_ends_and_the_agent_goes_on_with_that(body: object, result: str) -> None:
    """The model is told that it was rejected, and why."""
    model = Scripted([CALL], [Text("Then not.")])
    async with calling(model=model) as caller:
        message = await paused(caller)
        call = await only_call(caller, message)
        rejected = await caller.post(f"/tools/{call['id']}/reject", body)
        assert (rejected["status"], rejected["result"]) == ("cancelled", result)
        messages = await caller.finish(message["chat_id"])
        assert [each["role"] for each in messages] == ["user", "assistant", "tool", "assistant"]
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert (chat["active_run"]["state"], chat["pending_interrupts"]) == ("completed", [])
        (interrupt,) = (await caller.ask("GET", f"/agent-runs/{message['agent_run_id']}/interrupts"))["data"]
        assert (interrupt["status"], interrupt["resolution"]) == ("resolved", "deny")
    assert [(each.role, each.text) for each in model.asked[1].messages][-1] == ("tool", result)
    assert model.asked[1].messages[1].tool_calls[0].name == "calculator"


async def test_the_demo_model_says_that_its_call_was_rejected() -> None:
    """The answer has the form of other failures."""
    async with calling() as caller:
        message = await paused(caller)
        call = await only_call(caller, message)
        await caller.post(f"/tools/{call['id']}/reject", {"reason": "no sums today"})
        last = (await caller.finish(message["chat_id"]))[-1]
    assert text_of(last) == "I could not work out 42 * 17: the call was rejected: no sums today."


async def test_a_call_that_does_not_wait_for_an_approval_cannot_be_decided_on() -> None:
    """Neither one that needs none nor one that was decided on, approved or rejected."""
    model = Scripted([ToolCall("lookup", {}), CALL, CALL], [Text("Done.")])
    async with calling(model=model) as caller:
        message = await paused(caller)
        plain, first, second = invocations(message)
        await caller.post(f"/tools/{first['id']}/invoke")
        await caller.post(f"/tools/{second['id']}/reject", {})
        for call, code in ((plain, "conflict"), (first, "already_processed"), (second, "already_processed")):
            for path, body in (("invoke", None), ("reject", {})):
                problem = await caller.ask("POST", f"/tools/{call['id']}/{path}", body, status=409)
                assert problem["type"].endswith(f"/errors/{code}")
                assert "does not wait for an approval" in problem["detail"]
        statuses = [each["status"] for each in invocations((await caller.messages(message["chat_id"]))[1])]
    assert statuses == ["awaiting_input", "awaiting_input", "cancelled"]


async def test_a_result_for_a_call_that_waits_for_its_approval_is_refused() -> None:
    """The refusal says what comes first, and the call waits as before."""
    async with calling() as caller:
        message = await paused(caller)
        call = await only_call(caller, message)
        problem = await caller.ask("POST", f"/tools/{call['id']}", {"result": "714"}, status=409)
        assert problem["type"].endswith("/errors/conflict")
        assert "waits for its approval" in problem["detail"]
        assert (await only_call(caller, message))["status"] == "awaiting_approval"


async def test_a_run_goes_on_when_the_last_of_its_calls_is_decided_and_answered() -> None:
    """Calls of one message wait side by side, each for what it needs."""
    model = Scripted([CALL, ToolCall("lookup", {}), CALL], [Text("Done.")])
    async with calling(model=model) as caller:
        message = await paused(caller)
        first, plain, second = invocations(message)
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert [each["reason"] for each in chat["pending_interrupts"]] == [
            "tool_approval",
            "client_tool",
            "tool_approval",
        ]
        await caller.post(f"/tools/{plain['id']}", {"result": "found"})
        await caller.post(f"/tools/{first['id']}/reject", {"reason": "no"})
        await caller.post(f"/tools/{second['id']}/invoke")
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert chat["active_run"]["interrupt_tool_id"] == second["id"]
        await caller.post(f"/tools/{second['id']}", {"result": "714"})
        await caller.finish(message["chat_id"])
    results = [each.text for each in model.asked[1].messages if each.role == "tool"]
    assert results == ["Error: the call was rejected: no", "found", "714"]


async def test_stopping_calls_off_what_waits_for_approval() -> None:
    """It cannot be approved afterwards."""
    async with calling() as caller:
        message = await paused(caller)
        await caller.post(f"/chats/{message['chat_id']}/stop")
        call = await only_call(caller, message)
        assert (call["status"], call["result"]) == ("cancelled", None)
        (interrupt,) = (await caller.ask("GET", f"/agent-runs/{message['agent_run_id']}/interrupts"))["data"]
        assert (interrupt["status"], interrupt["resolution"]) == ("cancelled", None)
        await caller.ask("POST", f"/tools/{call['id']}/invoke", status=409)
        await caller.ask("POST", f"/interrupts/{interrupt['id']}/resolve", {"decision": "allow"}, status=409)


@pytest.mark.parametrize(("decision", "status"), [("allow", "awaiting_input"), ("deny", "cancelled")])
async def test_an_interrupt_is_resolved_like_its_call(decision: str, status: str) -> None:
    """Allowing is approving, denying is rejecting; the answer is the interrupt, and it is decided on once."""
    async with calling() as caller:
        message = await paused(caller)
        (interrupt,) = (await caller.get(f"/chats/{message['chat_id']}"))["pending_interrupts"]
        path = f"/interrupts/{interrupt['id']}/resolve"
        resolved = await caller.post(path, {"decision": decision})
        assert (resolved["id"], resolved["status"], resolved["resolution"]) == (interrupt["id"], "resolved", decision)
        assert (await only_call(caller, message))["status"] == status
        problem = await caller.ask("POST", path, {"decision": decision}, status=409)
        assert problem["type"].endswith("/errors/already_processed")


async def test_an_interrupt_that_needs_a_result_cannot_be_decided_on() -> None:
    """The refusal says where the result goes."""
    async with calling() as caller:
        message = await paused(caller, agent_config={"tools": [CALCULATOR]})
        (interrupt,) = (await caller.get(f"/chats/{message['chat_id']}"))["pending_interrupts"]
        path = f"/interrupts/{interrupt['id']}/resolve"
        problem = await caller.ask("POST", path, {"decision": "allow"}, status=409)
        assert f"/tools/{interrupt['resource_id']}" in problem["detail"]
        assert (await only_call(caller, message))["status"] == "awaiting_input"


async def test_a_tool_that_is_always_allowed_needs_no_more_approval_in_its_chat() -> None:
    """The call at hand is approved with it; other chats ask as before."""
    model = Scripted([CALL], [CALL], [Text("Done.")], [CALL])
    async with calling(model=model) as caller:
        message = await paused(caller)
        call, chat_id = await only_call(caller, message), message["chat_id"]
        always = f"/chats/{chat_id}/tools/{call['id']}/always-allow"
        offered = await caller.get(f"{always}/options")
        (option,) = offered["options"]
        assert (option["key"], option["scope"], offered["unavailable"]) == (offered["default"], "tool", "")
        assert [(rule["kind"], rule["effect"], rule["specifier"]) for rule in option["rules"]] == [
            ("Tool", "allow", "calculator")
        ]
        saved = await caller.post(always, {"option": option["key"]})
        assert saved == {"option": option, "rules": option["rules"]}
        assert (await only_call(caller, message))["status"] == "awaiting_input"
        chat = await caller.get(f"/chats/{chat_id}")
        assert chat["agent_data"]["always_allowed_tools"] == ["calculator"]
        async with caller.follow(chat_id) as events:
            await caller.post(f"/tools/{call['id']}", {"result": "714"})
            later = await events.until(
                "chat_messages", lambda data: data["id"] != message["id"] and bool(invocations(data))
            )
        assert invocations(later)[0]["status"] == "awaiting_input"
        await caller.post(f"/tools/{invocations(later)[0]['id']}", {"result": "714"})
        await caller.finish(chat_id)
        elsewhere = await paused(caller)
        assert (await only_call(caller, elsewhere))["status"] == "awaiting_approval"


async def test_a_tool_is_always_allowed_only_for_a_call_that_waits_and_by_a_known_option() -> None:
    """Without an option the whole tool is meant, as with older clients."""
    async with calling() as caller:
        message = await paused(caller)
        call = await only_call(caller, message)
        always = f"/chats/{message['chat_id']}/tools/{call['id']}/always-allow"
        await caller.ask("POST", always, {"option": "tool:other"}, status=409)
        assert (await caller.ask("POST", always, {"option": 7}, status=422))["field"] == "option"
        other = await caller.post("/chats", {"agent": "acme/helper"})
        for path in (f"/chats/{other['id']}/tools/{call['id']}", f"/chats/{message['chat_id']}/tools/nothing"):
            await caller.ask("POST", f"{path}/always-allow", {}, status=404)
            await caller.ask("GET", f"{path}/always-allow/options", status=404)
        assert (await only_call(caller, message))["status"] == "awaiting_approval"
        assert (await caller.post(always, {"tool_name": "calculator"}))["option"] is None
        await caller.ask("POST", always, {}, status=409)
        await caller.ask("GET", f"{always}/options", status=409)


async def test_an_agent_that_may_use_all_tools_is_not_held_up() -> None:
    """Its chats say so."""
    async with calling() as caller:
        config = {"tools": [GUARDED], "permissions": {"allow_all_tools": True}}
        message = await paused(caller, agent_config=config)
        assert (await only_call(caller, message))["status"] == "awaiting_input"
        assert (await caller.get(f"/chats/{message['chat_id']}"))["agent_data"]["allow_all_tools"] is True


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
async def test_api_keys_are_refused_where_only_people_may_decide(envelope: Literal["v1", "v2", "v3"]) -> None:
    """As at the service: with the code that says why, before anything else is looked at; reading is allowed."""
    async with calling(approvals="sign_in", envelope=envelope) as caller:
        answer = await caller.ask("POST", "/agents/run", {**AGENT, "input": {"text": "What's 42 * 17?"}})
        reply = (answer if envelope == "v2" else answer["data"])["assistant_message"]
        async with caller.follow(reply["chat_id"]) as events:
            (interrupt,) = (await events.until("chats", status="awaiting_input"))["pending_interrupts"]
        call_id = interrupt["resource_id"]
        for path, body in (
            (f"/tools/{call_id}/invoke", None),
            (f"/tools/{call_id}/reject", {"reason": 7}),
            ("/tools/nothing/invoke", None),
            (f"/interrupts/{interrupt['id']}/resolve", {"decision": "allow"}),
            (f"/chats/{reply['chat_id']}/tools/{call_id}/always-allow", {}),
        ):
            refusal = await caller.ask("POST", path, body, status=403)
            if envelope == "v1":
                assert refusal["success"] is False
                assert refusal["error"]["code"] == "requires_sign_in"
            else:
                assert refusal["type"] == "https://api.inference.sh/errors/requires_sign_in"
                assert "API key" in refusal["detail"]
        await caller.ask("GET", f"/chats/{reply['chat_id']}/tools/{call_id}/always-allow/options")
        listed = await caller.ask("GET", f"/agent-runs/{interrupt['run_id']}/interrupts")
        forms: Mapping[str, object] = {
            "v1": {"success": True, "status": 200, "data": [interrupt]},
            "v2": [interrupt],
            "v3": {"success": True, "data": [interrupt], "messages": []},
        }
        assert listed == forms[envelope]


async def test_what_is_unknown_or_malformed_is_refused() -> None:
    """With 404 and the identifier, or with 422 and the field; the call waits as before."""
    async with calling() as caller:
        message = await paused(caller)
        call = await only_call(caller, message)
        (interrupt,) = (await caller.get(f"/chats/{message['chat_id']}"))["pending_interrupts"]
        unknown: list[tuple[str, str, object]] = [
            ("POST", "/tools/nothing/invoke", None),
            ("POST", "/tools/nothing/reject", {}),
            ("POST", "/interrupts/nothing/resolve", {"decision": "deny"}),
            ("GET", "/agent-runs/nothing/interrupts", None),
            ("POST", "/chats/nothing/tools/nothing/always-allow", {}),
        ]
        for method, path, body in unknown:
            assert "'nothing'" in (await caller.ask(method, path, body, status=404))["detail"]
        resolve = f"/interrupts/{interrupt['id']}/resolve"
        wrong: list[tuple[str, object, str]] = [
            (f"/tools/{call['id']}/reject", {"reason": ["no"]}, "reason"),
            (resolve, {}, "decision"),
            (resolve, {"decision": "maybe"}, "decision"),
            (resolve, {"decision": True}, "decision"),
        ]
        for path, body, field in wrong:
            assert (await caller.ask("POST", path, body, status=422))["field"] == field
        for path in (f"/tools/{call['id']}/reject", resolve):
            async with caller.session.post(path, data=b"[]") as response:
                assert response.status == 400
        assert (await only_call(caller, message))["status"] == "awaiting_approval"


async def test_a_run_that_waited_for_nothing_has_no_interrupts() -> None:
    """It is known all the same, also when a later one has taken its place."""
    async with calling(model=Scripted([Text("One.")], [Text("Two.")])) as caller:
        _, reply = await caller.send("First")
        await caller.finish(reply["chat_id"])
        await caller.send("Second", chat_id=reply["chat_id"])
        await caller.finish(reply["chat_id"])
        assert (await caller.ask("GET", f"/agent-runs/{reply['agent_run_id']}/interrupts"))["data"] == []


def test_who_may_decide_is_one_of_two() -> None:
    """Anything else is a mistake at construction, in both runtimes."""
    for runtime in (LocalRuntime, BackgroundRuntime):
        with pytest.raises(ValueError, match="approvals must be api_key or sign_in, not 'nobody'"):
            runtime(approvals="nobody")  # type: ignore[arg-type]  # the mistake this is about


def test_the_background_runtime_passes_the_option_on() -> None:
    """A blocking program meets the same refusal."""
    runtime = BackgroundRuntime(approvals="sign_in")
    address = runtime.start()
    try:
        headers = {"Authorization": f"Bearer {address.api_key}"}
        response = httpx.post(f"{address.base_url}/tools/nothing/invoke", headers=headers)
    finally:
        runtime.stop()
    assert response.status_code == 403


async def test_the_offer_of_a_tool_tells_the_model_that_calls_wait() -> None:
    """A model can say beforehand that it is going to ask."""
    model = Scripted([Text("Hi.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello", **AGENT)
        await caller.finish(reply["chat_id"])
    assert [(tool.name, tool.requires_approval) for tool in model.asked[0].tools] == [
        ("calculator", True),
        ("lookup", False),
    ]


async def test_two_who_decide_at_once_do_not_both_win() -> None:
    """One decision counts; the other is told that it came too late."""
    async with calling() as caller:
        message = await paused(caller)
        call = await only_call(caller, message)

        async def decide(verb: str) -> int:
            async with caller.session.post(f"/tools/{call['id']}/{verb}", data=b"{}") as response:
                return response.status

        statuses = await asyncio.gather(*(decide(verb) for verb in ("invoke", "reject", "invoke", "reject")))
    assert sorted(statuses) == [200, 409, 409, 409]

"""Tool calls: the run pauses for the clients' results and continues with the last one."""

from __future__ import annotations

import asyncio

import pytest

from inferencesh.local import Piece, Text, ToolCall

from .caller import CALCULATOR, Caller, Json, Scripted, calling, invocations, text_of

CALL = ToolCall("calculator", {"expression": "42 * 17"})


async def paused(caller: Caller, **body: object) -> Json:
    """Send a message whose answer calls tools; return the assistant's message once the run is paused."""
    _, reply = await caller.send("What's 42 * 17?", **body)
    async with caller.follow(reply["chat_id"]) as events:
        await events.until("chats", status="awaiting_input")
    return (await caller.messages(reply["chat_id"]))[-1]


async def test_a_step_that_calls_a_tool_ends_its_message_and_waits() -> None:
    """The message is ready and carries the call; run, chat and interrupt say what is waited for."""
    async with calling() as caller:
        message = await paused(caller)
        assert message["status"] == "ready"
        (invocation,) = invocations(message)
        assert (invocation["type"], invocation["status"]) == ("client", "awaiting_input")
        assert invocation["function"] == {"name": "calculator", "arguments": {"expression": "42 * 17"}}
        assert invocation["chat_message_id"] == message["id"]
        assert invocation["tool_invocation_id"] == message["content"][0]["tool_calls"][0]["id"] != invocation["id"]
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert chat["status"] == "awaiting_input"
        assert chat["active_run"]["state"] == "input_required"
        assert chat["active_run"]["interrupt_reason"] == "client_tool"
        assert chat["active_run"]["interrupt_tool_id"] == invocation["id"]
        (interrupt,) = chat["pending_interrupts"]
        assert (interrupt["reason"], interrupt["status"]) == ("client_tool", "pending")
        assert (interrupt["resource_type"], interrupt["resource_id"]) == ("tool_invocation", invocation["id"])
        assert interrupt["meta"]["arguments"] == {"expression": "42 * 17"}


async def test_with_the_result_the_run_goes_on_to_the_next_message() -> None:
    """The call is completed, the result is a message, and the demo model words its answer from it."""
    async with calling() as caller:
        message = await paused(caller)
        (invocation,) = invocations(message)
        async with caller.follow(message["chat_id"]) as events:
            await events.until("chats")
            answered = await caller.post(f"/tools/{invocation['id']}", {"result": "714"})
            assert (answered["status"], answered["result"]) == ("completed", "714")
            await events.until_idle()
        states = [run["state"] for run in events.named("agent_runs")]
        assert states == ["working", "completed"]
        messages = await caller.messages(message["chat_id"])
        assert [each["role"] for each in messages] == ["user", "assistant", "tool", "assistant"]
        assert invocations(messages[1])[0]["status"] == "completed"
        assert messages[2]["tool_call_id"] == invocation["tool_invocation_id"]
        assert text_of(messages[2]) == "714"
        assert text_of(messages[3]) == "42 * 17 is 714."
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert (chat["pending_interrupts"], chat["active_run"]["interrupt_reason"]) == ([], None)
        assert {each["agent_run_id"] for each in messages} == {chat["active_run"]["id"]}


async def test_several_calls_are_all_waited_for_and_answered_in_any_order() -> None:
    """The run pauses until the last result; the model gets them in the order of its calls."""
    calls: list[Piece] = [ToolCall("calculator", {"expression": expression}) for expression in ("1", "2", "3")]
    model = Scripted([Text("Let me see. "), *calls], [Text("Done.")])
    async with calling(model=model) as caller:
        message = await paused(caller)
        first, second, third = invocations(message)
        assert [block["type"] for block in message["content"]] == ["text", "tool"]
        for left, invocation, next_one in [(2, third, first), (1, first, second)]:
            await caller.post(f"/tools/{invocation['id']}", {"result": f"for {invocation['id']}"})
            chat = await caller.get(f"/chats/{message['chat_id']}")
            assert chat["active_run"]["state"] == "input_required"
            assert len(chat["pending_interrupts"]) == left
            assert chat["active_run"]["interrupt_tool_id"] == next_one["id"]
        await caller.post(f"/tools/{second['id']}", {"result": f"for {second['id']}"})
        await caller.finish(message["chat_id"])
    seen = model.asked[1].messages
    assert [call.arguments["expression"] for call in seen[1].tool_calls] == ["1", "2", "3"]
    assert [each.text for each in seen[2:]] == [f"for {each['id']}" for each in (first, second, third)]
    assert [each.tool_call_id for each in seen[2:]] == [call.id for call in seen[1].tool_calls]


async def test_a_call_takes_one_result() -> None:
    """The second is refused as already processed, and so is one for a call that was stopped."""
    async with calling() as caller:
        message = await paused(caller)
        path = f"/tools/{invocations(message)[0]['id']}"
        await caller.post(path, {"result": "714"})
        problem = await caller.ask("POST", path, {"result": "715"}, status=409)
        assert problem["type"] == "https://api.inference.sh/errors/already_processed"
        await caller.finish(message["chat_id"])
        message = await paused(caller, chat_id=message["chat_id"])
        await caller.post(f"/chats/{message['chat_id']}/stop")
        await caller.ask("POST", f"/tools/{invocations(message)[0]['id']}", {"result": "714"}, status=409)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "result"),
        ({"result": None}, "result"),
        ({"result": 714}, "result"),
        ({"result": {"value": 714}}, "result"),
        ({"result": "714", "attachments": "a.png"}, "attachments"),
        ({"result": "714", "attachments": [{"filename": "a.png"}]}, "attachments[0].uri"),
        ({"result": "714", "attachments": ["a.png"]}, "attachments[0]"),
        ({"result": "714", "attachments": [{"uri": "https://files.example/a"}] * 21}, "attachments"),
        ({"action": "press"}, "action"),
    ],
)
async def test_a_result_that_is_none_is_refused_and_the_call_still_waits(body: object, field: str) -> None:
    """The refusal names the field."""
    async with calling() as caller:
        message = await paused(caller)
        path = f"/tools/{invocations(message)[0]['id']}"
        problem = await caller.ask("POST", path, body, status=422)
        assert problem["field"] == field
        assert problem["detail"].startswith(f"{field}: ")
        await caller.post(path, {"result": "714"})


async def test_results_may_carry_files_or_a_widgets_action() -> None:
    """Files reach the model with the result; an action comes unwrapped from React and is kept as JSON text."""
    model = Scripted([CALL, CALL], [Text("Done.")])
    picture = {"uri": "https://files.example/a.png", "content_type": "image/png"}
    async with calling(model=model) as caller:
        message = await paused(caller)
        first, second = invocations(message)
        await caller.post(f"/tools/{first['id']}", {"result": "", "attachments": [picture]})
        await caller.post(f"/tools/{second['id']}", {"action": {"type": "confirm"}, "form_data": {"name": "Ada"}})
        await caller.finish(message["chat_id"])
    results = model.asked[1].messages[2:]
    assert [each.uri for each in results[0].attachments] == [picture["uri"]]
    assert results[1].text == '{"action":{"type":"confirm"},"form_data":{"name":"Ada"}}'


async def test_an_unknown_call_is_not_found() -> None:
    """The model's own id of a call is not the one in the address."""
    async with calling() as caller:
        message = await paused(caller)
        for identifier in ("nothing", invocations(message)[0]["tool_invocation_id"]):
            await caller.ask("POST", f"/tools/{identifier}", {"result": "714"}, status=404)


async def test_a_tool_nobody_offered_is_answered_with_an_error() -> None:
    """The model hears of its mistake and goes on; clients see a failed call and have nothing to do."""
    model = Scripted([ToolCall("teleport", {})], [Text("Then not.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("Beam me up")
        messages = await caller.finish(reply["chat_id"])
    assert invocations(messages[1])[0]["status"] == "failed"
    assert text_of(messages[2]) == "Error: there is no tool named 'teleport'."
    assert text_of(messages[3]) == "Then not."


async def test_a_model_that_only_ever_calls_tools_is_stopped() -> None:
    """Its run fails instead of going in circles."""
    async with calling(model=Scripted(*[[ToolCall("teleport", {})]] * 40)) as caller:
        _, reply = await caller.send("Beam me up")
        await caller.finish(reply["chat_id"])
        run = (await caller.get(f"/chats/{reply['chat_id']}"))["active_run"]
    assert (run["state"], run["error"]) == ("failed", "The model has called tools 32 times without an answer.")


async def test_deeply_nested_arguments_reach_the_client() -> None:
    """They are sent exactly as the model gave them, however much is wrapped around them."""
    arguments: dict[str, object] = {}
    for _ in range(250):
        arguments = {"in": arguments}
    async with calling(model=Scripted([ToolCall("calculator", arguments)])) as caller:
        message = await paused(caller)
    assert invocations(message)[0]["function"]["arguments"] == arguments


async def test_only_client_tools_are_offered_to_the_model() -> None:
    """The others run on the service and not here, but an agent that has them is taken."""
    model = Scripted([Text("Hi.")])
    tools = [CALCULATOR, {"name": "painter", "type": "app", "app": {"ref": "infsh/painter@abc"}}]
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello", agent_config={"core_app": {"ref": "infsh/model@abc"}, "tools": tools})
        await caller.finish(reply["chat_id"])
    (offered,) = model.asked[0].tools
    assert (offered.name, offered.description) == ("calculator", "Do math")
    assert offered.input_schema == {
        "type": "object",
        "properties": {"expression": {"type": "string", "description": "Expression"}},
        "required": ["expression"],
    }


async def test_a_stopped_calls_turn_is_not_shown_to_the_model_as_a_call() -> None:
    """Models take a call only together with its result."""
    model = Scripted([CALL], [Text("Hi.")])
    async with calling(model=model) as caller:
        message = await paused(caller)
        await caller.post(f"/chats/{message['chat_id']}/stop")
        stopped = (await caller.messages(message["chat_id"]))[-1]
        assert (stopped["status"], invocations(stopped)[0]["status"]) == ("ready", "cancelled")
        chat = await caller.get(f"/chats/{message['chat_id']}")
        assert (chat["status"], chat["active_run"]["state"]) == ("idle", "canceled")
        assert chat["pending_interrupts"] == []
        await caller.send("Hello", chat_id=message["chat_id"])
        await caller.finish(message["chat_id"])
    assert all(not each.tool_calls for each in model.asked[1].messages)


async def test_who_watches_sees_each_result_taken_in() -> None:
    """The message is sent whole when one of its calls changes, also in a stream of deltas."""
    go = asyncio.Event()
    async with calling(model=Scripted([CALL, CALL], [go, Text("Done.")]), updates="deltas") as caller:
        message = await paused(caller)
        async with caller.follow(message["chat_id"]) as events:
            await events.until("chat_messages", id=message["id"])
            for invocation in invocations(message):
                await caller.post(f"/tools/{invocation['id']}", {"result": "1"})
            go.set()
            await events.until_idle()
    completed = [
        [each["status"] for each in invocations(data)]
        for data in events.named("chat_messages")
        if data["id"] == message["id"]
    ]
    assert completed[0] == ["awaiting_input", "awaiting_input"]
    assert completed[-1] == ["completed", "completed"]


async def test_the_calls_of_a_deleted_chat_are_gone_with_it() -> None:
    """They cannot be answered any more."""
    async with calling() as caller:
        message = await paused(caller)
        await caller.ask("DELETE", f"/chats/{message['chat_id']}", status=204)
        await caller.ask("POST", f"/tools/{invocations(message)[0]['id']}", {"result": "714"}, status=404)

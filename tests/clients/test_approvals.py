"""Approvals and questions in both clients, against the embedded runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import InterruptReason, Message, PermissionDeniedError, Tool, ToolCall, string, tool
from inferencesh.local import Ask, Piece, Widget
from inferencesh.local import ToolCall as Calls

from .conftest import Connect, Serve
from .sides import Side

CALL = Calls("delete", {"path": "/tmp/a"})
OTHER = Calls("delete", {"path": "/tmp/b"})


def deleting(runs: list[str]) -> dict[str, Any]:
    """An agent with a tool that needs approval and notes its runs."""

    def delete(path: str) -> str:
        runs.append(path)
        return f"{path} is gone"

    built: Tool = tool("delete").param("path", string()).require_approval().handler(delete).build()
    return {"name": "tester", "tools": [built]}


@pytest.mark.parametrize("answer", [True, False, "Keep it.", None], ids=repr)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "message"])
def test_a_call_is_asked_about_and_then_run_or_not(
    serve: Serve, connect: Connect, answer: object, stream: bool
) -> None:
    """The model goes on with what came of it; without an answer the turn pauses."""
    served = serve([CALL], ["Done."])
    side = connect(served)
    runs: list[str] = []
    asked: list[ToolCall] = []

    def on_approval(call: ToolCall) -> object:
        assert runs == []
        asked.append(call)
        return answer

    sent = side.agent(deleting(runs)).send_message("Delete it", on_approval=on_approval, stream=stream)
    reply: Message = side.snapshots(sent)[-1] if stream else side.result(sent)
    assert [(call.name, call.arguments, call.requires_approval) for call in asked] == [
        ("delete", {"path": "/tmp/a"}, True)
    ]
    assert runs == (["/tmp/a"] if answer is True else [])
    if answer is None:
        assert [call.id for call in reply.pending_approvals] == [asked[0].id]
    else:
        assert (reply.text, reply.pending_approvals) == ("Done.", ())
        (result,) = [message.text for message in served.script.asked[-1].messages if message.role == "tool"]
        assert (result == "/tmp/a is gone") == (answer is True)
        assert ("Keep it." in result) == (answer == "Keep it.")


Decide = Callable[[Side, Any, ToolCall], None]


def by_method(side: Side, agent: Any, call: ToolCall) -> None:
    """With approve_tool."""
    side.result(agent.approve_tool(call.id))


def by_interrupt(side: Side, agent: Any, call: ToolCall) -> None:
    """With the interrupt that the chat lists."""
    (interrupt,) = side.result(agent.get_chat()).pending_interrupts
    assert (interrupt.reason, interrupt.resource_id) == (InterruptReason.TOOL_APPROVAL, call.id)
    assert interrupt.meta["tool_name"] == "delete"
    resolved = side.result(agent.resolve_interrupt(interrupt.id, "allow"))
    assert (resolved.id, resolved.status) == (interrupt.id, "resolved")


@pytest.mark.parametrize("decide", [by_method, by_interrupt], ids=lambda way: way.__name__)
def test_approvals_by_hand(serve: Serve, connect: Connect, decide: Decide) -> None:
    """One call after the other; wait() goes on to the next pause and to the end."""
    side = connect(serve([CALL], [OTHER], ["Done."]))
    runs: list[str] = []
    agent = side.agent(deleting(runs))
    reply = side.result(agent.send_message("Delete both"))
    for path in ("/tmp/a", "/tmp/b"):
        (call,) = reply.pending_approvals
        assert call.arguments == {"path": path}
        decide(side, agent, call)
        reply = side.result(agent.wait())
    assert (reply.text, runs) == ("Done.", ["/tmp/a", "/tmp/b"])


def test_two_calls_of_one_message_are_decided_one_by_one(serve: Serve, connect: Connect) -> None:
    """The pause lasts until the last of them; the approved one is run meanwhile."""
    side = connect(serve([CALL, OTHER], ["Done."]))
    runs: list[str] = []
    agent = side.agent(deleting(runs))
    first, second = side.result(agent.send_message("Delete both")).pending_approvals
    side.result(agent.reject_tool(first.id, "Not this one."))
    assert [call.id for call in side.result(agent.wait()).pending_approvals] == [second.id]
    side.result(agent.approve_tool(second.id))
    assert (side.result(agent.wait()).text, runs) == ("Done.", ["/tmp/b"])


@pytest.mark.parametrize("way", ["callback", "by hand"])
def test_a_key_that_may_not_approve(serve: Serve, connect: Connect, way: str) -> None:
    """The refusal reaches the caller; the call is neither run nor lost."""
    side = connect(serve([CALL], ["Done."], approvals="sign_in"))
    runs: list[str] = []
    agent = side.agent(deleting(runs))

    def approve() -> None:
        if way == "callback":
            side.result(agent.send_message("Delete it", on_approval=lambda _: True))
        else:
            (call,) = side.result(agent.send_message("Delete it")).pending_approvals
            side.result(agent.approve_tool(call.id))

    with pytest.raises(PermissionDeniedError, match="signed") as caught:
        approve()
    assert (caught.value.status_code, caught.value.code) == (403, "requires_sign_in")
    assert len(side.result(agent.wait()).pending_approvals) == 1
    assert runs == []


@pytest.mark.parametrize("decision", ["allow", "deny"])
@pytest.mark.parametrize("reason", ["confirmation", "auth"])
def test_a_question_to_a_person(serve: Serve, connect: Connect, decision: str, reason: Any) -> None:
    """It pauses the turn, can be read on the chat, and its answer has the turn go on."""
    side = connect(serve([Ask("Shall I?", reason)], ["Done."]))
    agent = side.agent()
    reply = side.result(agent.send_message("Do it"))
    assert (reply.pending_tool_calls, reply.pending_approvals) == ((), ())
    (interrupt,) = side.result(agent.get_chat()).pending_interrupts
    assert interrupt.reason == reason
    side.result(agent.resolve_interrupt(interrupt.id, decision))
    assert side.result(agent.wait()).text == "Done."


def test_a_widget_is_answered_by_hand(serve: Serve, connect: Connect) -> None:
    """It can be read on the call; the action goes to the agent, and the turn goes on."""
    surface = {"version": "1", "surfaceId": "s", "components": [{"id": "ok", "type": "button"}]}
    step: Piece = Widget(surface)
    side = connect(serve([step], ["Done."]))
    agent = side.agent()
    (call,) = side.result(agent.send_message("Ask me")).tool_calls
    assert call.widget is not None
    assert call.widget["components"] == surface["components"]
    side.result(agent.submit_tool_result(call.id, {"action": {"type": "ok"}}))
    assert side.result(agent.wait()).text == "Done."


def test_another_client_with_a_callback_takes_up_a_paused_chat(serve: Serve, connect: Connect) -> None:
    """It is asked, and its handler runs."""
    served = serve([CALL], ["Done."])
    side, other = connect(served), connect(served)
    agent = side.agent(deleting([]))
    side.result(agent.send_message("Delete it"))
    runs: list[str] = []
    heir = other.agent(deleting(runs), chat_id=agent.chat_id)
    stream = heir.stream_messages(on_approval=lambda _: True)
    assert other.snapshots(stream)[-1].text == "Done."
    assert runs == ["/tmp/a"]
    assert side.result(agent.wait()).text == "Done."

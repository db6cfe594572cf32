"""What holds a run up besides client tools: readable on the chat, decided by hand, and then the turn goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from typing import Any

import pytest

from inferencesh import ConfigurationError, ConflictError, InterruptReason, InterruptStatus, PermissionDeniedError
from tests.support import Kind

from .forms import CHAT, Json, call_of, chat, chat_of, message, run
from .script import RST, Reply, Scenario, Script, after, hold, refuse
from .server import FaultServer
from .turns import call

RESOLVE = "POST /interrupts/int1/resolve"
GET_CHAT = f"GET /chats/{CHAT}"
BUSY = chat("working")
DONE = chat("completed")
ASKING = message("May I?", "ready")
READY = message("Thank you.", "ready", id="reply2", order=14)
ALREADY = refuse(409, "already_processed")


def interrupt(reason: str = "confirmation", **more: Any) -> Json:
    """Something that holds the run up."""
    form: Json = {"id": "int1", "reason": reason, "status": "pending", "chat_id": CHAT, "run_id": "run1"}
    return form | more


def held(state: str, *interrupts: Json) -> Json:
    """A stream line with the chat whose run waits for these."""
    return chat(state, pending_interrupts=list(interrupts))


def paused(client: Any) -> Generator[Any, Any, Any]:
    """An agent whose turn has paused for a person."""
    agent = client.agent("tests/agent")
    reply = yield agent.send_message("Hi")
    assert (reply.text, reply.pending_tool_calls, reply.pending_approvals) == ("May I?", (), ())
    return agent


META: Json = {"tool_name": "shell", "arguments": {"command": "ls"}}
READ = [
    pytest.param(META, META, id="object"),
    pytest.param(json.dumps(META), META, id="JSON text"),
    pytest.param(None, {}, id="null"),
    pytest.param("{half", {}, id="no JSON"),
    pytest.param([1], {}, id="a list"),
]


@pytest.mark.parametrize(("sent", "read"), READ)
def test_interrupts_can_be_read_on_the_chat(sent: object, read: Json, kind: Kind) -> None:
    """All that the server lists, whatever their status and reason, with their meta decoded and the rest in raw."""
    listed = [
        interrupt("tool_approval", resource_id="call1", resource_type="tool_invocation", meta=sent),
        interrupt("wait", id="int2", status="resolved"),
        interrupt("something_new", id="int3", status="odd"),
        "nonsense",
        {"reason": "auth"},
    ]
    answers = {GET_CHAT: [(Reply(chat_of("input_required", pending_interrupts=listed)),)]}
    with FaultServer(Scenario(answers=answers)) as server:
        told = call(kind, server, lambda client: client.agent("tests/agent", chat_id=CHAT).get_chat())
    first, *others = told.pending_interrupts
    assert (first.id, first.reason, first.status) == ("int1", InterruptReason.TOOL_APPROVAL, InterruptStatus.PENDING)
    assert (first.resource_id, first.resource_type, first.meta) == ("call1", "tool_invocation", read)
    assert (first.chat_id, first.run_id, first.raw) == (CHAT, "run1", listed[0])
    assert [(each.id, each.reason, each.status) for each in others] == [
        ("int2", "wait", "resolved"),
        ("int3", "something_new", "odd"),
        ("", "auth", "pending"),
    ]


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
@pytest.mark.parametrize(("state", "reason"), [("auth_required", "auth"), ("input_required", "confirmation")])
@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_run_that_waits_for_a_person_goes_on_when_it_was_decided(
    decision: str, state: str, reason: str, listed: bool, kind: Kind
) -> None:
    """It pauses with the message; after resolve_interrupt what is still said of the pause does not end it again."""
    waits = held(state, *[interrupt(reason)] * listed)
    rest: Script = (waits, run(state), hold("news"), waits, BUSY, READY, DONE)
    with FaultServer(Scenario(streams=[(BUSY, ASKING, waits), rest])) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = yield from paused(client)
            resolved = yield agent.resolve_interrupt("int1", decision)
            assert (resolved.id, resolved.status) == ("int1", InterruptStatus.RESOLVED)
            opener = threading.Timer(0.5, server.release, ["news"])
            opener.start()
            reply = yield agent.wait()
            opener.join()
            return reply

        assert call(kind, server, by_hand).text == "Thank you."
        assert [request.json for request in server.seen(RESOLVE)] == [{"decision": decision}]


def test_a_second_interrupt_pauses_the_turn_again_at_once(kind: Kind) -> None:
    """The chat names it, so it is not taken for the first one's echo."""
    second = held("input_required", interrupt(id="int2"))
    streams = [(BUSY, ASKING, held("input_required", interrupt())), (BUSY, second), (second, BUSY, READY, DONE)]
    with FaultServer(Scenario(streams=streams)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = yield from paused(client)
            yield agent.resolve_interrupt("int1", "allow")
            assert (yield agent.wait()).text == "May I?"
            yield agent.resolve_interrupt("int2", "allow")
            return (yield agent.wait())

        assert call(kind, server, by_hand).text == "Thank you."
        assert len(server.seen(f"GET /chats/{CHAT}/stream")) == 3


def test_an_interrupt_of_an_approval_decides_about_its_call(kind: Kind) -> None:
    """Though the answer says no more than that it was taken."""
    waiting = [call_of("awaiting_approval", type="app")]
    waits = message("May I?", calls=waiting)
    listed = held("input_required", interrupt("tool_approval", resource_id="call1"))
    ran = message("May I?", "ready", calls=[call_of("completed", type="app")])
    streams = [(BUSY, waits, listed), (listed, waits, hold("news"), BUSY, ran, READY, DONE)]
    with FaultServer(Scenario(streams=streams)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = client.agent("tests/agent")
            assert len((yield agent.send_message("Hi")).pending_approvals) == 1
            yield agent.resolve_interrupt("int1", "allow")
            opener = threading.Timer(0.3, server.release, ["news"])
            opener.start()
            reply = yield agent.wait()
            opener.join()
            return reply

        assert call(kind, server, by_hand).text == "Thank you."


@pytest.mark.parametrize("asks", ["confirmation", "auth", "answered"])
def test_a_call_that_asks_a_person_goes_on_when_it_was_decided(asks: str, kind: Kind) -> None:
    """Its own old form does not pause the turn again; a second form of the same call does."""

    def form(number: int) -> Json:
        data = json.dumps({"input_required": True, "round": number})
        return message("May I?", "ready", calls=[call_of("awaiting_input", type="mcp", data=data)])

    def listed(name: str) -> Json:
        return held("input_required", interrupt(asks, id=name, resource_id="call1"))

    def settle(agent: Any, name: str) -> Any:
        if asks == "answered":
            return agent.submit_tool_result("call1", {"name": {"action": "accept"}})
        return agent.resolve_interrupt(name, "allow")

    streams = [
        (BUSY, form(1), listed("int1")),
        (listed("int1"), form(1), hold("news"), BUSY, form(2), listed("int2")),
        (listed("int2"), form(2), BUSY, READY, DONE),
    ]
    with FaultServer(Scenario(streams=streams)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = yield from paused(client)
            yield settle(agent, "int1")
            opener = threading.Timer(0.3, server.release, ["news"])
            opener.start()
            again = yield agent.wait()
            opener.join()
            assert [each.data for each in again.tool_calls] == [{"input_required": True, "round": 2}]
            yield settle(agent, "int2")
            return (yield agent.wait())

        assert call(kind, server, by_hand).text == "Thank you."


def test_a_widget_can_be_read_and_answered(kind: Kind) -> None:
    """It pauses the turn like a form, and its result has the turn go on."""
    widget = {"version": "1", "components": [{"id": "ok", "type": "button"}]}
    shown = message("May I?", "ready", calls=[call_of("awaiting_input", type="internal", widget=widget, data={"n": 1})])
    listed = held("input_required", interrupt("widget", resource_id="call1"))
    streams = [(BUSY, shown, listed), (listed, shown, after("POST /tools/call1"), hold("news"), BUSY, READY, DONE)]
    with FaultServer(Scenario(streams=streams)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = client.agent("tests/agent")
            (shows,) = (yield agent.send_message("Hi")).tool_calls
            assert (shows.widget, shows.data) == (widget, {"n": 1})
            yield agent.submit_tool_result("call1", {"action": {"type": "ok"}})
            opener = threading.Timer(0.3, server.release, ["news"])
            opener.start()
            reply = yield agent.wait()
            opener.join()
            return reply

        assert call(kind, server, by_hand).text == "Thank you."


@pytest.mark.parametrize("decision", ["Allow", "", None, True, "yes"])
def test_a_decision_that_is_none_is_refused_before_it_is_sent(decision: Any, kind: Kind) -> None:
    """A ConfigurationError, which is a ValueError."""
    with FaultServer(Scenario()) as server:

        def by_hand(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent("tests/agent", chat_id=CHAT)
            with pytest.raises(ConfigurationError, match="'allow' or 'deny'"):
                yield agent.resolve_interrupt("int1", decision)
            with pytest.raises(ConfigurationError, match="is no interrupt id"):
                yield agent.resolve_interrupt("", "allow")

        call(kind, server, by_hand)
        assert server.requests == []


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([refuse(403, "requires_sign_in")], PermissionDeniedError),
        ([ALREADY], ConflictError),
        ([(RST,), ALREADY], None),
        ([(RST,), (Reply(interrupt(status="resolved", resolution="allow")),)], None),
        ([(Reply(b"true"),)], None),
    ],
    ids=["403", "409", "lost, then 409", "lost, then taken", "nothing but true"],
)
def test_what_the_server_says_to_a_decision(answers: list[Script], error: type[Exception] | None, kind: Kind) -> None:
    """A conflict after a lost answer says that it was taken; other refusals reach the caller."""
    with FaultServer(Scenario(answers={RESOLVE: answers})) as server:

        def by_hand(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent("tests/agent", chat_id=CHAT)
            if error is None:
                resolved = yield agent.resolve_interrupt("int1", "allow")
                assert (resolved.id, resolved.status) == ("int1", "resolved")
            else:
                with pytest.raises(error):
                    yield agent.resolve_interrupt("int1", "allow")

        call(kind, server, by_hand)

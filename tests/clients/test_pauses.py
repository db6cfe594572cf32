"""A chat that waits for input: its name, who is told what it waits for, and what becomes of messages sent meanwhile."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inferencesh import ConfigurationError, Inference, InputRequiredError, InterruptReason, MessageStatus, string, tool
from inferencesh.local import Ask
from tests.support import Gate, wait_until, warnings_of

from .conftest import Connect, Serve
from .test_approvals import CALL, OTHER, deleting
from .test_queued_messages import begin, queued

PLAIN = {"name": "tester", "tools": [tool("delete").param("path", string()).build()]}


def statuses(client: Inference, chat_id: str) -> list[MessageStatus]:
    """The status of each of the user's messages, oldest first."""
    return [message.status for message in client.chats.messages(chat_id) if message.role == "user"][::-1]


def open_when_queued(watcher: Inference, chat_id: str, gate: Gate) -> None:
    """Let the run go on once a message waits behind it."""
    queued(watcher, chat_id)
    gate.open()


# -- messages to a chat that waits -------------------------------------------------------------------------------------


@pytest.mark.timeout(10)
@pytest.mark.parametrize("agent_is", ["the same", "another", "without a configuration"])
@pytest.mark.parametrize("way", ["message", "stream", "run"])
def test_a_message_to_a_chat_that_waits_for_an_approval_is_withdrawn(
    serve: Serve, connect: Connect, agent_is: str, way: str
) -> None:
    """The error names what is pending; nothing stays in the queue, and the same message can be sent afterwards."""
    served = serve([CALL], ["Done."], ["Hello."])
    side, other = connect(served), connect(served)
    runs: list[str] = []
    agent = side.agent(deleting(runs))
    (waiting,) = side.result(agent.send_message("Delete it")).pending_approvals
    config = {} if agent_is == "without a configuration" else deleting(runs)
    sender = agent if agent_is == "the same" else other.agent(config, chat_id=agent.chat_id)

    def send() -> object:
        if way == "stream":
            return other.snapshots(sender.send_message("x", stream=True))
        return other.result(sender.run("x") if way == "run" else sender.send_message("x"))

    if agent_is == "the same":
        other = side
    with pytest.raises(InputRequiredError, match=rf"delete \({waiting.id}\).*was withdrawn") as caught:
        send()
    error = caught.value
    assert [call.id for call in error.pending_approvals] == [waiting.id]
    assert (error.pending_tool_calls, error.pending_interrupts, error.chat_id) == ((), (), agent.chat_id)
    assert error.message is not None
    assert error.message.paused
    with Inference(**served.address) as watcher:
        assert statuses(watcher, agent.chat_id) == ["ready", "cancelled"]
    side.result(agent.approve_tool(waiting))
    assert (side.result(agent.wait()).text, runs) == ("Done.", ["/tmp/a"])
    assert other.result(sender.send_message("x")).text == "Hello."


@pytest.mark.timeout(10)
def test_a_message_to_a_chat_that_waits_for_a_result_is_withdrawn(serve: Serve, connect: Connect) -> None:
    """A moment later, because another program may be about to give it."""
    served = serve([CALL], ["Done."])
    side, other = connect(served), connect(served)
    agent = side.agent(PLAIN)
    (waiting,) = side.result(agent.send_message("Delete it")).pending_tool_calls
    with pytest.raises(InputRequiredError, match="submit_tool_result") as caught:
        other.result(other.agent(PLAIN, chat_id=agent.chat_id).send_message("x"))
    assert [call.id for call in caught.value.pending_tool_calls] == [waiting.id]
    side.result(agent.submit_tool_result(waiting, "gone"))
    assert side.result(agent.wait()).text == "Done."


@pytest.mark.timeout(10)
@pytest.mark.parametrize("reason", ["confirmation", "auth"])
def test_a_message_to_a_chat_that_waits_for_a_decision_is_withdrawn(
    serve: Serve, connect: Connect, reason: Any
) -> None:
    """The interrupt is at hand to be resolved."""
    served = serve([Ask("Shall I?", reason)], ["Done."])
    side, other = connect(served), connect(served)
    agent = side.agent()
    side.result(agent.send_message("Do it"))
    heir = other.agent(chat_id=agent.chat_id)
    with pytest.raises(InputRequiredError, match="resolve_interrupt") as caught:
        other.result(heir.send_message("x"))
    (interrupt,) = caught.value.pending_interrupts
    assert interrupt.reason == reason
    other.result(heir.resolve_interrupt(interrupt, "allow"))
    assert other.result(heir.wait()).text == "Done."


@pytest.mark.timeout(10)
def test_a_message_is_withdrawn_when_the_run_before_it_begins_to_wait(serve: Serve, connect: Connect) -> None:
    """It was queued behind a busy run, which then asks for an approval."""
    gate = Gate()
    served = serve(["Let me see. ", gate, CALL], ["Done."])
    side, other = connect(served), connect(served)
    agent = side.agent(deleting([]))
    chat_id = begin(side, agent)
    with Inference(**served.address) as watcher, ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_when_queued, watcher, chat_id, gate)
        with pytest.raises(InputRequiredError, match="the approval of delete"):
            other.result(other.agent(deleting([]), chat_id=chat_id).send_message("x"))
        opened.result(1)
        assert statuses(watcher, chat_id) == ["ready", "cancelled"]


@pytest.mark.timeout(10)
def test_a_tool_that_runs_elsewhere_does_not_send_a_queued_message_back(serve: Serve, connect: Connect) -> None:
    """Its result ends the pause, and the message has its turn."""
    gate = Gate()
    served = serve([CALL], ["Done."], ["Hello."])
    side, other = connect(served), connect(served)
    built = tool("delete").param("path", string()).handler(lambda _: gate.wait()).build()
    agent = side.agent({"name": "tester", "tools": [built]})
    with Inference(**served.address) as watcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: side.result(agent.send_message("Delete it")))
        wait_until(lambda: agent.chat_id is not None, "chat", 5.0)
        gate.reached()
        opened = pool.submit(open_when_queued, watcher, agent.chat_id, gate)
        assert other.result(other.agent(PLAIN, chat_id=agent.chat_id).send_message("x")).text == "Hello."
        opened.result(1)
        assert first.result(5).text == "Done."


# -- pauses by name ----------------------------------------------------------------------------------------------------


def test_a_message_says_whether_it_is_paused(serve: Serve, connect: Connect) -> None:
    """Its text is complete, and still the run has not ended."""
    side = connect(serve([CALL], ["Done."]))
    agent = side.agent(deleting([]))
    reply = side.result(agent.send_message("Delete it"))
    assert (reply.done, reply.paused) == (True, True)
    side.result(agent.reject_tool(reply.pending_approvals[0]))
    reply = side.result(agent.wait())
    assert (reply.done, reply.paused) == (True, False)


@pytest.mark.parametrize("reason", ["confirmation", "auth"])
def test_a_decision_that_is_waited_for_stands_at_the_message(serve: Serve, connect: Connect, reason: Any) -> None:
    """It can be resolved as it is; the reply that follows has none."""
    side = connect(serve([Ask("Shall I?", reason)], ["Done."]))
    agent = side.agent()
    reply = side.result(agent.send_message("Do it"))
    (interrupt,) = reply.pending_interrupts
    assert (reply.paused, interrupt.reason) == (True, InterruptReason(reason))
    side.result(agent.resolve_interrupt(interrupt, "allow"))
    reply = side.result(agent.wait())
    assert (reply.text, reply.paused, reply.pending_interrupts) == ("Done.", False, ())


# -- waiting through pauses --------------------------------------------------------------------------------------------


@pytest.mark.timeout(10)
@pytest.mark.parametrize("cut", [False, True], ids=["one stream", "streams that are lost"])
def test_wait_until_the_end_goes_through_pauses_that_others_end(serve: Serve, connect: Connect, cut: bool) -> None:
    """The requester runs its tool; the approver has nothing but the chat's id. Lost streams do not add up."""
    served = serve([CALL], [OTHER], ["Done."])
    side = connect(served, max_reconnects=2)
    runs: list[str] = []
    agent = side.agent(deleting(runs))
    side.result(agent.send_message("Delete both"))

    def approve() -> None:
        with Inference(**served.address) as client:
            for _ in range(2):
                approver = client.agent({}, chat_id=agent.chat_id)
                while not (reply := approver.wait()).pending_approvals:
                    assert reply.paused, "the requester is running the call before"
                for _ in range(4 if cut else 0):
                    wait_until(lambda: served.runtime.open_streams == 1, "stream", 5.0)
                    served.run(cut_streams())
                approver.approve_tool(reply.pending_approvals[0])

    async def cut_streams() -> None:
        served.runtime.cut_streams()

    with ThreadPoolExecutor(1) as pool:
        approved = pool.submit(approve)
        reply = side.result(agent.wait(until="end"))
        approved.result(5)
    assert (reply.text, reply.paused, runs) == ("Done.", False, ["/tmp/a", "/tmp/b"])


def test_wait_refuses_another_word(serve: Serve, connect: Connect) -> None:
    """At once, and with what it may be."""
    side = connect(serve(["Hi."]))
    with pytest.raises(ConfigurationError, match="until must be 'input' or 'end', not 'over'"):
        side.result(side.agent().wait(until="over"))


def test_an_approved_call_that_nobody_here_can_run_is_warned_about(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, by name; the message carries the call, which can be answered by hand."""
    served = serve([CALL], ["Done."])
    side, other = connect(served), connect(served)
    agent = side.agent(deleting([]))
    side.result(agent.send_message("Delete it"))
    approver = other.agent({}, chat_id=agent.chat_id)
    (call,) = other.result(approver.wait()).pending_approvals
    with caplog.at_level(logging.WARNING, "inferencesh"):
        other.result(approver.approve_tool(call))
        reply = other.result(approver.wait())
    (warning,) = warnings_of(caplog)
    assert call.id in warning.getMessage()
    assert "has no handler" in caplog.text
    assert (reply.paused, [each.id for each in reply.pending_tool_calls]) == (True, [call.id])
    other.result(approver.submit_tool_result(reply.pending_tool_calls[0], "gone"))
    assert other.result(approver.wait()).text == "Done."

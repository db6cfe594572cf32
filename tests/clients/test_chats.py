"""A conversation over several turns: wait, stop, get_chat, reset, and taking a chat up elsewhere."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from inferencesh import ChatStatus, InferenceError, RunFailedError, RunState, string, tool
from inferencesh.local import Fail
from inferencesh.local import ToolCall as Calls
from tests.support import Gate

from .conftest import Connect, Serve
from .sides import Side


def begin(side: Side, agent: Any) -> None:
    """Send a message and leave the turn after its first snapshot."""
    stream = agent.send_message("Hi", stream=True)
    side.next(stream)
    side.close(stream)


def test_wait_follows_a_turn_that_is_going_on(serve: Serve, connect: Connect) -> None:
    """Leaving a stream does not end the run; wait() returns its final message."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"])
    side = connect(served)
    agent = side.agent()
    begin(side, agent)
    gate.open()
    reply = side.result(agent.wait())
    assert (reply.text, reply.status) == ("Hello, world", "ready")
    assert len(served.script.asked) == 1


def test_stream_messages_attaches_to_a_turn_that_is_going_on(serve: Serve, connect: Connect) -> None:
    """It yields what is new since the agent's last snapshot."""
    gate = Gate()
    side = connect(serve(["Hello,", gate, " world"]))
    agent = side.agent()
    begin(side, agent)
    gate.open()
    snapshots = side.snapshots(agent.stream_messages())
    assert snapshots[-1].text == "Hello, world"
    assert "Hello," not in [snapshot.text for snapshot in snapshots]


def test_another_agent_sees_a_running_turn_whole(serve: Serve, connect: Connect) -> None:
    """One that has not seen anything of the turn gets it from its present state on."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    begin(side, agent)
    stream = other.agent(chat_id=agent.chat_id).stream_messages()
    assert other.next(stream).text == "Hello,"
    gate.open()
    assert other.snapshots(stream)[-1].text == "Hello, world"


def test_with_nothing_running_wait_returns_the_last_message(serve: Serve, connect: Connect) -> None:
    """At once, for the agent that had the turn and for another one; a stream is empty and has it as its result."""
    served = serve(["one"], ["two"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    for text in ("one", "two"):
        assert side.result(agent.send_message("Hi")).text == text
        assert side.result(agent.wait()).text == text
    heir = other.agent(chat_id=agent.chat_id)
    assert other.result(heir.wait()).text == "two"
    stream = heir.stream_messages()
    assert other.snapshots(stream) == []
    assert other.result(stream.get_final_message()).text == "two"


@pytest.mark.parametrize("use", ["wait", "stream_messages", "get_chat"])
def test_without_a_chat_there_is_nothing_to_wait_for(serve: Serve, connect: Connect, use: str) -> None:
    """An error that says what to do; nothing is sent."""
    side = connect(serve(["Hello"]))
    finish = side.snapshots if use == "stream_messages" else side.result
    with pytest.raises(InferenceError, match="no chat yet: send a message first"):
        finish(getattr(side.agent(), use)())


def test_turns_follow_one_another_in_one_chat(serve: Serve, connect: Connect) -> None:
    """The model sees all of the conversation; a stream yields the messages of its own turn only."""
    served = serve(["one"], ["two"], ["three"])
    side = connect(served)
    agent = side.agent()
    side.result(agent.send_message("first"))
    chat_id = agent.chat_id
    for asked, text in (("second", "two"), ("third", "three")):
        snapshots = side.snapshots(agent.send_message(asked, stream=True))
        assert {snapshot.id for snapshot in snapshots} == {snapshots[-1].id}
        assert snapshots[-1].text == text
    assert agent.chat_id == chat_id
    seen = [(message.role, message.text) for message in served.script.asked[-1].messages]
    assert seen == [
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
        ("assistant", "two"),
        ("user", "third"),
    ]


def test_a_chat_is_taken_up_by_its_id(serve: Serve, connect: Connect) -> None:
    """Another client continues it; the model sees what was said before."""
    served = serve(["one"], ["two"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    side.result(agent.send_message("first"))
    heir = other.agent(chat_id=agent.chat_id)
    assert heir.chat_id == agent.chat_id
    assert other.result(heir.send_message("second")).text == "two"
    assert [message.text for message in served.script.asked[-1].messages] == ["first", "one", "second"]


def test_reset_begins_a_new_chat(serve: Serve, connect: Connect) -> None:
    """The agent forgets its chat, whatever state it was in; the old one goes on to exist."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"], ["new"])
    side = connect(served)
    agent = side.agent()
    begin(side, agent)
    old = agent.chat_id
    agent.reset()
    assert agent.chat_id is None
    assert side.result(agent.send_message("Hi")).text == "new"
    assert agent.chat_id != old
    gate.open()
    assert side.result(side.agent(chat_id=old).wait()).text == "Hello, world"


def test_an_agents_chats_are_its_own(serve: Serve, connect: Connect) -> None:
    """Two agents of one client have a chat each."""
    side = connect(serve(["Hello"]))
    one, two = side.agent(), side.agent()
    side.result(one.send_message("Hi"))
    side.result(two.send_message("Hi"))
    assert one.chat_id != two.chat_id
    assert repr(one) == f"{type(one).__name__}(chat_id={one.chat_id!r})"


def test_stop_ends_the_run(serve: Serve, connect: Connect) -> None:
    """The stream that follows it ends normally, with what there was of the reply, cancelled."""
    side = connect(serve(["Hello,", Gate(), " world"]))
    agent = side.agent()
    stream = agent.send_message("Hi", stream=True)
    side.next(stream)
    side.result(agent.stop())
    rest = side.snapshots(stream)
    assert (rest[-1].text, rest[-1].status, rest[-1].done) == ("Hello,", "cancelled", True)
    assert side.result(agent.get_chat()).active_run.state == RunState.CANCELED
    assert side.result(agent.wait()).status == "cancelled"


def test_a_stream_can_end_its_run(serve: Serve, connect: Connect) -> None:
    """For those who have the stream and not its agent; before the turn has begun nothing happens."""
    served = serve(["Hello,", Gate(), " world"])
    side = connect(served)
    stream = side.agent().send_message("Hi", stream=True)
    side.result(stream.stop())
    assert served.script.asked == []
    side.next(stream)
    side.result(stream.stop())
    assert side.result(stream.get_final_message()).status == "cancelled"


def test_history_is_the_whole_conversation(serve: Serve, connect: Connect) -> None:
    """Messages of user, assistant and tools in their order, for whoever has the chat's id."""
    served = serve(["Let me see.", Calls("calculator", {"expression": "1+1"})], ["It is 2."])
    side, other = connect(served), connect(served)
    calculator = tool("calculator").handler(lambda _given: 2).build()
    agent = side.agent({"name": "tester", "tools": [calculator]})
    with pytest.raises(InferenceError, match="no chat yet"):
        side.result(agent.history())
    side.result(agent.send_message("1+1?"))
    messages = other.result(other.agent(chat_id=agent.chat_id).history())
    said = [(message.role, message.text) for message in messages]
    assert said == [("user", "1+1?"), ("assistant", "Let me see."), ("tool", "2"), ("assistant", "It is 2.")]


def test_stop_ends_a_pause(serve: Serve, connect: Connect) -> None:
    """The call that waited takes no result any more, and the next message begins a new turn."""
    side = connect(serve([Calls("calculator", {"expression": "1"})], ["new"]))
    calculator = tool("calculator").param("expression", string()).build()
    agent = side.agent({"name": "tester", "tools": [calculator]})
    (call,) = side.result(agent.send_message("?")).pending_tool_calls
    side.result(agent.stop())
    assert side.result(agent.wait()).pending_tool_calls == ()
    with pytest.raises(InferenceError):
        side.result(agent.submit_tool_result(call.id, "1"))
    assert side.result(agent.send_message("Hi")).text == "new"


def test_stop_with_nothing_to_stop(serve: Serve, connect: Connect) -> None:
    """Nothing happens: without a chat, and after the end of a run."""
    side = connect(serve(["Hello"]))
    agent = side.agent()
    side.result(agent.stop())
    side.result(agent.send_message("Hi"))
    side.result(agent.stop())
    assert side.result(agent.wait()).status == "ready"


def test_get_chat_reads_the_chat(serve: Serve, connect: Connect) -> None:
    """Its id, state, context and run, as they are at the server."""
    gate = Gate()
    side = connect(serve(["Hello,", gate, " world"]))
    agent = side.agent(context={"customer": "Ada"})
    begin(side, agent)
    chat = side.result(agent.get_chat())
    assert (chat.id, chat.status, chat.context) == (agent.chat_id, ChatStatus.BUSY, {"customer": "Ada"})
    assert chat.active_run is not None
    assert chat.active_run.state == RunState.WORKING
    gate.open()
    side.result(agent.wait())
    assert side.result(agent.get_chat()).status == ChatStatus.IDLE


def test_a_failed_run_raises_after_its_last_snapshot(serve: Serve, connect: Connect) -> None:
    """The error says why, and carries what there was of the reply; on_message is not told of an end."""
    gate = Gate()
    told: list[bool] = []
    side = connect(serve(["Hello,", gate, Fail("out of memory")]))
    agent = side.agent()
    stream = agent.send_message("Hi", stream=True, on_message=lambda _text, done: told.append(done))
    seen = [side.next(stream)]
    gate.open()

    def read_on() -> None:
        while True:
            seen.append(side.next(stream))

    with pytest.raises(RunFailedError, match="out of memory") as caught:
        read_on()
    assert caught.value.detail == "out of memory"
    assert caught.value.message == seen[-1]
    assert (seen[-1].text, seen[-1].status) == ("Hello,", "failed")
    assert caught.value.chat_id == agent.chat_id
    assert not any(told)
    with pytest.raises(RunFailedError):
        side.result(stream.get_final_message())
    assert not any(told)


def test_a_failed_run_raises_from_a_plain_call(serve: Serve, connect: Connect) -> None:
    """And the chat can be used for another turn."""
    side = connect(serve([ValueError("the model is broken")], ["better"]))
    agent = side.agent()
    with pytest.raises(RunFailedError, match="the model is broken"):
        side.result(agent.send_message("Hi"))
    assert side.result(agent.send_message("Hi")).text == "better"


def test_a_message_to_a_busy_chat_waits_its_turn(serve: Serve, connect: Connect) -> None:
    """It is queued at the server, and its stream yields its own reply."""
    gate = Gate()
    served = serve(["one", gate], ["two"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    begin(side, agent)
    queued = other.agent(chat_id=agent.chat_id).send_message("second", stream=True)
    opener = threading.Timer(0.05, gate.open)
    opener.start()
    snapshots = other.snapshots(queued)
    opener.join()
    assert {snapshot.text for snapshot in snapshots} == {"two"}


@pytest.mark.timeout(5)
def test_wait_ends_when_somebody_else_has_gone_on(serve: Serve, connect: Connect) -> None:
    """An agent that has left its turn may come back when the chat has had further turns without it."""
    gate = Gate()
    served = serve(["one", gate], ["two"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    begin(side, agent)
    gate.open()
    heir = other.agent(chat_id=agent.chat_id)
    other.result(heir.wait())
    assert other.result(heir.send_message("second")).text == "two"
    assert side.result(agent.wait()).text in {"one", "two"}
    assert side.result(agent.send_message("third")).text == "two"

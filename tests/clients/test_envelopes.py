"""The same scenarios against every generation of envelopes and every kind of updates, in both clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from inferencesh import ConflictError, Message, NotFoundError, RunFailedError, RunState, string, tool
from inferencesh.local import Fail, Reasoning, RuntimeOptions
from inferencesh.local import ToolCall as Calls
from inferencesh.local._api.problems import Envelope
from inferencesh.local.feed import Updates
from tests.support import Gate, Served, Step

from .conftest import Connect, Serve

CALL = Calls("calculator", {"expression": "42 * 17", "digits": [1, {"of": "three"}]})
BY_HAND = tool("calculator").param("expression", string()).build()
BY_ITSELF = tool("calculator").handler(lambda given: {"seen": given["expression"]}).build()

Start = Callable[..., Served]


@pytest.fixture(params=[f"{envelope}-{updates}" for envelope in get_args(Envelope) for updates in get_args(Updates)])
def start(request: pytest.FixtureRequest, serve: Serve) -> Start:
    """Start a runtime that answers in one of the ways."""
    envelope, updates = request.param.split("-")
    options: RuntimeOptions = {"envelope": envelope, "updates": updates}

    def started(*steps: Sequence[Step]) -> Served:
        return serve(*steps, **options)

    return started


def texts(snapshots: Sequence[Message]) -> dict[str, list[str]]:
    """The texts of the snapshots, by message, each checked to go on from the one before."""
    found: dict[str, list[str]] = {}
    for snapshot in snapshots:
        known = found.setdefault(snapshot.id, [])
        assert snapshot.text.startswith(known[-1] if known else "")
        assert snapshot.delta == snapshot.text[len(known[-1]) if known else 0 :]
        known.append(snapshot.text)
    return found


def test_text_that_grows(start: Start, connect: Connect) -> None:
    """Snapshots from the first piece to the last, the final one ready; then the next turn of the same chat."""
    gates = [Gate(), Gate()]
    side = connect(start(["Once", gates[0], " upon", gates[1], " a time 🌍"], ["The", " end"]))
    agent = side.agent()
    stream = agent.send_message("A story", stream=True)
    seen = [side.next(stream)]
    gates[0].open()
    while seen[-1].text != "Once upon":
        seen.append(side.next(stream))
    gates[1].open()
    seen += side.snapshots(stream)
    (story,) = texts(seen).values()
    assert story[0] == "Once"
    assert story[-1] == "Once upon a time 🌍"
    assert seen[-1].status == "ready"
    assert side.result(agent.wait()).text == story[-1]
    (end,) = texts(side.snapshots(agent.send_message("And?", stream=True))).values()
    assert end[-1] == "The end"


def test_a_tool_with_a_handler(start: Start, connect: Connect) -> None:
    """The handler gets the arguments whole, and the turn goes on with its result."""
    called: list[object] = []
    served = start([Reasoning("Hm. "), "Let me", " see.", CALL], ["It is", " 714."])
    side = connect(served)
    agent = side.agent({"name": "tester", "tools": [BY_ITSELF]})
    snapshots = side.snapshots(
        agent.send_message("?", stream=True, on_tool_call=lambda call: called.append(call.arguments))
    )
    first, last = texts(snapshots).values()
    assert (first[-1], last[-1]) == ("Let me see.", "It is 714.")
    assert called == [CALL.arguments]
    assert any(snapshot.reasoning == "Hm. " for snapshot in snapshots)
    assert served.script.asked[1].messages[-1].text == '{"seen":"42 * 17"}'


def test_a_tool_without_a_handler(start: Start, connect: Connect) -> None:
    """The turn pauses with the call; another client answers it and takes up the rest; both see the end."""
    served = start([CALL], ["It is", " 714."])
    side, other = connect(served), connect(served)
    agent = side.agent({"name": "tester", "tools": [BY_HAND]})
    (call,) = side.result(agent.send_message("?")).pending_tool_calls
    assert call.arguments == CALL.arguments
    heir = other.agent(chat_id=agent.chat_id)
    other.result(heir.submit_tool_result(call.id, 714))
    assert other.snapshots(heir.stream_messages())[-1].text == "It is 714."
    assert side.result(agent.wait()).text == "It is 714."
    with pytest.raises(ConflictError) as refused:
        side.result(agent.submit_tool_result(call.id, 715))
    assert (refused.value.status_code, refused.value.code) == (409, "already_processed")


def test_runs_that_end_otherwise(start: Start, connect: Connect) -> None:
    """A failed run raises with its reason, a stopped one ends as cancelled, and the chat says so."""
    side = connect(start(["Hello,", Fail("no more tokens")], ["Hello,", Gate(), " world"]))
    agent = side.agent()
    with pytest.raises(RunFailedError, match="no more tokens") as failed:
        side.result(agent.send_message("Hi"))
    assert failed.value.message is not None
    assert failed.value.message.text == "Hello,"
    stream = agent.send_message("Hi", stream=True)
    assert side.next(stream).text == "Hello,"
    side.result(agent.stop())
    assert side.result(stream.get_final_message()).status == "cancelled"
    chat = side.result(agent.get_chat())
    assert chat.id == agent.chat_id
    assert chat.active_run is not None
    assert chat.active_run.state == RunState.CANCELED


def test_what_does_not_exist(start: Start, connect: Connect) -> None:
    """Errors keep status, code and detail in every form."""
    side = connect(start(["Hello"]))
    for call in ("get_chat", "wait"):
        with pytest.raises(NotFoundError, match="There is no chat 'nope'") as missing:
            side.result(getattr(side.agent(chat_id="nope"), call)())
        assert (missing.value.status_code, missing.value.code) == (404, "not_found")

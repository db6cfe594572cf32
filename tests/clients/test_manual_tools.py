"""Client tools without a handler: the turn pauses, the caller submits the result, and the turn goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from inferencesh import ConflictError, Message, NotFoundError, ToolCall, string, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, Served

from .conftest import Connect, Serve
from .sides import Side
from .test_tool_handlers import RESULTS, results

CALL = Calls("calculator", {"expression": "42 * 17"})
CALCULATOR = tool("calculator").describe("Do math").param("expression", string("Expression")).build()
AGENT = {"name": "tester", "tools": [CALCULATOR]}


def pause(side: Side, agent: Any) -> ToolCall:
    """Send a message; the turn pauses for one call, which is returned."""
    reply: Message = side.result(agent.send_message("42 * 17?"))
    (call,) = reply.pending_tool_calls
    return call


def test_a_reply_carries_the_calls_that_wait(serve: Serve, connect: Connect) -> None:
    """The plain call returns at the pause, with name, decoded arguments and id of the call."""
    side = connect(serve(["Let me see. ", CALL], ["done"]))
    reply = side.result(side.agent(AGENT).send_message("42 * 17?"))
    (call,) = reply.pending_tool_calls
    assert reply.text == "Let me see. "
    assert (call.name, call.arguments, call.pending) == ("calculator", {"expression": "42 * 17"}, True)


def test_a_stream_ends_at_the_pause(serve: Serve, connect: Connect) -> None:
    """Its last snapshot, its result and the end told to on_message are those of the message that waits."""
    told: list[tuple[str, bool]] = []
    side = connect(serve(["Let me see. ", CALL], ["done"]))
    stream = side.agent(AGENT).send_message(
        "42 * 17?", stream=True, on_message=lambda text, done: told.append((text, done))
    )
    snapshots = side.snapshots(stream)
    assert snapshots[-1].pending_tool_calls
    assert side.result(stream.get_final_message()).pending_tool_calls == snapshots[-1].pending_tool_calls
    assert told[-1] == ("Let me see. ", True)
    assert [done for _, done in told].count(True) == 1


def test_the_turn_goes_on_after_the_result(serve: Serve, connect: Connect) -> None:
    """wait() returns what the model makes of it."""
    served = serve([CALL], ["It is 714."])
    side = connect(served)
    agent = side.agent(AGENT)
    call = pause(side, agent)
    side.result(agent.submit_tool_result(call.id, "714"))
    reply = side.result(agent.wait())
    assert (reply.text, reply.done, reply.pending_tool_calls) == ("It is 714.", True, ())
    assert results(served) == ["714"]


def test_the_rest_of_the_turn_can_be_streamed(serve: Serve, connect: Connect) -> None:
    """stream_messages() brings what is new, not what was delivered before the pause."""
    gate = Gate()
    told: list[tuple[str, bool]] = []
    side = connect(serve(["Let me see. ", CALL], ["It is", gate, " 714."]))
    agent = side.agent(AGENT)
    call = pause(side, agent)
    side.result(agent.submit_tool_result(call.id, "714"))
    stream = agent.stream_messages(on_message=lambda text, done: told.append((text, done)))
    first = side.next(stream)
    gate.open()
    rest = [first, *side.snapshots(stream)]
    assert {snapshot.id for snapshot in rest} == {rest[-1].id}
    assert rest[-1].text == "It is 714."
    assert told[-1] == ("It is 714.", True)


def test_waiting_again_at_a_pause_returns_the_pause(serve: Serve, connect: Connect) -> None:
    """As often as it is asked, at once, and without a second run of anything."""
    side = connect(serve([CALL], ["done"]))
    agent = side.agent(AGENT)
    call = pause(side, agent)
    for _ in range(2):
        assert side.result(agent.wait()).pending_tool_calls == (call,)


def test_a_pause_lasts_until_the_last_result(serve: Serve, connect: Connect) -> None:
    """With two calls in one message, wait() after the first result returns the one that is left."""
    served = serve([CALL, Calls("calculator", {"expression": "1+1"})], ["done"])
    side = connect(served)
    agent = side.agent(AGENT)
    first, second = side.result(agent.send_message("Both?")).pending_tool_calls
    side.result(agent.submit_tool_result(second.id, "2"))
    assert [call.id for call in side.result(agent.wait()).pending_tool_calls] == [first.id]
    side.result(agent.submit_tool_result(first.id, "714"))
    assert side.result(agent.wait()).text == "done"
    assert results(served) == ["714", "2"]


@pytest.mark.parametrize(("given", "told"), RESULTS, ids=lambda value: repr(value)[:20])
def test_results_are_sent_as_text_or_json(serve: Serve, connect: Connect, given: object, told: str) -> None:
    """Text as it is; mappings, sequences, numbers and attrs classes as JSON."""
    served = serve([CALL], ["done"])
    side = connect(served)
    agent = side.agent(AGENT)
    call = pause(side, agent)
    side.result(agent.submit_tool_result(call.id, given))
    side.result(agent.wait())
    assert results(served) == [told]


@pytest.mark.parametrize("given", [object(), {"a": object()}, {"mean": float("inf")}])
def test_a_result_without_a_json_form_is_refused(serve: Serve, connect: Connect, given: object) -> None:
    """A TypeError before anything is sent; the call goes on waiting."""
    side = connect(serve([CALL], ["done"]))
    agent = side.agent(AGENT)
    call = pause(side, agent)
    with pytest.raises(TypeError, match="no JSON form"):
        side.result(agent.submit_tool_result(call.id, given))
    side.result(agent.submit_tool_result(call.id, "714"))
    assert side.result(agent.wait()).text == "done"


def test_a_second_result_is_a_conflict(serve: Serve, connect: Connect) -> None:
    """The server keeps the first; the caller learns it by a typed error with status, code and explanation."""
    served = serve([CALL], ["done"])
    side = connect(served)
    agent = side.agent(AGENT)
    call = pause(side, agent)
    side.result(agent.submit_tool_result(call.id, "714"))
    with pytest.raises(ConflictError) as caught:
        side.result(agent.submit_tool_result(call.id, "715"))
    assert (caught.value.status_code, caught.value.code) == (409, "already_processed")
    assert "takes no result" in caught.value.detail
    assert side.result(agent.wait()).text == "done"
    assert results(served) == ["714"]


def test_a_call_that_does_not_exist(serve: Serve, connect: Connect) -> None:
    """NotFoundError, with a chat and without one; the chat is unharmed."""
    side = connect(serve([CALL], ["done"]))
    agent = side.agent(AGENT)
    with pytest.raises(NotFoundError):
        side.result(agent.submit_tool_result("no/such?call", "1"))
    call = pause(side, agent)
    with pytest.raises(NotFoundError) as caught:
        side.result(agent.submit_tool_result("nothing", "1"))
    assert (caught.value.status_code, caught.value.code) == (404, "not_found")
    assert [each.id for each in side.result(agent.wait()).pending_tool_calls] == [call.id]


@pytest.mark.parametrize("handler", [None, lambda _given: "from the handler"], ids=["no handler", "handler"])
def test_on_tool_call_may_submit_the_result(serve: Serve, connect: Connect, handler: Callable[..., Any] | None) -> None:
    """Then no handler runs and nothing pauses: the turn goes on by itself."""
    served = serve([CALL], ["It is 714."])
    side = connect(served)
    builder = tool("calculator").param("expression", string())
    agent = side.agent({"name": "t", "tools": [(builder.handler(handler) if handler else builder).build()]})

    async def submit(call: ToolCall) -> None:
        await agent.submit_tool_result(call.id, "714")

    def submit_blocking(call: ToolCall) -> None:
        agent.submit_tool_result(call.id, "714")

    callback = submit if side.kind == "async" else submit_blocking
    reply = side.result(agent.send_message("42 * 17?", on_tool_call=callback))
    assert reply.text == "It is 714."
    assert results(served) == ["714"]


def test_on_tool_call_alone_does_not_answer(serve: Serve, connect: Connect) -> None:
    """Without a handler and without a submitted result, the turn pauses as it would without the callback."""
    seen: list[str] = []
    side = connect(serve([CALL], ["done"]))
    reply = side.result(side.agent(AGENT).send_message("?", on_tool_call=lambda call: seen.append(call.id)))
    assert [call.id for call in reply.pending_tool_calls] == seen


def test_a_handler_and_a_manual_tool_in_one_message(serve: Serve, connect: Connect) -> None:
    """One runs by itself, the other waits for its caller."""
    served = serve([CALL, Calls("clock", {})], ["done"])
    side = connect(served)
    clock = tool("clock").handler(lambda: "noon").build()
    agent = side.agent({"name": "tester", "tools": [CALCULATOR, clock]})
    call = pause(side, agent)
    assert call.name == "calculator"
    side.result(agent.submit_tool_result(call.id, "714"))
    assert side.result(agent.wait()).text == "done"
    assert results(served) == ["714", "noon"]


TakeUp = Callable[[Side, Any, ToolCall], None]


def answer_first(side: Side, agent: Any, call: ToolCall) -> None:
    """Submit the result before looking at the chat."""
    side.result(agent.submit_tool_result(call.id, "714"))


def wait_first(side: Side, agent: Any, call: ToolCall) -> None:
    """Find the pause by wait(), then submit."""
    assert [each.id for each in side.result(agent.wait()).pending_tool_calls] == [call.id]
    side.result(agent.submit_tool_result(call.id, "714"))


def stream_first(side: Side, agent: Any, call: ToolCall) -> None:
    """Find the pause by stream_messages(), then submit."""
    snapshots: Sequence[Message] = side.snapshots(agent.stream_messages())
    assert [each.id for each in snapshots[-1].pending_tool_calls] == [call.id]
    side.result(agent.submit_tool_result(call.id, "714"))


@pytest.mark.parametrize("take_up", [answer_first, wait_first, stream_first], ids=lambda way: way.__name__)
def test_another_client_takes_up_a_paused_chat(serve: Serve, connect: Connect, take_up: TakeUp) -> None:
    """With the chat's id alone, in whatever order it looks and answers."""
    served: Served = serve([CALL], ["It is 714."])
    side, other = connect(served), connect(served)
    agent = side.agent(AGENT)
    call = pause(side, agent)
    heir = other.agent(AGENT, chat_id=agent.chat_id)
    take_up(other, heir, call)
    assert other.result(heir.wait()).text == "It is 714."
    assert side.result(agent.wait()).text == "It is 714."


def test_a_client_with_a_handler_answers_a_paused_chat(serve: Serve, connect: Connect) -> None:
    """Attaching is enough: its handler runs, and the turn goes on."""
    served = serve([CALL], ["It is 714."])
    side, other = connect(served), connect(served)
    agent = side.agent(AGENT)
    pause(side, agent)
    calculator = tool("calculator").param("expression", string()).handler(lambda _given: 714).build()
    heir = other.agent({"name": "tester", "tools": [calculator]}, chat_id=agent.chat_id)
    assert other.result(heir.wait()).text == "It is 714."
    assert results(served) == ["714"]

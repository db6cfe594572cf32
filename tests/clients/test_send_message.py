"""Every form of sending a message, in both clients."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest

from inferencesh import AsyncInference, Message, MessageStatus, Role, string, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, Script, Served

from .conftest import Connect, Serve
from .styles import STYLES, styled

CALL = Calls("calculator", {"expression": "6*7"})
CALCULATOR = tool("calculator").param("expression", string()).handler(lambda _given: "42").build()
AGENT = {"name": "tester", "tools": [CALCULATOR]}


class Heard:
    """An on_message callback that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, text: str, done: bool) -> None:
        self.calls.append((text, done))

    def check(self, final: str) -> None:
        """Growing texts with done=False, then once the final one with done=True."""
        assert self.calls[-1] == (final, True)
        assert [done for _, done in self.calls[:-1]] == [False] * (len(self.calls) - 1)
        texts = [text for text, _ in self.calls]
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_a_plain_call_returns_the_final_message(serve: Serve, connect: Connect) -> None:
    """The whole reply, ready, with its chat known to the agent."""
    side = connect(serve(["Hello,", " world"]))
    agent = side.agent()
    reply = side.result(agent.send_message("Hi"))
    assert (reply.text, reply.done, reply.status, reply.role) == ("Hello, world", True, "ready", Role.ASSISTANT)
    assert reply.chat_id == agent.chat_id != None  # noqa: E711 - of two things at once
    assert reply.pending_tool_calls == ()


def test_a_stream_yields_the_whole_message_so_far(serve: Serve, connect: Connect) -> None:
    """Each snapshot holds the complete text; the last one is the final message."""
    gate = Gate()
    side = connect(serve(["Once", gate, " upon", " a time"]))
    stream = side.agent().send_message("A story", stream=True)
    assert side.next(stream).text == "Once"
    gate.open()
    rest = side.snapshots(stream)
    assert all(snapshot.text.startswith("Once") for snapshot in rest)
    assert (rest[-1].text, rest[-1].done) == ("Once upon a time", True)
    assert stream.message == rest[-1]
    assert stream.chat_id == rest[-1].chat_id


def test_nothing_is_sent_before_a_stream_is_used(serve: Serve, connect: Connect) -> None:
    """Making a stream costs nothing; entering it sends the message."""
    served = serve(["Hello"])
    side = connect(served)
    stream = side.agent().send_message("Hi", stream=True)
    assert served.script.asked == []
    assert side.within(stream, lambda stream: stream.get_final_message()).text == "Hello"
    assert len(served.script.asked) == 1


def test_a_stream_within_a_block_is_the_one_that_was_made(serve: Serve, connect: Connect) -> None:
    """``with`` gives the stream itself; the result can be taken from it, and again after the block."""
    side = connect(serve(["Hello,", " world"]))
    stream = side.agent().send_message("Hi", stream=True)
    reply = side.within(stream, lambda stream: stream.get_final_message())
    assert reply.text == "Hello, world"
    assert side.result(stream.get_final_message()) == reply


async def test_awaiting_a_stream_opens_it_and_gives_it_back() -> None:
    """``stream = await agent.send_message(..., stream=True)`` is the stream, and the message is on its way."""
    gate = Gate()
    script = Script([gate, "Hello"])
    with Served(model=script) as served:
        async with AsyncInference(**served.address) as client:
            agent = client.agent("tests/agent")
            unopened = agent.send_message("Hi", stream=True)
            stream = await unopened
            assert stream is unopened
            assert agent.chat_id == stream.chat_id is not None
            await gate.someone_there()
            gate.open()
            assert [snapshot.text async for snapshot in stream][-1] == "Hello"
            assert await stream is stream


def test_a_stream_gives_its_result_at_any_time(serve: Serve, connect: Connect) -> None:
    """Before, in the middle of and after iterating, and as often as it is asked for."""
    gate = Gate()
    side = connect(serve(["Hello,", gate, " world"]))
    stream = side.agent().send_message("Hi", stream=True)
    assert side.next(stream).text == "Hello,"
    gate.open()
    reply = side.result(stream.get_final_message())
    assert reply.text == "Hello, world"
    assert side.result(stream.get_final_message()) == reply
    assert side.snapshots(stream) == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("streamed", [False, True], ids=["call", "stream"])
def test_on_message_hears_every_snapshot_and_once_the_end(
    serve: Serve, connect: Connect, style: str, streamed: bool
) -> None:
    """However it is written, and whether or not the snapshots are also iterated."""
    gate = Gate()
    heard = Heard()

    def hear(text: str, done: bool) -> None:
        heard(text, done)
        gate.open()

    side = connect(serve(["Hello,", gate, " world"]))
    sent = side.agent().send_message("Hi", stream=streamed, on_message=styled(style, hear))
    reply = side.snapshots(sent)[-1] if streamed else side.result(sent)
    assert reply.text == "Hello, world"
    heard.check("Hello, world")
    assert heard.calls[0] == ("Hello,", False)


@pytest.mark.parametrize("style", STYLES)
def test_on_tool_call_is_told_before_the_handler_runs(serve: Serve, connect: Connect, style: str) -> None:
    """It gets the call with its arguments decoded; then the handler runs, and the turn goes on with its result."""
    order: list[object] = []

    def handle(expression: str) -> int:
        order.append("handled")
        return 42

    def told(call: Any) -> None:
        order.append((call.name, call.arguments, call.pending))

    calculator = tool("calculator").param("expression", string()).handler(handle).build()
    served = serve([CALL], ["It is 42."])
    side = connect(served)
    agent = side.agent({"name": "tester", "tools": [calculator]})
    assert side.result(agent.send_message("6*7?", on_tool_call=styled(style, told))).text == "It is 42."
    assert order == [("calculator", {"expression": "6*7"}, True), "handled"]
    assert served.script.asked[1].messages[-1].text == "42"


def test_all_forms_at_once(serve: Serve, connect: Connect) -> None:
    """A stream with both callbacks and a handler: everybody is told, in order, and the turn is one."""
    heard = Heard()
    called: list[str] = []
    side = connect(serve(["Let me see. ", CALL], ["It", " is", " 42."]))
    stream = side.agent(AGENT).send_message(
        "6*7?", stream=True, on_message=heard, on_tool_call=lambda call: called.append(call.name)
    )
    snapshots = side.snapshots(stream)
    assert called == ["calculator"]
    first, last = snapshots[0].id, snapshots[-1].id
    assert [snapshot.text for snapshot in snapshots if snapshot.id == first][-1] == "Let me see. "
    assert [snapshot.text for snapshot in snapshots if snapshot.id == last][-1] == "It is 42."
    assert [text for text, done in heard.calls if not done] == [snapshot.text for snapshot in snapshots]
    assert heard.calls[-1] == ("It is 42.", True)


def test_deltas_add_up_to_the_text(serve: Serve, connect: Connect) -> None:
    """The deltas of one message, joined, are its text at every moment."""
    side = connect(serve(pace=0.001))
    joined: dict[str, str] = {}
    for snapshot in side.snapshots(side.agent().send_message("Tell me a story", stream=True)):
        assert snapshot.delta is not None
        joined[snapshot.id] = joined.get(snapshot.id, "") + snapshot.delta
        assert joined[snapshot.id] == snapshot.text
    assert len(joined) == 1


def test_snapshots_never_change(serve: Serve, connect: Connect) -> None:
    """A snapshot that was kept reads the same after the message has grown, and nobody can alter it."""
    gate = Gate()
    side = connect(serve(["Hello,", gate, " world"]))
    stream = side.agent().send_message("Hi", stream=True)
    kept = side.next(stream)
    gate.open()
    side.snapshots(stream)
    assert (kept.text, kept.done) == ("Hello,", False)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kept.status = MessageStatus.READY  # type: ignore[misc] # what the test is about
    assert isinstance(kept.content, tuple)
    assert isinstance(kept.tool_calls, tuple)


def test_conflate_skips_what_is_outdated_and_nothing_else(serve: Serve, connect: Connect) -> None:
    """A reader that comes late gets the newest snapshot, with a delta against the last one it has seen."""
    gates = [Gate(), Gate()]
    side = connect(serve(["a", gates[0], "b", "c", "d", gates[1], "e"]))
    stream = side.agent().send_message("Hi", stream=True, conflate=True)
    seen = [side.next(stream)]
    gates[0].open()
    while seen[-1].text != "abcd":
        seen.append(side.next(stream))
    gates[1].open()
    seen += side.snapshots(stream)
    assert (seen[-1].text, seen[-1].done) == ("abcde", True)
    assert "".join(snapshot.delta or "" for snapshot in seen) == "abcde"


def test_a_conflated_stream_calls_back_and_returns_its_result(serve: Serve, connect: Connect) -> None:
    """conflate changes which snapshots are seen, not what a turn is."""
    heard = Heard()
    side = connect(serve([CALL], ["It is", " 42."]))
    reply = side.result(side.agent(AGENT).send_message("6*7?", on_message=heard, conflate=True))
    assert reply.text == "It is 42."
    assert heard.calls[-1] == ("It is 42.", True)


def test_a_stream_that_was_left_is_taken_up_where_it_was(serve: Serve, connect: Connect) -> None:
    """Leaving a loop loses nothing: iterating again brings what is new, and the result."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"])
    side = connect(served)
    stream = side.agent().send_message("Hi", stream=True)
    assert _first(side, stream).text == "Hello,"
    served.wait_until_left()
    gate.open()
    rest = side.snapshots(stream)
    assert rest[-1].text == "Hello, world"
    assert "".join(snapshot.delta or "" for snapshot in rest) == " world"
    assert len(served.script.asked) == 1


def test_a_message_is_text(serve: Serve, connect: Connect) -> None:
    """Anything else is refused at once, and nothing is sent."""
    served = serve(["Hello"])
    side = connect(served)
    for streamed in (False, True):
        with pytest.raises(TypeError, match="a message must be a str, not bytes"):
            side.agent().send_message(b"Hi", stream=streamed)
    assert served.script.asked == []


def test_a_plain_loop_over_the_async_stream_says_what_to_write(serve: Serve) -> None:
    """``for`` over it is a TypeError that names ``async for``."""
    stream = AsyncInference(**serve(["Hello"]).address).agent("tests/agent").send_message("Hi", stream=True)
    with pytest.raises(TypeError, match="async for"):
        list(stream)  # type: ignore[call-overload] # what the test is about


def _first(side: Any, stream: Any) -> Message:
    """The first snapshot of a loop that is left after it."""

    async def read() -> Message:
        async for snapshot in stream:
            kept: Message = snapshot
            break
        return kept

    if side.kind == "async":
        first: Message = side.result(read())
        return first
    for snapshot in stream:
        first = snapshot
        break
    return first

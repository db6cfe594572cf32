"""``on_delta``: what each snapshot has added, and what to do when the text was rewritten."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from inferencesh import Delta, InferenceError, Message, tool
from inferencesh.local import Finish, Reasoning, Text
from inferencesh.local import ToolCall as Calls
from tests.faults.forms import chat, delta, message
from tests.faults.script import CUT, Scenario
from tests.faults.server import FaultServer
from tests.faults.turns import call
from tests.support import Gate, Kind

from .conftest import Connect, Serve


def joined(deltas: list[Delta]) -> dict[str, str]:
    """What a program shows that follows the rule of ``Delta``: append, or replace when it was rewritten."""
    shown: dict[str, str] = {}
    for each in deltas:
        shown[each.message_id] = each.text if each.rewritten else shown.get(each.message_id, "") + each.text
    return shown


@pytest.mark.parametrize("updates", ["snapshots", "deltas", "both"])
def test_the_deltas_joined_are_the_text(serve: Serve, connect: Connect, updates: Any) -> None:
    """Of every message of the turn, numbered from 1, however the server sends the text."""
    texts = ["Let me see. ", "It is", " warm."]
    side = connect(serve([texts[0], Calls("thermometer", {})], texts[1:], updates=updates))
    built = tool("thermometer").handler(lambda: "21").build()
    deltas: list[Delta] = []
    agent = side.agent({"name": "tester", "tools": [built]})
    final: Message = side.result(agent.send_message("Is it warm?", on_delta=deltas.append))
    shown = joined(deltas)
    assert list(shown.values()) == ["Let me see. ", "It is warm."]
    assert shown[final.id] == final.text
    numbers = [each.seq for each in deltas if each.message_id == final.id]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(each.text for each in deltas), "nothing was added, and there was a call all the same"
    assert not any(each.rewritten for each in deltas)
    assert [each.output["response"] for each in deltas] == [each.message.text for each in deltas]
    assert deltas[0].delta == {"response": deltas[0].text}


def test_reasoning_is_a_delta_of_its_own(serve: Serve, connect: Connect) -> None:
    """With an empty text."""
    side = connect(serve([Reasoning("Hm"), Reasoning("m."), "Yes."], updates="deltas"))
    deltas: list[Delta] = []
    side.result(side.agent().send_message("Is it?", on_delta=deltas.append))
    assert "".join(each.reasoning for each in deltas) == "Hmm."
    assert "".join(each.text for each in deltas) == "Yes."
    assert deltas[-1].output == {"response": "Yes.", "reasoning": "Hmm."}


def test_a_rewritten_text_is_given_whole(kind: Kind) -> None:
    """Where a server changes its mind: what was shown is to be replaced."""
    lines = (chat("working"), message("Hello, word"), message("Hello, world"), message("Bye", "ready"))
    with FaultServer(Scenario(streams=[(*lines, chat("completed"))])) as server:
        deltas: list[Delta] = []
        call(kind, server, lambda client: client.agent("a/b").send_message("Hi", on_delta=deltas.append))
    assert [(each.text, each.rewritten) for each in deltas] == [
        ("Hello, word", False),
        ("Hello, world", True),
        ("Bye", True),
    ]
    assert list(joined(deltas).values()) == ["Bye"]


def test_a_lost_connection_repeats_nothing(kind: Kind) -> None:
    """What is replayed after it was shown already; only what is new is a delta."""
    first = (chat("working"), message(""), delta("Hel", 1), delta("lo", 2), CUT)
    second = (chat("working"), message("Hello"), delta(", world", 3), message("Hello, world", "ready"))
    with FaultServer(Scenario(streams=[first, (*second, chat("completed"))])) as server:
        deltas: list[Delta] = []
        final = call(kind, server, lambda client: client.agent("a/b").send_message("Hi", on_delta=deltas.append))
    assert final.text == "Hello, world"
    assert list(joined(deltas).values()) == ["Hello, world"]
    assert "".join(each.text for each in deltas) == "Hello, world"


def test_it_is_called_before_on_message_on_the_same_thread(serve: Serve, connect: Connect, kind: Kind) -> None:
    """Of the blocking client it is the thread that called; on_message has one more call, the last."""
    side = connect(serve(["Hello,", " world"], updates="snapshots"))
    calls: list[tuple[str, str]] = []
    threads: set[threading.Thread] = set()

    def on_delta(each: Delta) -> None:
        threads.add(threading.current_thread())
        calls.append(("delta", each.message.text))

    def on_message(text: str, done: bool) -> None:
        calls.append(("done" if done else "message", text))

    side.result(side.agent().send_message("Hi", on_delta=on_delta, on_message=on_message))
    assert calls[-1] == ("done", "Hello, world")
    for before, (name, text) in itertools.pairwise(calls):
        if name == "delta":
            assert before[0] == "message"
        assert name != "message" or before in {("delta", text), ("message", text)}
    assert (threading.current_thread() in threads) == (kind == "sync")


def test_an_async_callback_is_awaited(serve: Serve, connect: Connect) -> None:
    """By either client."""
    side = connect(serve(["Hello"]))
    texts: list[str] = []

    async def on_delta(each: Delta) -> None:
        await asyncio.sleep(0)
        texts.append(each.text)

    side.snapshots(side.agent().send_message("Hi", stream=True, on_delta=on_delta))
    assert "".join(texts) == "Hello"


def test_what_it_raises_ends_the_turn(serve: Serve, connect: Connect) -> None:
    """And reaches the caller; an error of this package gets the snapshot."""
    served = serve(["Hello"])
    side = connect(served)

    def on_delta(each: Delta) -> None:
        raise InferenceError(each.text)

    with pytest.raises(InferenceError, match="Hello") as caught:
        side.result(side.agent().send_message("Hi", on_delta=on_delta))
    assert caught.value.message is not None
    served.wait_until_left()


def test_every_method_that_follows_a_turn_takes_it(serve: Serve, connect: Connect) -> None:
    """And refuses what is no function, before the message is sent."""
    gate = Gate()
    served = serve(["Hello,", gate, " world"], [Text("5 of 5"), Finish({"stars": 5})])
    side = connect(served)
    agent = side.agent({"name": "tester", "output_schema": {"type": "object"}})
    stream = agent.send_message("Hi", stream=True)
    side.next(stream)
    side.close(stream)
    gate.open()
    deltas: list[Delta] = []
    side.snapshots(agent.stream_messages(on_delta=deltas.append))
    assert "".join(each.text for each in deltas) == " world"
    deltas.clear()
    assert side.result(agent.run("Rate it", on_delta=deltas.append)) == {"stars": 5}
    assert "".join(each.text for each in deltas) == "5 of 5"
    with pytest.raises(TypeError, match="on_delta must be a function, not str"):
        agent.send_message("Hi", on_delta="print")
    assert len(served.script.asked) == 2


@pytest.mark.parametrize("conflate", [True, False])
def test_conflated_snapshots_have_the_deltas_between_them(serve: Serve, connect: Connect, conflate: bool) -> None:
    """What was skipped is in the next one."""
    side = connect(serve(["a", "b", "c", "d"], updates="deltas"))
    deltas: list[Delta] = []
    side.result(side.agent().send_message("Hi", on_delta=deltas.append, conflate=conflate))
    assert "".join(each.text for each in deltas) == "abcd"

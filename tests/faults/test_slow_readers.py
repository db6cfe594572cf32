"""A reader slower than the server costs a bounded amount of memory, and with conflate=True it is always current."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from inferencesh import Message, StreamError, string, tool
from tests.support import Kind

from .forms import CALL, call_of, chat, message
from .script import RST, Scenario, beating, delay, hold, tell, together
from .server import FaultServer
from .turns import STREAM, TEXT, advance, call, check_snapshots, meanwhile, rest_of

if TYPE_CHECKING:
    from collections.abc import Generator

MEBI = 2**20
BUSY = chat("working")
DONE = chat("completed")
RESULT = f"POST /tools/{CALL}"


def test_the_network_is_held_back_by_the_reader(kind: Kind) -> None:
    """Of 40 MiB that wait to be sent only a few are taken; nothing is lost, and the pause is no idle stream."""
    size, count = 64 * 1024, 640
    lines = [message("x" * size + "." * n) for n in range(count)]
    streams = [(BUSY, *lines, message("x" * size + "!", "ready"), DONE)]
    with FaultServer(Scenario(streams=streams)) as server:

        def slowly(client: Any) -> Generator[Any, Any, list[Message]]:
            stream = client.agent("a/b").send_message("Hi", stream=True)
            first = yield advance(kind, stream)
            taken = yield meanwhile(kind, server.wait_until_held_back)
            # What the two kernels hold on loopback (up to 10 MiB), and a little of the client's own.
            assert taken < 16 * MEBI, f"{taken / MEBI:.1f} MiB"
            return [first, *(yield from rest_of(kind, stream))]

        snapshots = call(kind, server, slowly)
        assert len(server.seen(STREAM)) == 1
    assert [len(snapshot.text) - size for snapshot in snapshots] == [*range(count), 1]


def test_what_arrived_before_the_connection_was_lost_is_delivered(kind: Kind) -> None:
    """Also to a reader who is slower than the loss."""
    streams = [(BUSY, message("H"), hold("begin"), message("He"), message("Hel"), delay(0.3), RST)]
    with FaultServer(Scenario(streams=streams)) as server:
        texts: list[str] = []

        def slowly(client: Any) -> Generator[Any, Any, None]:
            stream = client.agent("a/b").send_message("Hi", stream=True)
            texts.append((yield advance(kind, stream)).text)
            server.release("begin")
            yield meanwhile(kind, server.wait_until_no_connections)
            yield meanwhile(kind, time.sleep, 0.2)  # for the client's loop to notice
            while True:
                texts.append((yield advance(kind, stream)).text)

        with pytest.raises(StreamError):
            call(kind, server, slowly, max_reconnects=0)
    assert texts == ["H", "He", "Hel"]


@pytest.mark.parametrize(("size", "count"), [(0, 500), (16 * 1024, 1200)], ids=["small", "large"])
def test_a_conflating_reader_sees_the_newest_snapshot_next(size: int, count: int, kind: Kind) -> None:
    """What a newer snapshot has replaced is skipped, however much it was; the final one is delivered."""
    lines = [message("x" * (size + n)) for n in range(1, count + 1)]
    final = message("x" * (size + count) + "!", "ready")
    settle = delay(0.3)  # for the client to take in what the kernels hold: sent is not received
    streams = [(BUSY, lines[0], hold("begin"), *lines, settle, tell("sent"), hold("go on"), final, DONE)]
    with FaultServer(Scenario(streams=streams)) as server:

        def slowly(client: Any) -> Generator[Any, Any, tuple[Message, list[Message]]]:
            stream = client.agent("a/b").send_message("Hi", stream=True, conflate=True)
            yield advance(kind, stream)
            server.release("begin")
            yield meanwhile(kind, server.wait_until, lambda: server.is_released("sent"), "end of the lines")
            newest = yield advance(kind, stream)
            server.release("go on")
            return newest, (yield from rest_of(kind, stream))

        newest, rest = call(kind, server, slowly)
        assert len(server.seen(STREAM)) == 1
    assert len(newest.text) == size + count
    assert [snapshot.status for snapshot in rest] == ["ready"]


def test_a_conflating_reader_misses_no_final_snapshot_and_no_call(kind: Kind) -> None:
    """The end of one message survives a flood of the next, and a call that was answered since is still shown."""
    flood = [message("x" * n, id="reply2", order=14) for n in range(1, 200)]
    first = message("First", "ready")
    asks = message("x" * 200, id="reply2", order=14, calls=[call_of()])
    answered = message("x" * 200, "ready", id="reply2", order=14, calls=[call_of("completed")])
    last = message(TEXT, "ready", id="reply3", order=16)
    calling = (together(first, *flood), asks, delay(0.3), tell("asked"), beating(RESULT))
    streams = [(BUSY, message("F"), hold("begin"), *calling, answered, last, delay(0.3), tell("told"), DONE)]
    # The blocking client runs the tool on the reader's thread: until the reader comes back, nothing goes on.
    moment = "asked" if kind == "sync" else "told"
    runs: list[str] = []

    def calculator(expression: str) -> str:
        runs.append(expression)
        return "714"

    tools = [tool("calculator").param("expression", string()).handler(calculator).build()]
    with FaultServer(Scenario(streams=streams)) as server:

        def slowly(client: Any) -> Generator[Any, Any, list[Message]]:
            agent = client.agent({"name": "tester", "tools": tools})
            stream = agent.send_message("Hi", stream=True, conflate=True)
            yield advance(kind, stream)
            server.release("begin")
            yield meanwhile(kind, server.wait_until, lambda: server.is_released(moment), moment)
            return (yield from rest_of(kind, stream))

        snapshots = call(kind, server, slowly)
    check_snapshots(snapshots)
    assert runs == ["42 * 17"]
    assert {snapshot.id for snapshot in snapshots if snapshot.done} == {"reply1", "reply2", "reply3"}
    assert any(snapshot.pending_tool_calls for snapshot in snapshots)
    assert len(snapshots) < 20

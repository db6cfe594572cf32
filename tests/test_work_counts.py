"""How much work a stream costs, counted instead of timed: what grows here makes every event dearer on every machine.

The counts are of things that any way of writing the client has to go through (the JSON decoder, the classes that
callers get, the event loop), so that they hold when the code between them is written anew.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jiter
import orjson
import pytest

import inferencesh._protocol.message
from inferencesh import AsyncInference, Content, Inference, Message
from inferencesh._text import TextLog
from tests.faults.forms import REPLY, Json, chat, delta, event, message
from tests.faults.script import Scenario, together
from tests.faults.server import FaultServer
from tests.faults.turns import client_options
from tests.support import KINDS, Kind

EVENTS = 1000
FEW = 20  # what a turn may need besides: the answer to the post, the chat's states, the message at its ends
NOW = "2026-11-22T10:00:00.000000Z"
WORDS = [f"word{number} " for number in range(EVENTS)]


def snapshots() -> list[Json]:
    """The whole message, a thousand times, one word more each time."""
    texts = ["".join(WORDS[: end + 1]) for end in range(EVENTS)]
    return [message(text, updated_at=NOW) for text in texts[:-1]] + [message(texts[-1], "ready", updated_at=NOW)]


def deltas() -> list[Json]:
    """A thousand words, and the message at the end."""
    pieces = [delta(word, seq) for seq, word in enumerate(WORDS)]
    return [message(""), *pieces, message("".join(WORDS), "ready")]


def finish_deltas() -> list[Json]:
    """A thousand words of an output, as the arguments of a finish call."""
    pieces = ['{"words": [', *[f'"{word}", ' for word in WORDS[:-1]], f'"{WORDS[-1]}"]}}']
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    calls[0] = {"index": 0, "id": "m1", "type": "function", "function": {"name": "finish", "arguments": pieces[0]}}
    deltas = [{"delta": {"tool_calls": [call]}, "seq": seq, "resource_id": REPLY} for seq, call in enumerate(calls)]
    return [message(""), *[event("delta", data) for data in deltas], message("", "ready")]


class Work:
    """Counts what is done outside of the server's thread.

    Args:
        monkeypatch: Puts the counters in, and takes them out again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seen: list[str] = []
        self.bytes_decoded = 0
        loop = asyncio.BaseEventLoop
        watched: list[tuple[Any, str]] = [
            (orjson, "loads"),
            (jiter, "from_json"),
            (Message, "__init__"),
            (Content, "__init__"),
            (TextLog, "read"),
            (inferencesh._protocol.message, "with_text"),
            (loop, "create_task"),
            (loop, "call_soon"),
            (loop, "call_at"),
            (loop, "call_soon_threadsafe"),
        ]
        for owner, name in watched:
            monkeypatch.setattr(owner, name, self._counted(label(owner, name), getattr(owner, name)))
        self.pieces_joined = self.characters_cut_off = 0
        monkeypatch.setattr(TextLog, "read", self._noting_pieces(TextLog.read))

    def forget(self) -> None:
        """Begin to count anew."""
        self._seen.clear()
        self.bytes_decoded = self.pieces_joined = self.characters_cut_off = 0

    def count(self, name: str) -> int:
        """How often something was called."""
        return self._seen.count(name)

    def _noting_pieces(self, read: Callable[[TextLog, int], str]) -> Callable[[TextLog, int], str]:
        def noting(log: TextLog, length: int) -> str:
            joined_before = log._read[1] if log._read is not None and log._read[0] is log._base[1] else 0
            text = read(log, length)
            assert log._read is not None
            self.pieces_joined += log._read[1] - joined_before
            self.characters_cut_off += len(log._read[2]) - length
            return text

        return noting

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread().name != "fault-server":
                self._seen.append(name)
                self.bytes_decoded += len(arguments[0]) if name == "orjson.loads" else 0
            return function(*arguments, **options)

        return counted


def label(owner: Any, name: str) -> str:
    """What the calls of a function are counted as."""
    return name if owner is inferencesh._protocol.message else f"{owner.__name__}.{name}"


def ignore(_: Message) -> None:
    """What a caller does who looks at nothing."""


def read(
    kind: Kind,
    lines: Sequence[Json],
    work: Work,
    look: Callable[[Message], object] = ignore,
    *,
    conflate: bool = False,
) -> int:
    """Read a reply twice, and count the work of the second time, when everything is imported and connected.

    Args:
        kind: The client.
        lines: The stream's lines, sent in one piece.
        work: What counts.
        look: What the caller does with each snapshot.
        conflate: Whether replaced snapshots are skipped.

    Returns:
        How many snapshots there were.
    """
    scenario = Scenario(streams=[[together(chat("working"), *lines, chat("completed"))]])
    with FaultServer(scenario) as server:
        if kind == "sync":
            return _read_sync(server, work, look, conflate=conflate)
        return asyncio.run(_read_async(server, work, look, conflate=conflate))


def _read_sync(server: FaultServer, work: Work, look: Callable[[Message], object], *, conflate: bool) -> int:
    with Inference(**client_options(server)) as client:
        client.agent("a/b").send_message("Hi")
        work.forget()
        stream = client.agent("a/b").send_message("Hi", stream=True, conflate=conflate)
        return len([look(snapshot) for snapshot in stream])


async def _read_async(server: FaultServer, work: Work, look: Callable[[Message], object], *, conflate: bool) -> int:
    async with AsyncInference(**client_options(server)) as client:
        await client.agent("a/b").send_message("Hi")
        work.forget()
        stream = client.agent("a/b").send_message("Hi", stream=True, conflate=conflate)
        return len([look(snapshot) async for snapshot in stream])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The client under test."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """The counters."""
    return Work(monkeypatch)


@pytest.mark.parametrize(
    ("lines", "least"),
    [(snapshots(), EVENTS), (deltas(), 0), (finish_deltas(), EVENTS)],
    ids=["snapshots", "deltas", "finish"],
)
def test_each_line_is_decoded_at_most_once(kind: Kind, work: Work, lines: list[Json], least: int) -> None:
    """A thousand lines are a thousand calls of the JSON decoder, and none for deltas of plain text."""
    assert read(kind, lines, work) >= EVENTS
    assert least <= work.count("orjson.loads") <= least + FEW


def test_of_a_growing_message_only_what_is_new_is_decoded(kind: Kind, work: Work) -> None:
    """A thousand whole forms of up to 9 KB cost the decoder little more than the last of them."""
    last = snapshots()[-1]
    assert read(kind, snapshots(), work) >= EVENTS
    assert len(orjson.dumps(last)) < work.bytes_decoded < 8 * len(orjson.dumps(last))


@pytest.mark.parametrize("lines", [snapshots(), deltas()], ids=["snapshots", "deltas"])
def test_each_snapshot_is_built_once(kind: Kind, work: Work, lines: list[Json]) -> None:
    """A message, which is not built again to be amended, compared or handed over; its blocks when they are read."""
    assert read(kind, lines, work) >= EVENTS
    assert EVENTS <= work.count("with_text") + work.count("Message.__init__") <= EVENTS + FEW
    assert work.count("Content.__init__") <= FEW
    read(kind, lines, work, lambda snapshot: snapshot.content)
    assert EVENTS <= work.count("Content.__init__") <= EVENTS + FEW


def test_a_text_that_nobody_reads_is_not_joined(kind: Kind, work: Work) -> None:
    """A caller who reads only ``delta`` does not pay for the whole text of each of a thousand snapshots."""
    read(kind, deltas(), work, lambda snapshot: snapshot.delta)
    assert work.count("TextLog.read") <= FEW
    read(kind, deltas(), work, lambda snapshot: snapshot.text)
    assert work.count("TextLog.read") >= EVENTS  # or the assertion above would see nothing


def test_an_output_that_nobody_reads_is_not_parsed(kind: Kind, work: Work) -> None:
    """A thousand deltas of a finish call are decoded as lines, and their arguments only when somebody looks."""
    assert read(kind, finish_deltas(), work, lambda snapshot: snapshot.delta) >= EVENTS
    assert work.count("jiter.from_json") == 0
    assert work.count("orjson.loads") <= EVENTS + FEW
    read(kind, finish_deltas(), work, lambda snapshot: snapshot.output)
    assert work.count("jiter.from_json") >= EVENTS  # or the assertions above would see nothing


@pytest.mark.parametrize("lines", [snapshots(), deltas()], ids=["snapshots", "deltas"])
def test_no_event_has_a_task_or_a_turn_of_the_loop_to_itself(kind: Kind, work: Work, lines: list[Json]) -> None:
    """What has arrived together is taken in together: tasks for the turn, turns of the loop for each read."""
    read(kind, lines, work)
    assert work.count("BaseEventLoop.create_task") <= FEW
    assert work.count("BaseEventLoop.call_soon") + work.count("BaseEventLoop.call_at") <= EVENTS / 4


@pytest.mark.parametrize("lines", [snapshots(), deltas()], ids=["snapshots", "deltas"])
def test_the_sync_client_crosses_threads_once_for_many_events(work: Work, lines: list[Json]) -> None:
    """Snapshots come over in batches: at most one wake-up of the loop's thread for ten of them."""
    read("sync", lines, work)
    assert 1 <= work.count("BaseEventLoop.call_soon_threadsafe") <= EVENTS / 10


@pytest.mark.parametrize("lines", [snapshots(), deltas()], ids=["snapshots", "deltas"])
def test_conflating_costs_only_the_snapshots_that_are_delivered(kind: Kind, work: Work, lines: list[Json]) -> None:
    """Conflation adds no work for each event, but for each snapshot that the caller is given."""
    delivered = read(kind, lines, work, conflate=True)
    assert delivered < EVENTS / 2
    assert work.count("orjson.loads") <= EVENTS + FEW
    assert work.bytes_decoded < 9 * len(orjson.dumps(lines[-1]))
    assert work.count("with_text") + work.count("Message.__init__") <= EVENTS + FEW + delivered
    assert work.count("BaseEventLoop.create_task") <= FEW


@pytest.mark.parametrize("lines", [snapshots(), deltas()], ids=["snapshots", "deltas"])
def test_reading_the_text_at_every_update_is_linear(kind: Kind, work: Work, lines: list[Json]) -> None:
    """Each piece is joined to the text before it once, when its update is read, and not cut off again."""
    counts: list[tuple[int, int]] = []

    def look(snapshot: Message) -> None:
        assert snapshot.text
        counts.append((work.pieces_joined, work.characters_cut_off))

    assert read(kind, lines, work, look) >= EVENTS
    number = EVENTS * 7 // 10  # the final message is compared with the whole text, ahead of those who read it
    joined, cut_off = counts[number - 1]
    assert number - FEW <= joined <= number + FEW
    assert cut_off == 0


# -- calls of Python functions

MANY = 3000
SKIPPED = 100  # updates at the beginning and at the end, where more happens than usual


def many_deltas() -> list[Json]:
    """Three thousand deltas, and the message at the end."""
    words = [f"word{number} " for number in range(MANY)]
    pieces = [delta(word, seq) for seq, word in enumerate(words)]
    return [message(""), *pieces, message("".join(words), "ready")]


def many_snapshots() -> list[Json]:
    """Three thousand whole messages with texts of up to 8 KB, 4 KB on average."""
    text = "".join(f"{number % 10} "[: 2 + number % 2] + "x" * (number % 3 == 0) for number in range(MANY * 2))[:8192]
    texts = [text[: len(text) * end // MANY] for end in range(1, MANY + 1)]
    return [message(each, updated_at=NOW) for each in texts[:-1]] + [message(texts[-1], "ready", updated_at=NOW)]


@pytest.mark.parametrize(
    ("lines", "most"), [(many_deltas(), 14), (many_snapshots(), 20)], ids=["deltas", "whole messages"]
)
def test_an_update_takes_few_calls(lines: list[Json], most: float) -> None:
    """Between the socket and the caller who reads ``text``, at a steady pace, when much arrives at once."""
    scenario = Scenario(streams=[[together(chat("working"), *lines, chat("completed"))]])
    with FaultServer(scenario) as server:
        calls, updates = asyncio.run(_calls(server))
    assert updates > MANY - 3 * SKIPPED
    assert calls / updates <= most


async def _calls(server: FaultServer) -> tuple[int, int]:
    """Count the calls of Python functions in this thread, and the updates that they were made for."""
    calls = updates = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    async with AsyncInference(**client_options(server)) as client:
        await client.agent("a/b").send_message("Hi")
        stream = client.agent("a/b").send_message("Hi", stream=True)
        before = sys.getprofile()
        try:
            async for snapshot in stream:
                assert snapshot.text
                updates += 1
                if updates == SKIPPED:
                    sys.setprofile(count)
                elif updates == MANY - SKIPPED:
                    sys.setprofile(before)
        finally:
            sys.setprofile(before)
    return calls, min(updates, MANY - SKIPPED) - SKIPPED

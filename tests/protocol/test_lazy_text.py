"""Text that grows by pieces: every earlier state stays readable."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._text import GrowingText, TextLog, UndecodedMessage
from inferencesh.models import Content, Message, MessageStatus, with_text

from .forms import FIXED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def states(pieces: Iterable[str], start: str = "") -> tuple[TextLog, list[tuple[GrowingText, str]]]:
    """A log of some pieces, and each of its states with the text it must have."""
    log, text = TextLog(start), start
    seen = [(GrowingText(log), text)]
    for piece in pieces:
        log.append(piece)
        text += piece
        seen.append((GrowingText(log), text))
    return log, seen


@FIXED
@given(st.lists(st.text(max_size=4)), st.text(max_size=4), st.data())
def test_every_state_reads_as_it_was_in_any_order(pieces: list[str], start: str, data: st.DataObject) -> None:
    """Whichever snapshot is read first, each has the text of its own moment."""
    _, seen = states(pieces, start)
    for state, text in data.draw(st.permutations(seen)):
        assert str(state) == text


@pytest.mark.parametrize("count", [1023, 1024, 1025, 5000])
def test_pieces_that_nobody_reads_are_folded_without_a_trace(count: int) -> None:
    """The log joins its pieces by itself now and then; all states stay right."""
    _, seen = states(["ab"] * count)
    assert str(seen[-1][0]) == "ab" * count
    assert all(str(state) == text for state, text in seen[::97])


def test_memory_follows_the_text_and_not_the_pieces() -> None:
    """A log of many pieces that is never read keeps few of them."""
    log = TextLog()
    for _ in range(20_000):
        log.append("x")
    kept = [held for name in TextLog.__slots__ for held in _strings(getattr(log, name)) if held]
    assert len(kept) < 2_000


def _strings(value: object) -> list[str]:
    """All strings that a value holds directly or in lists and tuples."""
    if isinstance(value, str):
        return [value]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []


def test_reading_after_every_piece_does_not_copy_the_text() -> None:
    """It is extended in place where nobody holds it: most of the time it even stays where it is."""
    # in a process of its own: a tracer, such as that of the coverage run, holds the text too
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", _MOVES], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 450


_MOVES = """
from itertools import pairwise
from inferencesh._text import TextLog

log, places = TextLog("x" * 10_000), []
for _ in range(900):
    log.append("y")
    places.append(id(log.read(log.length)))
print(sum(one != other for one, other in pairwise(places)))
"""


def test_a_state_survives_copying_and_pickling() -> None:
    """Snapshots may be sent to other processes."""
    _, seen = states(["Hel", "lo"])
    state, text = seen[1]
    assert str(copy.deepcopy(state)) == text
    assert str(pickle.loads(pickle.dumps(state))) == text  # noqa: S301 (of our own making)


def in_one_log() -> Message:
    """A snapshot of ``Hello``, of which the log is the content."""
    log = TextLog("Hel")
    whole = Message("message1", content=(Content(text="Hel"),), raw={"id": "message1"})
    snapshot = with_text(whole, log, log.append("lo"), "lo", {"id": "message1"})
    log.append("x" * 100_000)
    return snapshot


def in_a_block() -> Message:
    """The same, with a block that refers to the log."""
    log = TextLog("Hello")
    snapshot = Message("message1", content=(Content(text=GrowingText(log)),), delta="lo", raw={"id": "message1"})
    log.append("x" * 100_000)
    return snapshot


@pytest.mark.parametrize("make", [in_one_log, in_a_block])
def test_a_copy_of_a_snapshot_has_its_own_text_and_none_that_came_later(make: Callable[[], Message]) -> None:
    """The log, which all snapshots of a message share, stays behind."""
    snapshot = make()
    pickled = pickle.dumps(snapshot)
    assert len(pickled) < 1_000
    for twin in (pickle.loads(pickled), copy.copy(snapshot), copy.deepcopy(snapshot)):  # noqa: S301 (of our own making)
        assert (twin, hash(twin), repr(twin)) == (snapshot, hash(snapshot), repr(snapshot))
        assert (twin.text, twin.delta, twin.raw) == ("Hello", "lo", {"id": "message1"})
    assert attrs.evolve(snapshot, status=MessageStatus.READY).text == "Hello"


def test_a_snapshot_is_taken_apart_into_its_blocks() -> None:
    """attrs gets what everybody reads, whatever is stored."""
    parts = attrs.asdict(in_one_log())
    assert [(block["type"], block["_text"]) for block in parts["content"]] == [("text", "Hello")]


# A reader in another thread can come in between any two steps of the one that appends or reads: so does a tracer here.

READ = TextLog.read.__code__
APPEND = TextLog.append.__code__


def stepped(action: Callable[[], object], code: object, step: int, meanwhile: Callable[[], None]) -> bool:
    """Do something, and something else in the middle of it.

    Args:
        action: What is done.
        code: The code in the middle of which the other is done.
        step: Before which of the bytecodes of ``code``.
        meanwhile: What another thread would do there.

    Returns:
        Whether there were so many steps.
    """
    taken = 0

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal taken
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if kind == "opcode":
            taken += 1
            if taken == step:
                sys.settrace(None)
                meanwhile()
                return None
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return taken >= step


@pytest.mark.parametrize("code", [READ, APPEND], ids=["in read", "in append"])
@pytest.mark.parametrize("other", ["reads", "reads a part"])
def test_a_reader_in_another_thread_never_harms_the_text(code: object, other: str) -> None:
    """Whenever another thread reads, both read right, and so does everybody afterwards."""
    step = 1
    while True:
        log, seen = states(["Hel", "lo, ", "wor"] + [""] * 1019)
        middle, text = seen[2]
        begun, begun_text = seen[-1]
        got: list[str] = []

        def meanwhile(middle: GrowingText = middle, begun: GrowingText = begun, got: list[str] = got) -> None:
            got.append(str(middle) if other == "reads a part" else str(begun))

        def action(log: TextLog = log, got: list[str] = got) -> None:
            log.append("ld")
            log.append("!")  # the last of the pieces that are folded
            got.append(log.read(log.length))

        more = stepped(action, code, step, meanwhile)
        expected = text if other == "reads a part" else begun_text
        assert got == ([expected] if more else []) + ["Hello, world!"], f"another thread came in at step {step}"
        assert log.read(log.length) == "Hello, world!", f"another thread came in at step {step}"
        assert all(str(state) == text for state, text in seen), f"another thread came in at step {step}"
        if not more:
            break
        step += 1
    assert step > 5


def test_appending_while_another_thread_reads_never_harms_the_text() -> None:
    """A fold by the thread that appends comes in at any step of a reader in another thread."""
    step = 1
    while True:
        log, seen = states(["Hel", "lo, "])
        state, _ = seen[-1]

        def meanwhile(log: TextLog = log) -> None:
            log.append("wor")
            for _ in range(1100):
                log.append("")
            log.append("ld!")

        got: list[str] = []
        more = stepped(lambda state=state, got=got: got.append(str(state)), READ, step, meanwhile)  # type: ignore[misc]  # defaults bind loop variables
        assert got == ["Hello, "], f"the appending thread came in at step {step}"
        assert log.read(log.length) == ("Hello, world!" if more else "Hello, ")
        if not more:
            break
        step += 1
    assert step > 5


def test_two_threads_may_decode_a_message_at_the_same_time() -> None:
    """As when the loop compares it with the next one while a caller reads ``raw``."""
    read: Any = UndecodedMessage.data
    step = 1
    while True:
        undecoded = UndecodedMessage(b'{"data": {"id": "message1"}}')
        got: list[object] = []

        def action(undecoded: UndecodedMessage = undecoded, got: list[object] = got) -> None:
            got.append(undecoded.data)

        more = stepped(action, read.fget.__code__, step, action)
        assert all(each == {"id": "message1"} for each in got), f"another thread came in at step {step}"
        if not more:
            break
        step += 1
    assert step > 5

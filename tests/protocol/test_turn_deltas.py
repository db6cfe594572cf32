"""How a turn takes deltas and partial updates of its messages."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event

from .forms import (
    CHAT,
    REPLY,
    Caller,
    begin,
    event,
    invocation,
    message,
    new_chat,
    over,
    piece,
    said,
    token,
    user,
    working,
)
from .steps import BUSY, DONE, Step, expect, finishes, play, read, read_fails, wait, wants_poll

WITHOUT_A_MESSAGE = [
    pytest.param(token("lost", 1, None), id="null as the message"),
    pytest.param(token("lost", 1, ""), id="an empty id as the message"),
    pytest.param(event("delta", {"delta": {"response": "lost"}, "seq": 1}), id="no message"),
    pytest.param(event("delta", {"delta": {"response": "lost"}, "seq": 1, "resource_id": 5}), id="a number as an id"),
    pytest.param(piece(None, 1), id="null as the delta"),
    pytest.param(piece("lost", 1), id="a text as the delta"),
    pytest.param(event("delta", {"resource_id": REPLY}), id="no delta"),
    pytest.param(event("delta", {}), id="nothing at all"),
]


@pytest.mark.parametrize("delta", WITHOUT_A_MESSAGE)
def test_a_delta_without_a_message_or_without_a_delta_is_ignored(delta: Event) -> None:
    """It cannot be attributed, and it does not count as a gap."""
    play(
        new_chat(),
        *(BUSY, said(message()), delta),
        expect(texts=[], wants_poll=False),
        token("Hello", 1),
        expect(texts=["Hello"]),
    )


NO_NUMBERS: list[Any] = [
    pytest.param(None, id="null"),
    pytest.param(True, id="a boolean"),
    pytest.param("2", id="a text"),
    pytest.param(2.5, id="a fraction"),
]


@pytest.mark.parametrize("seq", NO_NUMBERS)
def test_deltas_without_a_valid_number_are_taken_as_they_come(seq: Any) -> None:
    """There is nothing to order them by."""
    deltas = [event("delta", {"delta": {"response": text}, "seq": seq, "resource_id": REPLY}) for text in ("Hel", "lo")]
    play(new_chat(), said(message()), *deltas, expect(texts=["Hel", "Hello"]))


def test_deltas_of_a_message_of_the_turn_before_do_not_have_the_chat_read() -> None:
    """Its id is known."""
    caller = begin(Turn(CHAT, earlier=["reply-1"]), user(), message())
    play(caller, BUSY, token("late", 9, "reply-1"), wait(1.5), expect(wants_poll=False))


def test_a_bounded_number_of_unknown_messages_is_kept() -> None:
    """Deltas of messages that never come cannot fill the memory; the newest are kept."""
    caller = play(new_chat(), *(token("x", 1, f"unknown-{number}") for number in range(1000)))
    play(caller, said(message(id="unknown-999", order=9)), said(message(id="unknown-0", order=8)), expect(texts=["x"]))


READY = said({"id": REPLY, "status": "ready"}, ["status"])


def confirm(text: str) -> Step:
    """If the turn is not over yet, the chat is read a second later and has the final message with this text."""

    def step(caller: Caller) -> None:
        if caller.turn.outcome is None:
            play(caller, wait(1), read(over(), message(text, "ready")))

    return step


PARTIAL_UPDATES = [
    pytest.param(
        [
            *(BUSY, said(message("Hel"))),
            said({"id": REPLY, "content": [{"type": "text", "text": "Hello"}], "status": "x"}, ["content"]),
            *(READY, DONE, confirm("Hello")),
            expect(texts=["Hel", "Hello", "Hello"], statuses=["pending", "pending", "ready"]),
            finishes("Hello"),
        ],
        id="only the fields that are named change",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hel", 1), token("lo", 2), READY, DONE, confirm("Hello")),
            expect(snapshots=[(REPLY, "Hel", "Hel"), (REPLY, "Hello", "lo"), (REPLY, "Hello", "")]),
            finishes("Hello", status="ready"),
        ],
        id="a new status keeps the text of deltas",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hello", 1)),
            said({"id": REPLY, "tool_invocations": [invocation()]}, ["tool_invocations"]),
            expect(calls=["call-1"], snapshots=[(REPLY, "Hello", "Hello"), (REPLY, "Hello", "")]),
        ],
        id="a new call is handed out at once and keeps the text of deltas",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel")), read(working(), message("Hello")), READY, DONE, confirm("Hello")),
            finishes("Hello", status="ready"),
        ],
        id="a new status keeps the text that was read in between",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hello", 1), READY, DONE, wants_poll, read_fails),
            expect(snapshots=[(REPLY, "Hello", "Hello"), (REPLY, "Hello", "")], statuses=["pending", "ready"]),
            finishes("Hello", status="ready", final_delivered=True),
        ],
        id="a final status counts with the text known so far if the chat cannot be read",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hel", 1), token("world", 3), READY, DONE, wait(1), wants_poll),
            read(over(), message("Hello, world", "ready")),
            finishes("Hello, world"),
        ],
        id="a final status after a gap in the deltas has the text read",
    ),
    pytest.param(
        [BUSY, said(message("Hel")), READY, token("lo", 2), DONE, confirm("Hello"), finishes("Hello")],
        id="a final status that overtakes the last delta has the text read",
    ),
    pytest.param(
        [BUSY, said(message("Hello")), token("lo", 2), READY, DONE, confirm("Hello"), finishes("Hello")],
        id="a final status does not make a text final that deltas have spoilt",
    ),
]


@pytest.mark.parametrize("steps", PARTIAL_UPDATES)
def test_partial_updates_of_a_message(steps: list[Step]) -> None:
    """They are merged into what is known; a final status is confirmed by a read."""
    play(new_chat(), *steps)

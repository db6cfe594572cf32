"""How a turn ends: its run is over, has failed or was cancelled, and its last message is final."""

from __future__ import annotations

import pytest

from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn

from .forms import (
    CHAT,
    begin,
    chat,
    chats,
    follow_up,
    message,
    new_chat,
    old_reply,
    old_run,
    over,
    run,
    runs,
    said,
    user,
    working,
)
from .steps import (
    BUSY,
    DONE,
    Start,
    Step,
    detail_says,
    expect,
    finishes,
    goes_on,
    play,
    polls_until_over,
    read,
    reads_fail_until_over,
    reconnect,
    second,
    wait,
    wants_poll,
)

NO_REASON = "the server gave no reason"
BROKEN = message(status="failed", content=[{"type": "text", "text": "Hel"}, {"type": "text", "error": "overloaded"}])

ENDS = [
    *(
        pytest.param(
            start,
            [BUSY, said(message("Hello", "ready")), end, finishes("Hello")],
            id=f"{words} ends {turn}",
        )
        for start, turn in ((new_chat, "the first turn of a chat"), (follow_up, "a follow-up"))
        for end, words in (
            (chats(over()), "a chat whose run is completed"),
            (runs(run("completed")), "a completed run"),
            (chats(chat("idle")), "an idle chat without a run"),
            (chats(chat("completed")), "a completed chat without a run"),
        )
    ),
    pytest.param(
        follow_up,
        [said(message("Hello", "ready")), chats(chat("idle")), expect(texts=["Hello"]), finishes("Hello")],
        id="an idle chat ends the turn once a message of it is final",
    ),
    pytest.param(
        follow_up,
        [
            *(chats(chat("idle", old_run(user_message_id=None))), chats(chat("idle"))),
            expect(texts=[], end=None),
            said(message("Hel")),
            expect(texts=["Hel"], end=None),
            *(BUSY, said(message("Hello", "ready")), DONE),
            expect(texts=["Hel", "Hello"]),
            finishes("Hello"),
        ],
        id="an idle chat after the turn before does not end a follow-up",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hello", "ready")), chats({"id": CHAT, "name": "A title"}, ["name"])),
            expect(texts=["Hello"], end=None),
            chats({"id": CHAT, "active_run": run("completed")}, ["active_run"]),
            expect(texts=["Hello"]),
            finishes("Hello"),
        ],
        id="a partial update of the chat's title does not end the turn, one of its run does",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hello")), DONE),
            *(goes_on, wants_poll),
            read(over(), user(), message("Hello", "ready")),
            finishes("Hello", status="ready"),
        ],
        id="a run that ends before its message is final has the chat read",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Let me see.", "ready")), said(second("It")), DONE),
            goes_on,
            read(over(), message("Let me see.", "ready"), second("It is.", "ready")),
            finishes("It is.", id="reply-3"),
        ],
        id="a turn goes on while its last message is not final, though the one before is",
    ),
    pytest.param(
        new_chat,
        [
            *(said(message("Let me see.", "ready")), wait(30)),
            read(working(), message("Let me see.", "ready")),
            goes_on,
            *(said(second("It is.", "ready")), DONE),
            finishes("It is."),
        ],
        id="a final message of a run that goes on does not end the turn",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hel")), DONE, read(over(), message("Hel")), wait(2)),
            said(message("Hello", "ready")),
            finishes("Hello"),
        ],
        id="a final message that comes two seconds after the end of the run is the end",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hel")), reconnect),
            read(over(), message("Hello", "ready")),
            expect(texts=["Hel", "Hello"]),
            finishes("Hello"),
        ],
        id="a run that ended while the stream was disconnected ends the turn when the chat is read",
    ),
    *(
        pytest.param(
            new_chat,
            [
                *(BUSY, said(message("Hel")), reconnect),
                read(
                    chat("busy", {"id": "run-3", "state": "working", "user_message_id": "user-3"}),
                    message("Hello", status),
                    user(id="user-3", order=5),
                    second("New", agent_run_id="run-3"),
                ),
                expect(end=end, text="Hello", status=status),
            ],
            id=f"a turn whose message is {status} is over when the chat has gone on with another turn",
        )
        for status, end in (("ready", End.FINISHED), ("cancelled", End.FINISHED), ("failed", End.FAILED))
    ),
]


@pytest.mark.parametrize(("start", "steps"), ENDS)
def test_the_end_of_a_turn(start: Start, steps: list[Step]) -> None:
    """The run is over and the last message is final."""
    play(start(), *steps)


def test_once_a_turn_is_over_nothing_ends_it_differently() -> None:
    """Whatever still arrives."""
    caller = play(new_chat(), BUSY, said(message("Hello", "ready")), DONE)
    outcome = caller.outcome
    play(caller, runs(run("failed", error="late")), BUSY)
    caller.turn.tick(caller.now + 1000)
    assert caller.outcome is outcome


LOST = [
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hel")), DONE, wants_poll),
            polls_until_over(over(), message("Hel"), least=3, most=8, times=(3, 10)),
            expect(end=End.LOST, text="Hel"),
        ],
        id="a run that is over without a final message is lost after a few seconds and a few reads, with its text",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, DONE, wants_poll, polls_until_over(over())),
            expect(end=End.LOST, text="", last_delivered=None),
            detail_says("never became final"),
        ],
        id="a run that is over without any text is lost with the placeholder",
    ),
    pytest.param(
        lambda: begin(Turn(None), user(), None),
        [BUSY, DONE, wants_poll, polls_until_over(over()), expect(end=End.LOST, message=None)],
        id="a run that is over without any message is lost without one",
    ),
    pytest.param(
        follow_up,
        [
            chats(chat("idle")),
            polls_until_over(chat("idle"), user(), old_reply(), least=50, most=300),
            expect(end=End.LOST),
        ],
        id="an idle chat in which no run ever begins is given up after about a minute",
    ),
    pytest.param(
        new_chat,
        [BUSY, said(message("Hello")), DONE, reads_fail_until_over, expect(end=End.LOST, text="Hello")],
        id="a run that is over without a final message is lost if the chat cannot be read",
    ),
]


@pytest.mark.parametrize(("start", "steps"), LOST)
def test_a_turn_is_lost_if_its_message_never_becomes_final(start: Start, steps: list[Step]) -> None:
    """With what was received."""
    play(start(), *steps)


FAILURES = [
    *(
        pytest.param(
            [
                *(BUSY, said(message("Hel")), said(message("Hel", "failed"))),
                goes_on,  # the message alone does not say why
                told,
                expect(end=End.FAILED, detail="out of tokens", text="Hel", status="failed"),
                expect(statuses=["pending", "failed"]),
            ],
            id=f"a {state} run in an event of {name} fails with its reason",
        )
        for state in ("failed", "rejected")
        for name, told in (
            ("chats", chats(over(state, error="out of tokens"))),
            ("agent_runs", runs(run(state, error="out of tokens"))),
        )
    ),
    *(
        pytest.param(
            [
                *(BUSY, said(message("Hel")), runs(run(state, error="out of tokens")), wants_poll),
                read(over(state, error="out of tokens"), message("Hel")),
                expect(end=End.FAILED, detail="out of tokens", text="Hel"),
            ],
            id=f"a {state} run without a final message fails as soon as the chat was read once",
        )
        for state in ("failed", "rejected")
    ),
    pytest.param(
        [
            *(chats(over("rejected")), read(over("rejected"))),
            expect(end=End.FAILED, text="", last_delivered=None, detail=NO_REASON),
        ],
        id="a run that failed before it said anything delivers no message",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel", "failed")), runs(run("failed"))),
            *(goes_on, wants_poll),
            read(over("failed", error="out of tokens"), message("Hel", "failed")),
            expect(end=End.FAILED, detail="out of tokens"),
        ],
        id="a reason that is missing from the event is read from the chat",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel", "failed")), runs(run("failed"))),
            read(over("failed"), message("Hel", "failed")),
            expect(end=End.FAILED, detail=NO_REASON),
        ],
        id="a failure whose reason is not in the chat either says so",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel", "failed")), runs(run("failed")), read(working(), message("Hel", "failed"))),
            expect(end=End.FAILED, detail=NO_REASON),
        ],
        id="an outdated read in which the run still works does not undo its failure",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hello", "failed")), runs(run("failed")), reads_fail_until_over),
            expect(end=End.FAILED, detail=NO_REASON),
        ],
        id="a failure is raised without its reason if the chat cannot be read",
    ),
    pytest.param(
        [
            *(BUSY, said(BROKEN), chats(chat("idle"))),
            expect(end=End.FAILED, texts=["Hel"], text="Hel", done=True, detail="overloaded"),
        ],
        id="a failed message in an idle chat fails with the error in its content",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel", "failed"))),
            goes_on,
            *(wait(30), read(working(), message("Hel", "failed"))),
            goes_on,
            *(said(second("Hello", "ready")), DONE),
            finishes("Hello"),
        ],
        id="a failed message of a run that goes on is not the end, since the run may try again",
    ),
]


@pytest.mark.parametrize("steps", FAILURES)
def test_failures_of_a_turn(steps: list[Step]) -> None:
    """The run's state says that the turn has failed, and its error says why."""
    play(new_chat(), *steps)


CANCELLATIONS = [
    *(
        pytest.param(
            [
                *(BUSY, said(message("Hel", status)), chats(over("canceled"))),
                expect(end=End.FINISHED, status=status, text="Hel"),
            ],
            id=f"a cancelled run whose message is {status} ends normally",
        )
        for status in ("cancelled", "ready", "failed")
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel")), runs(run("canceled")), wants_poll, read(over("canceled"), message("Hel"))),
            expect(end=End.FINISHED, status="cancelled", text="Hel", final_chat_id=CHAT),
        ],
        id="a cancelled run whose message is not final ends with a cancelled message after one read",
    ),
    pytest.param(
        [
            *(BUSY, runs(run("canceled")), wants_poll, read(over("canceled"))),
            expect(end=End.FINISHED, status="cancelled", text="", final_chat_id=CHAT),
        ],
        id="a run that was cancelled before its first word ends with an empty cancelled message",
    ),
    pytest.param(
        [
            *(BUSY, said(message("Hel")), said(user("cancelled")), said(message("Hel", "cancelled"))),
            expect(texts=["Hel", "Hel"], end=None),
            chats(over("canceled")),
            expect(texts=["Hel", "Hel"]),
            finishes("Hel"),
        ],
        id="a user's message that is cancelled together with its run was not withdrawn",
    ),
]


@pytest.mark.parametrize("steps", CANCELLATIONS)
def test_a_cancelled_turn_ends_normally(steps: list[Step]) -> None:
    """With whatever its message has come to."""
    play(new_chat(), *steps)

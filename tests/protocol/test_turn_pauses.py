"""When a turn pauses: its run waits for input, for an approval, or for a call that nobody here answers."""

from __future__ import annotations

import pytest

from inferencesh._protocol.outcome import End
from inferencesh._protocol.wire import Event

from .forms import (
    Wire,
    chat,
    chats,
    follow_up,
    invocation,
    message,
    new_chat,
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
    WAITS,
    Start,
    Step,
    answer,
    asks,
    attached,
    decline,
    expect,
    finishes,
    goes_on,
    play,
    polls_for,
    polls_until_over,
    read,
    reads_fail_until_over,
    resume,
    second,
    wait,
    wants_poll,
    wants_poll_after,
)

PAUSES = [
    pytest.param(runs(run("input_required")), id="a run that requires input"),
    pytest.param(chats(WAITS), id="a chat whose run requires input"),
    pytest.param(chats(chat("awaiting_input")), id="a chat without a run that awaits input"),
]


def test_a_pause_that_was_read_before_its_call_was_answered_elsewhere_is_outdated() -> None:
    """A worker that takes over reads the chat before its messages; the one before may answer in between."""
    answered = asks("completed", status="ready")
    play(
        attached(WAITS, user(), answered, second("714.", "ready"))(),
        *(goes_on, wants_poll_after(0, 2)),
        *(read(over(), user(), answered, second("714.", "ready")), finishes("714.")),
    )


@pytest.mark.parametrize("pause", PAUSES)
@pytest.mark.parametrize("declined_first", [False, True], ids=["then declined", "declined before"])
def test_a_declined_call_pauses_the_turn_at_once_when_the_run_says_that_it_waits(
    pause: Event, declined_first: bool
) -> None:
    """Whichever comes first."""
    one, other = (decline("call-1"), pause) if declined_first else (pause, decline("call-1"))
    play(
        new_chat(),
        *(BUSY, said(asks("awaiting_input"))),
        *(one, goes_on, other),
        expect(end=End.PAUSED, pending=["call-1"]),
    )


DECLINED = [
    pytest.param(
        new_chat,
        [
            *(BUSY, said(asks("awaiting_input")), decline("call-1"), wait(0.49)),
            goes_on,
            *(said(asks("awaiting_input", text="Hm. So")), wait(0.49)),
            goes_on,  # it was not quiet
            wait(0.02),
            expect(end=End.PAUSED, text="Hm. So"),
        ],
        id="half a second of quiet is enough if the run does not say that it waits",
    ),
    *(
        pytest.param(
            start,
            [
                *(state, said(asks("awaiting_input")), decline("call-1")),
                polls_until_over(chat("idle"), user(), asks("awaiting_input"), most=3),
                expect(end=End.PAUSED, pending=["call-1"]),
            ],
            id=f"{words} does not hide that a call waits",
        )
        for start, state, words in (
            (new_chat, chats(chat("idle")), "an idle chat in its first turn"),
            (follow_up, chats(chat("idle")), "an idle chat, which may be that of the turn before,"),
            (follow_up, chats(chat("idle", old_run())), "an idle chat with the run of the turn before"),
            (follow_up, chats(chat("idle", {"state": "completed"})), "an idle chat with a run without an id"),
        )
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(asks("awaiting_input", "awaiting_input")), runs(run("input_required"))),
            *(decline("call-2"), answer("call-1")),
            expect(end=End.PAUSED, pending=["call-2"]),
        ],
        id="only the calls that still wait are pending, though the server has not confirmed the other",
    ),
]


@pytest.mark.parametrize(("start", "steps"), DECLINED)
def test_a_call_that_nobody_answers_pauses_the_turn(start: Start, steps: list[Step]) -> None:
    """The final message has it among its pending calls."""
    play(start(), *steps)


def test_a_run_that_ends_with_a_call_still_waiting_ends_the_turn_in_a_few_seconds() -> None:
    """The call cannot be answered any more."""
    steps = [BUSY, said(asks("awaiting_input")), decline("call-1"), DONE]
    caller = play(new_chat(), *steps, polls_until_over(over(), asks("awaiting_input"), most=10))
    assert caller.outcome.end in {End.LOST, End.PAUSED}


SIGN_IN = message("Please sign in.", "ready")
LATER = message("Back in an hour.", "ready")

RUN_WAITS = [
    *(
        pytest.param(
            [
                *(BUSY, said(SIGN_IN), runs(run(state)), wait(1), wants_poll),
                read(chat("awaiting_input", run(state)), SIGN_IN),
                expect(end=End.PAUSED, text="Please sign in.", pending=[]),
            ],
            id=f"a run in state {state} without a call pauses the turn after the chat was read",
        )
        for state in ("input_required", "auth_required")
    ),
    pytest.param(
        [
            *(BUSY, said(SIGN_IN), runs(run("auth_required")), reads_fail_until_over),
            expect(end=End.PAUSED, text="Please sign in."),
        ],
        id="a run that waits for a person pauses the turn if the chat cannot be read",
    ),
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input")), runs(run("input_required")), answer("call-1")),
            runs(run("input_required")),
            polls_until_over(WAITS, asks("completed"), least=2, most=10),
            expect(end=End.PAUSED),
        ],
        id="a run that still waits seconds after all calls were answered pauses the turn",
    ),
    *(
        pytest.param(
            [
                *(BUSY, runs(run("input_required"))),
                goes_on,
                *arrival,
                expect(calls=["call-1"], end=None),
                decline("call-1"),
                expect(end=End.PAUSED),
            ],
            id=f"a run that waits for a call which {words} pauses the turn when that is declined",
        )
        for words, arrival in (
            ("comes later", [said(asks("awaiting_input"))]),
            ("is read", [wants_poll_after(0, 1), read(WAITS, asks("awaiting_input"))]),
        )
    ),
    *(
        pytest.param(
            [
                *(BUSY, said(form), runs(run("input_required"))),
                expect(calls=[]),
                lambda caller, form=form: caller.wants() and caller.reads(WAITS, form),
                expect(end=End.PAUSED),
            ],
            id=f"{words} pauses the turn",
        )
        for words, call in (
            ("a client tool's call that waits for approval", invocation("awaiting_approval")),
            ("an app's call that waits for approval", invocation("awaiting_approval", type="app")),
            ("a call that waits for a form", invocation("awaiting_input", type="mcp")),
        )
        for form in [message("Hm.", tool_invocations=[call])]
    ),
    pytest.param(
        [
            *(BUSY, said(LATER), chats(chat("waiting"))),
            goes_on,
            *([wait(1000), read(chat("waiting", run("input_required")), LATER), goes_on] * 3),
        ],
        id="a chat that waits by itself does not pause the turn",
    ),
]


@pytest.mark.parametrize("steps", RUN_WAITS)
def test_a_run_that_waits_for_a_person_pauses_the_turn(steps: list[Step]) -> None:
    """There is no call that a handler here could answer."""
    play(new_chat(), *steps)


PAUSES_OF_THE_TURN_BEFORE = [
    pytest.param(chat("awaiting_input", old_run("input_required")), id="with its run"),
    pytest.param(chat("awaiting_input"), id="without a run"),
]


@pytest.mark.parametrize("pause", PAUSES_OF_THE_TURN_BEFORE)
def test_a_pause_of_the_turn_before_that_lasts_holds_this_one_up(pause: Wire) -> None:
    """Nothing happens before the input is given, although the message was not said to be queued."""
    play(
        follow_up(),
        *(chats(pause), polls_until_over(pause, user(), message(), most=20)),
        expect(end=End.HELD_UP),
    )


@pytest.mark.parametrize("pause", PAUSES_OF_THE_TURN_BEFORE)
def test_a_pause_of_the_turn_before_that_ends_does_not_pause_this_one(pause: Wire) -> None:
    """The run that waits is another."""
    play(
        follow_up(),
        *(chats(pause), polls_for(4, pause, user(), message())),
        goes_on,
        *(BUSY, said(message("Hello", "ready")), DONE),
        finishes("Hello"),
    )


PAUSED = [BUSY, said(asks("awaiting_input")), runs(run("input_required")), decline("call-1"), expect(end=End.PAUSED)]

RESUMED = [
    pytest.param(
        [
            *(answer("call-1"), resume),
            *(goes_on, wants_poll),
            read(working(), asks("completed")),
            goes_on,
            *(said(second("714.", "ready")), DONE),
            finishes("714."),
        ],
        id="after its call was answered it goes on, and the chat is read",
    ),
    pytest.param(
        [resume, read(WAITS, asks("awaiting_input")), expect(end=End.PAUSED, calls=["call-1"])],
        id="before its call was answered it pauses again and does not hand the call out again",
    ),
]


@pytest.mark.parametrize("steps", RESUMED)
def test_a_paused_turn_is_resumed(steps: list[Step]) -> None:
    """What was said of the pause does not count any more."""
    play(new_chat(), *PAUSED, *steps)

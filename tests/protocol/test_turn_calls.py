"""Which tool calls a turn hands out, once each, and what their results change."""

from __future__ import annotations

import pytest

from inferencesh._protocol.outcome import End

from .forms import (
    Caller,
    chat,
    chats,
    follow_up,
    invocation,
    message,
    new_chat,
    old_reply,
    over,
    run,
    runs,
    said,
    token,
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
    decide,
    decline,
    decline_approval,
    expect,
    finishes,
    goes_on,
    leave,
    play,
    read,
    reconnect,
    resume,
    second,
    wait,
    wants_poll_after,
)

CALL_FORMS = [
    pytest.param(invocation(status, function={"name": "calculator", "arguments": arguments}), id=f"{status}, {words}")
    for status in ("awaiting_input", "in_progress")
    for arguments, words in (
        ({"expression": "42 * 17"}, "arguments as an object"),
        ('{"expression": "42 * 17"}', "arguments as JSON text"),
    )
]


@pytest.mark.parametrize("call", CALL_FORMS)
def test_a_client_tools_call_is_handed_out_once_with_its_arguments_decoded(call: dict[str, object]) -> None:
    """In either status that means it, whatever is replayed and read."""
    form = message("Hm.", tool_invocations=[call])
    play(
        new_chat(),
        *(BUSY, said(asks("pending"))),
        expect(calls=[]),
        *(said(form), said(form), reconnect, read(working(), form), said(form)),
        said(message("Hm. ", tool_invocations=[call])),
        expect(calls=["call-1"], arguments=[("calculator", {"expression": "42 * 17"})]),
    )


HANDED_OUT = [
    *(
        pytest.param(
            new_chat,
            [BUSY, said(message("Hm.", tool_invocations=[invocation("in_progress", type=kind)])), expect(calls=[])],
            id=f"a call of a tool of type {kind} is not, since the server runs it",
        )
        for kind in ("app", "internal", "mcp", "oracle")
    ),
    pytest.param(
        follow_up,
        [said(old_reply(status="pending", tool_invocations=[invocation()])), expect(calls=[])],
        id="a replayed call of the turn before is not",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message()), token("Let me see.\n", 1), said(asks("pending", text="Let me see."))),
            said(asks("awaiting_input", text="Let me see.")),
            expect(calls=["call-1"]),
        ],
        id="a call in a message whose text is behind the deltas is",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(asks("awaiting_input", "pending", "awaiting_input"))),
            expect(calls=["call-1", "call-3"]),
            said(asks("awaiting_input", "awaiting_input", "awaiting_input")),
            expect(calls=["call-1", "call-3", "call-2"]),
        ],
        id="several calls of a message are as they come",
    ),
]


@pytest.mark.parametrize(("start", "steps"), HANDED_OUT)
def test_which_calls_are_handed_out(start: Start, steps: list[Step]) -> None:
    """Those of this turn that the client has to run."""
    play(start(), *steps)


def test_new_calls_are_to_be_taken_before_more_events_are_fed() -> None:
    """The turn says so until they were taken; a second time there is nothing to take."""
    caller = new_chat()
    wanted = [caller.turn.wants_action]
    caller.turn.receive(said(asks("awaiting_input")), caller.now)
    wanted.append(caller.turn.wants_action)
    assert len(caller.turn.calls.take()) == 1
    wanted.append(caller.turn.wants_action)
    assert wanted == [False, True, False]
    assert caller.turn.calls.take() == []


RESULTS = [
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input")), runs(run("input_required")), wait(100)),
            goes_on,  # somebody runs the call, however long that takes
            *(answer("call-1"), said(asks("completed", status="ready")), BUSY, said(second("714.", "ready")), DONE),
            finishes("714.", pending=[]),
        ],
        id="a run that waits for the result of a call goes on with it",
    ),
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input")), chats(chat("idle")), wait(100)),
            goes_on,
            *(answer("call-1"), BUSY, said(second("714.", "ready")), DONE),
            finishes("714."),
        ],
        id="an idle chat is not over while somebody runs a call",
    ),
    *(
        pytest.param(
            [
                *(BUSY, said(asks("awaiting_input"))),
                *(said(asks("cancelled", status="ready")), chats(over(state, error="because"))),
                expect(end=end),
            ],
            id=f"a {state} run does not wait for calls that are still run",
        )
        for state, end in (("completed", End.FINISHED), ("failed", End.FAILED), ("canceled", End.FINISHED))
    ),
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input"))),
            expect(pending_shown=[["call-1"]]),
            answer("call-1"),
            *(said(asks("awaiting_input", text="Hm. ")), said(asks("in_progress", text="Hm. So"))),
            expect(texts=["Hm.", "Hm. ", "Hm. So"], pending_shown=[["call-1"], [], []]),
            *(said(message("Hm. So.", "ready")), DONE),
            finishes("Hm. So.", pending=[], calls=["call-1"]),
        ],
        id="a call that was answered is not pending again, whatever is replayed",
    ),
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input")), runs(run("input_required")), answer("call-1")),
            *(runs(run("input_required")), chats(WAITS)),
            goes_on,
            wants_poll_after(0, 10),
            *(read(working(), asks("completed")), said(second("714.", "ready")), DONE),
            finishes("714."),
        ],
        id="a pause that is about calls which were answered is outdated, and the chat is read",
    ),
    pytest.param(
        [
            *(BUSY, said(asks("awaiting_input")), runs(run("input_required")), answer("call-1"), decline("call-1")),
            expect(end=None, answered={"call-1"}),
        ],
        id="a call whose handler has submitted the result stays answered when the handler declines late",
    ),
    pytest.param(
        [BUSY, said(asks("awaiting_input")), decline("call-1"), said(asks("completed")), BUSY, wait(5), goes_on],
        id="a declined call that somebody else answers does not pause the turn",
    ),
]


@pytest.mark.parametrize("steps", RESULTS)
def test_what_the_results_of_calls_change(steps: list[Step]) -> None:
    """A call that was answered does not hold the turn up."""
    play(new_chat(), *steps)


LEFT = [
    pytest.param(
        [
            said(asks("awaiting_input", "awaiting_input")),
            expect(calls=["call-1", "call-2"]),
            lambda caller: caller.turn.calls.answer("call-1"),
            *(leave, resume, read(WAITS, asks("awaiting_input", "awaiting_input"))),
            expect(calls=["call-1", "call-2"], end=End.PAUSED, pending=["call-2"]),
        ],
        id="the calls of a caller that has left are pending and not handed out again",
    ),
    pytest.param(
        [
            lambda caller: caller.turn.receive(said(asks("awaiting_input")), caller.now),
            leave,
            expect(untaken=([], False)),
        ],
        id="calls that a caller has not taken before it left are not handed out either",
    ),
]


@pytest.mark.parametrize("steps", LEFT)
def test_a_caller_that_leaves_leaves_its_calls_to_the_server(steps: list[Step]) -> None:
    """Nobody runs them a second time."""
    play(new_chat(), *steps)


# -- approvals


def approvals(asks: bool = True) -> Caller:
    """A turn that has just begun, with or without somebody who can be asked."""
    caller = new_chat()
    caller.turn.calls.asks = asks
    return caller


def somebody_can_be_asked(caller: Caller) -> None:
    """The turn is resumed by somebody who can be asked."""
    caller.turn.calls.asks = True
    resume(caller)


def is_asked(caller: Caller) -> None:
    """Somebody is asked about the call, and the caller leaves."""
    caller.turn.calls.ask("call-1")
    leave(caller)


APPROVALS = [
    *(
        pytest.param(
            approvals,
            [
                *(BUSY, said(form), runs(run("input_required")), said(form), reconnect, read(WAITS, form), wait(100)),
                expect(calls=["call-1"], call_statuses=["awaiting_approval"], end=None),
                decline_approval("call-1"),
                expect(end=End.PAUSED, approvals=["call-1"]),
            ],
            id=f"a call of a tool of type {kind} is handed out once, and without a decision the turn pauses",
        )
        for kind in ("client", "app", "http", "oracle")
        for form in [message("Hm.", tool_invocations=[invocation("awaiting_approval", type=kind)])]
    ),
    *(
        pytest.param(
            approvals,
            [
                *(BUSY, said(asks("awaiting_approval")), runs(run("input_required")), decide("call-1", approved)),
                *(said(asks("awaiting_approval", text="Hm. So")), runs(run("input_required"))),
                read(WAITS, asks("awaiting_approval")),
                expect(end=None, shown=[(shown, False)]),
                *(BUSY, said(asks(after, text="Hm. So on", status="ready")), DONE),
                finishes("Hm. So on", calls=["call-1"]),
            ],
            id=f"a call that was {words} does not wait again, whatever is replayed",
        )
        for approved, words, shown, after in (
            (True, "approved", "pending", "completed"),
            (False, "refused", "cancelled", "cancelled"),
            (None, "decided elsewhere", "pending", "completed"),
        )
    ),
    *(
        pytest.param(
            approvals,
            [
                *(BUSY, said(asks("awaiting_approval")), decide("call-1", approved)),
                *(said(asks("awaiting_approval")), said(asks("awaiting_input"))),
                *(said(asks("awaiting_approval")), said(asks("awaiting_input"))),
                expect(call_statuses=["awaiting_approval", "awaiting_input"], pending_now=["call-1"]),
            ],
            id=f"a client call that was {words} is handed out a second time, to be run",
        )
        for approved, words in ((True, "approved"), (None, "decided elsewhere"))
    ),
    pytest.param(
        lambda: approvals(asks=False),
        [
            *(BUSY, said(asks("awaiting_input")), said(asks("awaiting_approval"))),
            expect(shown=[("awaiting_input", False)]),
        ],
        id="a decision that somebody else has made is not undone by a replay",
    ),
    pytest.param(
        lambda: approvals(asks=False),
        [
            *(BUSY, said(asks("awaiting_approval")), runs(run("input_required"))),
            expect(end=End.PAUSED, calls=[]),
            *(somebody_can_be_asked, read(WAITS, asks("awaiting_approval"))),
            expect(calls=["call-1"]),
            *(is_asked, somebody_can_be_asked, read(WAITS, asks("awaiting_approval"))),
            expect(calls=["call-1"]),
        ],
        id="a call is handed out when the turn is resumed by somebody who can be asked, and only once",
    ),
    pytest.param(
        approvals,
        [
            *(BUSY, said(asks("awaiting_approval")), leave, resume, read(WAITS, asks("awaiting_approval"))),
            expect(calls=["call-1", "call-1"]),
        ],
        id="a call is handed out again if the caller left before anybody was asked",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(asks("awaiting_approval")), runs(run("input_required"))),
            expect(end=End.PAUSED),
            *(resume, read(WAITS, asks("awaiting_input"))),
            expect(calls=["call-1"], end=None),
        ],
        id="a client call that was approved during a pause is handed out when the turn is resumed",
    ),
]


@pytest.mark.parametrize(("start", "steps"), APPROVALS)
def test_calls_that_need_an_approval(start: Start, steps: list[Step]) -> None:
    """Each is handed out once to be decided and, if it is the client's, once to be run."""
    play(start(), *steps)

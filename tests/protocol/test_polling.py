"""When a turn wants the chat to be read, and what it does with what was read."""

from __future__ import annotations

import pytest

from .forms import (
    Wire,
    chat,
    chats,
    follow_up,
    message,
    new_chat,
    old_reply,
    old_run,
    over,
    queued,
    said,
    token,
    user,
    working,
)
from .steps import (
    BUSY,
    DONE,
    Step,
    expect,
    finishes,
    goes_on,
    play,
    read,
    reconnect,
    second,
    wait,
    wants_poll,
    wants_poll_after,
)

POLLS = [
    pytest.param(
        [
            *(said(message("Hello", "ready")), wants_poll_after(0.5, 2)),
            read(over(), message("Hello", "ready")),
            finishes("Hello"),
        ],
        id="a final message without a word about the run has the chat read a moment later",
    ),
    pytest.param(
        [
            *(BUSY, token("It ", 1, "reply-3"), wants_poll_after(0, 1)),
            read(working(), message(), second()),
            expect(texts=["It "]),
        ],
        id="deltas of a message that does not come have the chat read within a second",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hel", 1), token("world", 3), wants_poll_after(0, 3)),
            read(working(), message("Hello, world")),
            expect(texts=["Hel", "Hello, world"]),
        ],
        id="a gap in the deltas has the chat read within three seconds",
    ),
    pytest.param(
        [
            *(BUSY, said({"id": "reply-3", "status": "ready"}, ["status"])),
            expect(texts=[]),
            wants_poll_after(0, 10),
            read(over(), second("Hello", "ready")),
            finishes("Hello"),
        ],
        id="a partial update of an unknown message has the chat read",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hel", 1), token("x", 1, "reply-3"), reconnect, wants_poll),
            read(working(), message("Hello, ")),
            *(BUSY, said(message("Hello, ")), token("world", 7), token("!", 8)),
            expect(texts=["Hel", "Hello, ", "Hello, world", "Hello, world!"]),
        ],
        id="a new connection has the chat read, and deltas continue from there",
    ),
]


@pytest.mark.parametrize("steps", POLLS)
def test_what_has_the_chat_read(steps: list[Step]) -> None:
    """What the stream does not tell is polled."""
    play(new_chat(), *steps)


STALE_STATES = [
    pytest.param(chat("idle"), id="an idle chat without a run"),
    pytest.param(chat("idle", old_run()), id="an idle chat with the run before"),
    pytest.param(chat("completed", old_run("failed")), id="a completed chat with a failed run before"),
]


@pytest.mark.parametrize("stale", STALE_STATES)
def test_a_state_from_before_the_final_message_has_the_chat_read(stale: Wire) -> None:
    """It may be that of the turn before."""
    play(
        follow_up(),
        *(chats(stale), said(message("Hello", "ready"))),
        goes_on,
        wants_poll_after(0, 5),
        read(chat("idle"), user(), message("Hello", "ready")),
        finishes("Hello"),
    )


READS = [
    pytest.param(
        [
            *(BUSY, said(message("Let"))),
            read(
                over(),
                second("It is.", "ready"),
                message("Let me see.", "ready"),
                user(),
                old_reply(order=1, chat_id="another-chat"),
            ),
            expect(texts=["Let", "Let me see.", "It is."]),
            finishes("It is."),
        ],
        id="a read delivers what was missed, in the order of the messages",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("Hel", 1), token("lo", 2), read(working(), message("Hel"))),
            expect(texts=["Hel", "Hello"]),
            token("!", 3),
            expect(texts=["Hel", "Hello", "Hello!"]),
        ],
        id="an outdated read takes no text back",
    ),
    pytest.param(
        [
            *(BUSY, said(message()), token("x", 5), said({"id": "reply-3"}, ["status"])),
            lambda caller: caller.turn.unreadable(),
            *(wants_poll, read(working(), message("Hello"))),
            expect(wants_poll=False),
            wait(5),
            expect(wants_poll=False),
        ],
        id="one read answers every wish for one",
    ),
]


@pytest.mark.parametrize("steps", READS)
def test_what_a_read_changes(steps: list[Step]) -> None:
    """A read counts as an event, unless it is older than the stream."""
    play(new_chat(), *steps)


# -- the schedule


def test_a_silent_stream_is_polled_ever_more_rarely() -> None:
    """First soon, then about once a minute, and it is never given up while the run works."""
    caller = new_chat()
    waits = []
    for _ in range(8):
        before = caller.now
        play(caller, wait(1000), wants_poll)
        waits.append(caller.now - before)
        caller.reads(working(), message())
    assert waits == sorted(waits)
    assert waits[0] <= 3
    assert waits[-1] == pytest.approx(waits[-2])
    assert waits[-1] <= 61
    assert caller.turn.outcome is None


def test_the_deadline_is_never_far_and_never_passed() -> None:
    """A caller that waits for events calls ``tick`` at least once a minute."""
    caller = play(new_chat(), BUSY, said(message("Hel")))
    for _ in range(5):
        assert caller.now < caller.turn.deadline <= caller.now + 60
        play(caller, wait(60), read(working(), message("Hel")))


def test_a_tick_before_the_deadline_does_nothing() -> None:
    """A caller may be woken for other reasons."""
    caller = play(new_chat(), BUSY, said(message("Hel")))
    deadline = caller.turn.deadline
    caller.turn.tick(caller.now + 0.1)
    assert caller.turn.deadline == deadline
    assert not caller.turn.wants_action


def test_deltas_do_not_put_off_a_poll() -> None:
    """The run is over and its message is not final: the chat is read every second, whatever else arrives."""
    caller = play(new_chat(), BUSY, said(message()), token("Hel", 1), DONE, read(over(), message("Hel")))
    begun = caller.now
    for seq in range(2, 40):
        caller.passes(0.1)
        if caller.turn.wants_reread:
            break
        caller.take(token("x", seq))
    assert caller.turn.wants_reread
    assert caller.now - begun < 2


def test_deltas_of_other_messages_do_not_have_the_chat_read_again_and_again() -> None:
    """A few reads tell that they are not this turn's, such as those of the run that a message waits behind."""
    busy = chat("busy", old_run("working"))
    caller = play(queued(), chats(busy))
    reads = 0
    for seq in range(10, 200):
        play(caller, token("x", seq, "reply-1"), wait(0.1))
        if caller.turn.wants_reread:
            reads += 1
            caller.reads(busy, user("queued"), old_reply(status="pending", order=2))
    assert caller.snapshots == []
    assert reads <= 3

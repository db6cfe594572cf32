"""The state machine of one turn, driven with events and a clock of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferencesh._protocol.calls import Step
from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh._types.codec import structure
from inferencesh.errors import StreamError, UnreadableError
from inferencesh.models import Message

from .forms import (
    CHAT,
    REPLY,
    RUN,
    USER,
    Caller,
    Wire,
    chat,
    chats,
    event,
    follow_up,
    invocation,
    message,
    new_chat,
    old_reply,
    old_run,
    over,
    piece,
    queued,
    run,
    runs,
    said,
    token,
    user,
    working,
)

BUSY = chats(working())
DONE = chats(over())


def asks(*statuses: str, text: str = "Hm.", **more: Any) -> Wire:
    """The reply with tool calls in these statuses: call-1, call-2 and so on."""
    calls = [invocation(status, f"call-{number}") for number, status in enumerate(statuses, 1)]
    return message(text, tool_invocations=calls, **more)


def the_end(caller: Caller) -> End:
    """How the turn has ended."""
    return caller.outcome.end


def attached(chat_data: Wire, *messages: Wire) -> Caller:
    """A turn taken up from what a chat's messages end with, and then read."""
    caller = Caller(Turn.latest(CHAT, messages, 100.0))
    caller.reads(chat_data, *messages)
    return caller


# -- scenarios: events in, the texts of all snapshots and the end out

Stage = tuple[list[Event], list[str], End | None]  # events, and the texts and the end after them
SECOND: Wire = {"id": "reply-3", "order": 6}
FAILED = message(status="failed", content=[{"type": "text", "text": "Hel"}, {"type": "text", "error": "overloaded"}])
SCENARIOS: dict[str, tuple[Callable[[], Caller], list[Stage]]] = {
    "each delta is a snapshot of all before it": (
        new_chat,
        [
            (
                [BUSY, said(message()), token("Hel", 1), token("lo", 2), said(message("Hello", "ready")), DONE],
                ["Hel", "Hello", "Hello"],
                End.FINISHED,
            )
        ],
    ),
    "messages of other roles, chats and turns are ignored": (
        follow_up,
        [
            (
                [
                    BUSY,
                    said(user()),
                    said(old_reply()),
                    said(message("thought", id="m1", role="system", order=9)),
                    said(message("tool output", id="m2", role="tool", order=9)),
                    said(message("something new", id="m3", role="oracle", order=9)),
                    said(message("elsewhere", id="m4", chat_id="another-chat", order=9)),
                ],
                [],
                None,
            ),
            ([said(message("Hello"))], ["Hello"], None),
        ],
    ),
    "the state of another chat, such as a sub-agent's, is ignored": (
        new_chat,
        [
            ([BUSY, said(message("Hello", "ready"))], ["Hello"], None),
            ([chats(chat("idle", id="another-chat"))], ["Hello"], None),
            ([runs(run("completed", id="r9", chat_id="another-chat"))], ["Hello"], None),
        ],
    ),
    "unknown events are ignored": (
        new_chat,
        [([event("usage", {"total": 1}), event("chat_messages_v2", message("Hello"))], [], None)],
    ),
    "messages without an order are in the order of their arrival": (
        new_chat,
        [
            ([BUSY, said(message("Let me see.", "ready", order=None))], ["Let me see."], None),
            (
                [said(message("It is 714.", "ready", id="reply-3", order=None)), DONE],
                ["Let me see.", "It is 714."],
                End.FINISHED,
            ),
        ],
    ),
    "a message in the response to the POST belongs to the turn, whatever its order": (
        lambda: follow_up(order=1, agent_run_id=""),
        [([said(message("Hello", order=1, agent_run_id=""))], ["Hello"], None)],
    ),
    "a message of the turn's run belongs to the turn, whatever its order": (
        follow_up,
        [([said(message("Hello", id="reply-3", order=1))], ["Hello"], None)],
    ),
    "the idle state that the turn before has left does not end a follow-up": (
        follow_up,
        [
            ([chats(chat("idle", old_run(user_message_id=None))), chats(chat("idle"))], [], None),
            ([said(message("Hel"))], ["Hel"], None),
            ([BUSY, said(message("Hello", "ready")), DONE], ["Hel", "Hello"], End.FINISHED),
        ],
    ),
    "an idle state ends the turn once a message of it is final": (
        follow_up,
        [([said(message("Hello", "ready")), chats(chat("idle"))], ["Hello"], End.FINISHED)],
    ),
    "an update of the chat's title does not end the turn": (
        new_chat,
        [
            (
                [BUSY, said(message("Hello", "ready")), chats({"id": CHAT, "name": "A title"}, ["name"])],
                ["Hello"],
                None,
            ),
            (
                [chats({"id": CHAT, "active_run": run("completed")}, ["active_run"])],
                ["Hello"],
                End.FINISHED,
            ),
        ],
    ),
    "a failed message of a run that is over is a failure": (
        new_chat,
        [([BUSY, said(FAILED), chats(chat("idle"))], ["Hel"], End.FAILED)],
    ),
    "deltas before their message are delivered with it": (
        new_chat,
        [
            ([BUSY, token("It ", 1, "reply-3"), token("is.", 2, "reply-3")], [], None),
            ([said(message(**SECOND))], ["It is."], None),
        ],
    ),
    "a user's message that is cancelled with its run was not withdrawn": (
        new_chat,
        [
            (
                [BUSY, said(message("Hel")), said(user("cancelled")), said(message("Hel", "cancelled"))],
                ["Hel", "Hel"],
                None,
            ),
            ([chats(over("canceled"))], ["Hel", "Hel"], End.FINISHED),
        ],
    ),
    "the message of another user is ignored": (
        queued,
        [([said(user("cancelled", id="user-9")), said(user("ready", id="user-9"))], [], None)],
    ),
    "a running turn is resumed with what it has said so far": (
        lambda: attached(working(), user(order=1, id="user-1"), old_reply(), user(), message("Hel")),
        [
            ([], ["Hel"], None),
            (
                [BUSY, said(message("Hello")), said(message("Hello", "ready")), DONE],
                ["Hel", "Hello", "Hello"],
                End.FINISHED,
            ),
        ],
    ),
    "a turn that is resumed between deltas shows them after the next whole message": (
        lambda: attached(working(), user(), message("Hel")),
        [
            ([token("lo, ", 7)], ["Hel"], None),
            ([said(message("Hello, ")), token("world", 8)], ["Hel", "Hello, ", "Hello, world"], None),
        ],
    ),
    "a turn that is over is resumed with its final message": (
        lambda: attached(over(), user(), message("Hello", "ready")),
        [([], ["Hello"], End.FINISHED)],
    ),
    "queued and withdrawn messages do not begin the turn that runs": (
        lambda: attached(
            working(),
            user("cancelled", id="user-8", order=8),
            user("queued", id="user-9", order=9),
            user(),
            message("Hel"),
        ),
        [
            ([], ["Hel"], None),
            ([said(message("Hello", "ready")), runs(run("completed"))], ["Hel", "Hello"], End.FINISHED),
        ],
    ),
    "a chat without a user's message has replies all the same": (
        lambda: attached(working(), message("Welcome")),
        [([], ["Welcome"], None)],
    ),
}


@pytest.mark.parametrize(("start", "stages"), SCENARIOS.values(), ids=SCENARIOS.keys())
def test_a_turn_from_its_events(start: Callable[[], Caller], stages: list[Stage]) -> None:
    """After each stage the texts of all snapshots and the end are these; the turn ends with the last text."""
    caller = start()
    for events, texts, end in stages:
        caller.take(*events)
        assert caller.texts == texts
        assert (caller.turn.outcome and caller.turn.outcome.end) is end
        if end is not None:
            assert (caller.final.text, caller.final.done) == (texts[-1], True)
            assert caller.outcome.detail == ("overloaded" if end is End.FAILED else "")


# -- snapshots of a turn


def test_a_turn_is_its_snapshots_and_then_its_final_message() -> None:
    """The plain case: whole messages, then the end of the run."""
    caller = new_chat()
    caller.take(BUSY, said(message()), said(message("Hel")), said(message("Hello")), said(message("Hello", "ready")))
    assert caller.turn.outcome is None, "the message is final, the run has not said that it is over"
    caller.take(DONE)
    assert caller.texts == ["Hel", "Hello", "Hello"]
    assert (the_end(caller), caller.final.text, caller.final.done) == (End.FINISHED, "Hello", True)
    assert caller.turn.chat_id == CHAT
    assert caller.turn.last_delivered == caller.final
    assert caller.turn.progress == 3


def test_the_end_may_come_before_the_final_message() -> None:
    """Then the message is read."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hello")), DONE)
    assert caller.turn.outcome is None
    assert caller.turn.wants_reread
    caller.reads(over(), user(), message("Hello", "ready"))
    assert (the_end(caller), caller.final.status) == (End.FINISHED, "ready")


@pytest.mark.parametrize("end", [chats(over()), runs(run("completed")), chats(chat("idle")), chats(chat("completed"))])
def test_chats_and_agent_runs_both_say_that_it_is_over(end: Event) -> None:
    """Either is enough, and so is a chat without a run."""
    for caller in (new_chat(), follow_up()):
        caller.take(BUSY, said(message("Hello", "ready")), end)
        assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


@pytest.mark.parametrize("chat_id", [CHAT, CHAT[:8], "", None])
def test_the_chats_id_may_be_short_or_left_out(chat_id: str | None) -> None:
    """The official JavaScript SDK accepts the short form as well."""
    caller = follow_up()
    caller.take(said(message("Hello", "ready", chat_id=chat_id)), runs(run("completed", chat_id=chat_id)))
    assert caller.texts == ["Hello"]
    assert the_end(caller) is End.FINISHED


def test_a_chat_that_is_known_by_its_short_id() -> None:
    """As where a user has copied that."""
    turn = Turn(CHAT[:8])
    turn.begin(structure(user(), Message), structure(message(), Message), 0.0)
    caller = Caller(turn, now=0.0)
    caller.take(BUSY, said(message("Hello", "ready")), DONE)
    assert the_end(caller) is End.FINISHED


def test_a_turn_of_several_messages_ends_with_the_last_of_them() -> None:
    """An agent may say something before and after a tool; each message has its own snapshots."""
    caller = new_chat()
    second: Wire = {"id": "reply-3", "order": 6}
    caller.take(BUSY, said(message("Let me see.", "ready")), said(message("It", **second)))
    caller.take(said(message("It is 714.", "ready", **second)), DONE)
    assert [(snapshot.id, snapshot.text, snapshot.delta) for snapshot in caller.snapshots] == [
        (REPLY, "Let me see.", "Let me see."),
        ("reply-3", "It", "It"),
        ("reply-3", "It is 714.", " is 714."),
    ]
    assert caller.final.id == "reply-3"


def test_a_turn_goes_on_while_its_last_message_is_not_final() -> None:
    """Though the one before is, and the run has ended."""
    caller = new_chat()
    caller.take(BUSY, said(message("Let me see.", "ready")), said(message("It", id="reply-3", order=6)), DONE)
    assert caller.turn.outcome is None
    caller.reads(over(), message("Let me see.", "ready"), message("It is.", "ready", id="reply-3", order=6))
    assert (caller.final.id, caller.final.text) == ("reply-3", "It is.")


def test_what_the_answer_to_the_post_holds_already_is_delivered() -> None:
    """A quick server may have text in it, or all of it."""
    turn = Turn(None)
    first = turn.begin(structure(user(), Message), structure(message("Hello"), Message), 0.0)
    assert first is not None
    assert (first.text, first.delta) == ("Hello", "Hello")
    caller = Caller(turn, now=0.0)
    caller.take(BUSY, said(message("Hello")), said(message("Hello!", "ready")), DONE)
    assert caller.texts == ["Hello!"]


@pytest.mark.parametrize("who", ["user", "assistant", "both"])
def test_either_message_of_the_answer_names_the_chat(who: str) -> None:
    """The placeholder may be missing, and so may the user's message."""
    turn = Turn(None)
    asked = structure(user(), Message) if who != "assistant" else None
    placeholder = structure(message(), Message) if who != "user" else None
    turn.begin(asked, placeholder, 0.0)
    assert turn.chat_id == CHAT


def test_an_answer_without_any_message_names_no_chat() -> None:
    """The caller finds that out."""
    turn = Turn(None)
    assert turn.begin(None, None, 0.0) is None
    assert turn.chat_id is None


def test_a_message_that_cannot_be_read_is_told_and_can_be_read_another_way() -> None:
    """The turn goes on."""
    caller = new_chat()
    unreadable: list[Wire] = [{"role": "assistant"}, {"id": []}, {"id": {}}, {"id": 5, "chat_id": CHAT}, {}]
    for bad in unreadable:
        with pytest.raises(UnreadableError):
            caller.take(said(bad))
    with pytest.raises(StreamError):
        caller.take(chats({"id": CHAT, "active_run": "text"}))
    caller.turn.unreadable()
    assert caller.turn.wants_reread
    caller.reads(over(), message("Hello", "ready"))
    assert the_end(caller) is End.FINISHED


# -- which messages are this turn's


def test_a_replay_of_earlier_turns_brings_no_snapshots() -> None:
    """Told by their place in the chat."""
    caller = follow_up()
    caller.take(said(old_reply()), said(message("Older", "ready", id="reply-0", order=1, agent_run_id=None)))
    assert caller.snapshots == []
    assert not caller.turn.replied


def test_without_a_place_the_time_tells_old_messages_apart() -> None:
    """What was created before the user's message is of an earlier turn."""
    turn = Turn(CHAT)
    asked = user(order=0, created_at="2026-11-22T10:00:00.500000Z")
    turn.begin(structure(asked, Message), None, 0.0)
    caller = Caller(turn, now=0.0)
    bare: Wire = {"order": 0, "agent_run_id": ""}
    caller.take(said(message("Old", "ready", id="m1", created_at="2026-11-22T09:59:59.000000Z", **bare)))
    caller.take(said(message("New", "ready", id="m2", created_at="2026-11-22T10:00:01.000000Z", **bare)))
    caller.take(said(message("Newer", "ready", id="m3", created_at=None, **bare)))
    assert caller.texts == ["New", "Newer"]


def test_without_a_place_and_a_time_what_came_in_earlier_turns_is_known_by_its_id() -> None:
    """A turn hands on what it has seen."""
    first = new_chat()
    bare: Wire = {"order": 0, "agent_run_id": ""}
    first.take(BUSY, said(message("One", "ready", **bare)), DONE)
    turn = first.turn.next()
    turn.begin(structure(user(order=0), Message), None, 0.0)
    second = Caller(turn, now=0.0)
    second.take(said(message("One", "ready", **bare)), token("more", 1), said(message("Two", id="m2", **bare)))
    assert second.texts == ["Two"]
    assert turn.replies.begins_after({"id": REPLY})
    assert not turn.replies.begins_after({"id": "m2"})


def test_a_turn_knows_where_it_begins_before_its_message_is_posted() -> None:
    """Behind the turn before."""
    first = new_chat()
    first.take(BUSY, said(message("One", "ready")), DONE)
    turn = first.turn.next()
    assert turn.chat_id == CHAT
    assert turn.replies.begins_after({"id": "x", "order": 4})
    assert not turn.replies.begins_after({"id": "x", "order": 5})
    assert not turn.replies.begins_after({"id": "x", "order": 0})
    assert not turn.replies.begins_after({"id": "x", "order": None})


def test_the_place_of_the_reply_tells_where_a_turn_begins_when_that_of_the_message_does_not() -> None:
    """It stands right behind."""
    for asked in (None, structure(user(order=0), Message)):
        turn = Turn(CHAT)
        turn.begin(asked, structure(message(order=4), Message), 0.0)
        assert turn.replies.begins_after({"order": 3})
        assert not turn.replies.begins_after({"order": 4})


# -- when it is over


@pytest.mark.parametrize("stale", [chat("idle"), chat("idle", old_run()), chat("completed", old_run("failed"))])
def test_a_stale_idle_state_before_a_final_message_is_looked_into(stale: Wire) -> None:
    """The idle state came before the message: whether it holds is read."""
    caller = follow_up()
    caller.take(chats(stale), said(message("Hello", "ready")))
    assert caller.turn.outcome is None
    caller.passes(5)
    assert caller.turn.wants_reread
    caller.reads(chat("idle"), user(), message("Hello", "ready"))
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


def test_a_final_message_without_a_word_about_the_run_is_looked_into() -> None:
    """Some servers say nothing; then the chat is read a moment later."""
    caller = new_chat()
    caller.take(said(message("Hello", "ready")))
    before = caller.now
    caller.passes(30)
    assert caller.turn.wants_reread
    assert 0.5 <= caller.now - before <= 2
    caller.reads(over(), message("Hello", "ready"))
    assert the_end(caller) is End.FINISHED


def test_a_final_message_of_a_run_that_goes_on_is_not_the_end() -> None:
    """Another message follows."""
    caller = new_chat()
    caller.take(said(message("Let me see.", "ready")))
    caller.passes(30)
    caller.reads(working(), message("Let me see.", "ready"))
    assert caller.turn.outcome is None
    caller.take(said(message("It is.", "ready", id="reply-3", order=6)), DONE)
    assert caller.final.text == "It is."


def test_a_run_that_has_ended_is_waited_for_a_few_seconds_until_its_message_is_final() -> None:
    """It is read again at intervals; then the turn is lost, with what was received."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")), DONE)
    begun = caller.now
    reads = 0
    while caller.turn.outcome is None:
        assert caller.turn.wants_reread
        caller.reads(over(), message("Hel"))
        reads += 1
        caller.passes(10)
    assert (the_end(caller), caller.final.text) == (End.LOST, "Hel")
    assert 3 <= caller.now - begun <= 8
    assert 3 <= reads <= 10, "politely"


def test_a_run_that_has_ended_without_a_word_is_lost() -> None:
    """It says so; there is nothing but the placeholder."""
    caller = new_chat()
    caller.take(BUSY, DONE)
    while caller.turn.outcome is None:
        caller.reads(over())
        caller.passes(10)
    assert (the_end(caller), caller.final.text, caller.turn.last_delivered) == (End.LOST, "", None)
    assert "never became final" in caller.outcome.detail


def test_a_run_that_has_ended_without_any_message_is_lost() -> None:
    """The answer to the post may have had no placeholder either."""
    turn = Turn(None)
    turn.begin(structure(user(), Message), None, 0.0)
    caller = Caller(turn, now=0.0)
    caller.take(BUSY, DONE)
    while turn.outcome is None:
        caller.reads(over())
        caller.passes(10)
    assert (the_end(caller), caller.outcome.message) == (End.LOST, None)


def test_a_late_final_message_is_not_lost() -> None:
    """The server was slower to store it than to say that the run is over."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")), DONE)
    caller.reads(over(), message("Hel"))
    caller.passes(2)
    caller.take(said(message("Hello", "ready")))
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


def test_an_idle_chat_that_nothing_connects_with_the_turn_is_given_up_late() -> None:
    """Long after any server would have begun."""
    caller = follow_up()
    caller.take(chats(chat("idle")))
    begun = caller.now
    while caller.turn.outcome is None:
        caller.passes(100)
        if caller.turn.wants_reread:
            caller.reads(chat("idle"), user(), old_reply())
        assert caller.now - begun < 300
    assert the_end(caller) is End.LOST
    assert caller.now - begun >= 50


def test_a_silent_stream_is_looked_into_ever_more_rarely() -> None:
    """Nothing has come at all: first soon, then seldom, and never given up while the run goes on."""
    caller = new_chat()
    waits = []
    for _ in range(8):
        before = caller.now
        caller.passes(1000)
        assert caller.turn.wants_reread
        waits.append(caller.now - before)
        caller.reads(working(), message())
    assert waits == sorted(waits)
    assert waits[0] <= 3
    assert waits[-1] == pytest.approx(waits[-2])
    assert waits[-1] <= 61
    assert caller.turn.outcome is None


def test_the_states_of_a_chat_that_waits_by_itself_are_not_the_end() -> None:
    """``waiting`` is the agent's own pause."""
    caller = new_chat()
    caller.take(BUSY, said(message("Back in an hour.", "ready")), chats(chat("waiting")))
    assert caller.turn.outcome is None
    for _ in range(3):
        caller.passes(1000)
        caller.reads(chat("waiting", run("input_required")), message("Back in an hour.", "ready"))
        assert caller.turn.outcome is None


# -- failed, rejected, cancelled


@pytest.mark.parametrize("state", ["failed", "rejected"])
@pytest.mark.parametrize("way", ["chats", "agent_runs"])
def test_a_failed_run_says_why(state: str, way: str) -> None:
    """Its last snapshot was delivered before."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")), said(message("Hel", "failed")))
    assert caller.turn.outcome is None, "the message alone does not say why"
    caller.take(
        chats(over(state, error="out of tokens")) if way == "chats" else runs(run(state, error="out of tokens"))
    )
    assert (the_end(caller), caller.outcome.detail) == (End.FAILED, "out of tokens")
    assert (caller.final.text, caller.final.status) == ("Hel", "failed")
    assert caller.snapshots[-1].status == "failed"


@pytest.mark.parametrize("state", ["failed", "rejected"])
def test_a_run_that_failed_without_a_final_message_is_read_once_more(state: str) -> None:
    """And its failure raised at once, with what there is."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")), runs(run(state, error="out of tokens")))
    assert caller.turn.wants_reread
    caller.reads(over(state, error="out of tokens"), message("Hel"))
    assert (the_end(caller), caller.outcome.detail, caller.final.text) == (End.FAILED, "out of tokens", "Hel")


def test_a_run_that_failed_before_it_said_anything_has_no_message() -> None:
    """As one that was rejected."""
    caller = new_chat()
    caller.take(chats(over("rejected")))
    caller.reads(over("rejected"))
    assert (the_end(caller), caller.final.text, caller.turn.last_delivered) == (End.FAILED, "", None)
    assert caller.outcome.detail == "the server gave no reason"


def test_the_reason_of_a_failure_may_stand_in_the_chat() -> None:
    """Where the event had none, it is read."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel", "failed")), runs(run("failed")))
    assert caller.turn.outcome is None
    assert caller.turn.wants_reread
    caller.reads(over("failed", error="out of tokens"), message("Hel", "failed"))
    assert caller.outcome.detail == "out of tokens"


def test_a_failure_without_any_reason_says_that() -> None:
    """After it was looked for."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel", "failed")), runs(run("failed")))
    caller.reads(over("failed"), message("Hel", "failed"))
    assert caller.outcome.detail == "the server gave no reason"


def test_a_failed_message_alone_is_not_the_end_but_looked_into() -> None:
    """The run's state says whether the turn failed; it may also try again with another message."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel", "failed")))
    assert caller.turn.outcome is None
    caller.passes(30)
    caller.reads(working(), message("Hel", "failed"))
    assert caller.turn.outcome is None
    caller.take(said(message("Hello", "ready", id="reply-3", order=6)), DONE)
    assert the_end(caller) is End.FINISHED


@pytest.mark.parametrize("status", ["cancelled", "ready", "failed"])
def test_a_cancelled_run_ends_normally(status: str) -> None:
    """With whatever its message has come to."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel", status)), chats(over("canceled")))
    assert (the_end(caller), caller.final.status, caller.final.text) == (End.FINISHED, status, "Hel")


@pytest.mark.parametrize("text", ["Hel", None])
def test_a_cancelled_run_whose_message_never_became_final_ends_with_a_cancelled_one(text: str | None) -> None:
    """After one look at what the server has; whoever cancels before the first word gets an empty message."""
    caller = new_chat()
    caller.take(BUSY, *([said(message(text))] if text else []), runs(run("canceled")))
    assert caller.turn.wants_reread
    caller.reads(over("canceled"), *([message(text)] if text else []))
    assert (the_end(caller), caller.final.status, caller.final.text) == (End.FINISHED, "cancelled", text or "")
    assert caller.final.chat_id == CHAT


# -- deltas of unknown messages


def test_deltas_of_a_message_that_does_not_come_are_looked_into() -> None:
    """Soon, since text is held back."""
    caller = new_chat()
    caller.take(BUSY, token("It ", 1, "reply-3"))
    before = caller.now
    caller.passes(10)
    assert caller.turn.wants_reread
    assert caller.now - before < 1
    caller.reads(working(), message(), message(id="reply-3", order=6))
    assert caller.texts == ["It "]


def test_a_gap_in_the_deltas_is_looked_into() -> None:
    """What is missing can be read."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), token("world", 3))
    before = caller.now
    caller.passes(10)
    assert caller.turn.wants_reread
    assert caller.now - before < 3
    caller.reads(working(), message("Hello, world"))
    assert caller.texts == ["Hel", "Hello, world"]


@pytest.mark.parametrize(
    "delta",
    [
        token("lost", 1, None),
        token("lost", 1, ""),
        event("delta", {"delta": {"response": "lost"}, "seq": 1}),
        event("delta", {"delta": {"response": "lost"}, "seq": 1, "resource_id": 5}),
        piece(None, 1),
        piece("lost", 1),
        event("delta", {"resource_id": REPLY}),
        event("delta", {}),
    ],
)
def test_a_delta_without_a_message_or_without_a_delta_says_nothing(delta: Event) -> None:
    """It cannot be attributed."""
    caller = new_chat()
    caller.take(BUSY, said(message()))
    assert caller.take(delta) == []
    assert not caller.turn.wants_reread
    caller.take(token("Hello", 1))
    assert caller.texts == ["Hello"]


@pytest.mark.parametrize("seq", [None, True, "2", 2.5])
def test_a_number_that_is_none_is_no_number(seq: Any) -> None:
    """Such deltas are taken as they come."""
    caller = new_chat()
    caller.take(said(message()))
    for text in ("Hel", "lo"):
        caller.take(event("delta", {"delta": {"response": text}, "seq": seq, "resource_id": REPLY}))
    assert caller.texts == ["Hel", "Hello"]


def test_deltas_of_a_message_of_the_turn_before_say_nothing() -> None:
    """Where its id is known."""
    turn = Turn(CHAT, earlier=["reply-1"])
    turn.begin(structure(user(), Message), structure(message(), Message), 0.0)
    caller = Caller(turn, now=0.0)
    caller.take(BUSY, token("late", 9, "reply-1"))
    caller.passes(1.5)
    assert not turn.wants_reread


def test_deltas_of_other_messages_do_not_have_the_chat_read_again_and_again() -> None:
    """Once is enough to know that they are not this turn's: those of the run that a message waits behind, say."""
    caller = queued()
    caller.take(chats(chat("busy", old_run("working"))))
    reads = 0
    for seq in range(10, 200):
        caller.take(token("x", seq, "reply-1"))
        caller.passes(0.1)
        if caller.turn.wants_reread:
            reads += 1
            caller.reads(chat("busy", old_run("working")), user("queued"), old_reply(status="pending", order=2))
    assert caller.snapshots == []
    assert reads <= 3


def test_a_bounded_number_of_unknown_messages_is_kept() -> None:
    """Nobody can fill the memory with deltas of messages that never come; the newest are kept."""
    caller = new_chat()
    for number in range(1000):
        caller.take(token("x", 1, f"unknown-{number}"))
    caller.take(said(message(id="unknown-999", order=9)), said(message(id="unknown-0", order=8)))
    assert caller.texts == ["x"]


# -- updates of single fields of messages


def may_read(caller: Caller, text: str) -> None:
    """Let a turn look into an end that came without its text, if it wants to."""
    if caller.turn.outcome is None:
        caller.passes(1)
        caller.reads(over(), message(text, "ready"))


def test_a_partial_message_changes_only_the_fields_it_names() -> None:
    """It is merged into what is known."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    caller.take(said({"id": REPLY, "content": [{"type": "text", "text": "Hello"}], "status": "x"}, ["content"]))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    may_read(caller, "Hello")
    assert [(snapshot.text, snapshot.status) for snapshot in caller.snapshots] == [
        ("Hel", "pending"),
        ("Hello", "pending"),
        ("Hello", "ready"),
    ]
    assert the_end(caller) is End.FINISHED


def test_a_partial_message_keeps_what_deltas_have_brought() -> None:
    """A status is a status; the text stays."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), token("lo", 2))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    may_read(caller, "Hello")
    assert (caller.final.text, caller.final.status, caller.snapshots[-1].delta) == ("Hello", "ready", "")


def test_a_partial_message_that_brings_a_call_keeps_the_text_of_the_deltas() -> None:
    """And the call is handed out at once."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hello", 1))
    caller.take(said({"id": REPLY, "tool_invocations": [invocation()]}, ["tool_invocations"]))
    assert [call.id for call in caller.calls] == ["call-1"]
    assert (caller.snapshots[-1].text, caller.snapshots[-1].delta) == ("Hello", "")


def test_a_partial_message_that_ends_a_message_counts_as_it_is_where_the_chat_cannot_be_read() -> None:
    """With the text that is known: there is nothing better to be had."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hello", 1), said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    assert caller.turn.wants_reread
    (snapshot,) = caller.turn.reread_failed(caller.now)
    assert (snapshot.text, snapshot.status, snapshot.delta) == ("Hello", "ready", "")
    assert caller.turn.last_delivered == snapshot
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


def test_a_partial_message_keeps_what_was_read_meanwhile() -> None:
    """What was read is newer than what the stream had brought."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    caller.reads(working(), message("Hello"))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    may_read(caller, "Hello")
    assert (caller.final.text, caller.final.status) == ("Hello", "ready")


def test_a_partial_message_that_ends_a_message_of_which_something_was_missed_is_looked_into() -> None:
    """It does not bring the text, and what is known of that is not all."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), token("world", 3))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    caller.passes(1)
    assert caller.turn.wants_reread
    caller.reads(over(), message("Hello, world", "ready"))
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello, world")


def test_a_partial_message_that_ends_a_message_and_overtakes_its_last_delta() -> None:
    """Nothing tells that there is one under way, so such an end is looked into."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), token("lo", 2), DONE)
    may_read(caller, "Hello")
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


def test_a_partial_message_that_ends_a_message_is_held_against_what_the_server_has() -> None:
    """A text that deltas have spoilt, here one resumed too early, must not become final by it."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hello")), token("lo", 2))
    caller.take(said({"id": REPLY, "status": "ready"}, ["status"]), DONE)
    may_read(caller, "Hello")
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Hello")


def test_a_partial_message_of_which_nothing_is_known_is_looked_into() -> None:
    """It cannot be told what it belongs to."""
    caller = new_chat()
    caller.take(BUSY, said({"id": "reply-3", "status": "ready"}, ["status"]))
    assert caller.snapshots == []
    caller.passes(10)
    assert caller.turn.wants_reread
    caller.reads(over(), message("Hello", "ready", id="reply-3", order=6))
    assert caller.final.text == "Hello"


# -- reading again


def test_a_reading_brings_what_was_missed() -> None:
    """In the order of the messages, whatever order they were listed in."""
    caller = new_chat()
    caller.take(BUSY, said(message("Let")))
    got = caller.reads(
        over(),
        message("It is.", "ready", id="reply-3", order=6),
        message("Let me see.", "ready"),
        user(),
        old_reply(order=1, chat_id="another-chat"),
    )
    assert [snapshot.text for snapshot in got] == ["Let me see.", "It is."]
    assert caller.final.text == "It is."


def test_a_reading_that_is_behind_the_stream_takes_nothing_back() -> None:
    """It was answered before the newest deltas were sent."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), token("lo", 2))
    assert caller.reads(working(), message("Hel")) == []
    caller.take(token("!", 3))
    assert caller.texts == ["Hel", "Hello", "Hello!"]


def test_a_reading_that_is_behind_the_stream_does_not_have_an_ended_run_go_on() -> None:
    """The chat was read from somewhere that had not heard of the end yet."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel", "failed")), runs(run("failed")))
    caller.reads(working(), message("Hel", "failed"))
    assert (the_end(caller), caller.outcome.detail) == (End.FAILED, "the server gave no reason")


def test_a_reading_ends_every_wish_to_read() -> None:
    """However many there were."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("x", 5), said({"id": "reply-3"}, ["status"]))
    caller.turn.unreadable()
    caller.reads(working(), message("Hello"))
    assert not caller.turn.wants_reread
    caller.passes(5)
    assert not caller.turn.wants_reread


def test_a_reading_that_cannot_be_read_is_told() -> None:
    """The caller tries again."""
    caller = new_chat()
    with pytest.raises(UnreadableError):
        caller.reads(working(), {"role": "assistant"})


def reads_in_vain(caller: Caller) -> int:
    """Let time pass until the turn is over, with no reading ever answered; returns how many were wanted."""
    reads = 0
    while caller.turn.outcome is None:
        if caller.turn.wants_reread:
            reads += 1
            assert reads < 20, "it is wanted again at once, again and again"
            caller.turn.reread_failed(caller.now)
            caller.calls += caller.turn.calls.take()
        else:
            caller.passes(1)
    return reads


def test_where_the_chat_cannot_be_read_the_stream_alone_decides() -> None:
    """As where the key may stream but not read; the server is not flooded with attempts."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hello", "failed")), runs(run("failed")))
    reads_in_vain(caller)
    assert (the_end(caller), caller.outcome.detail) == (End.FAILED, "the server gave no reason")

    caller = new_chat()
    caller.take(BUSY, said(message("Hello")), DONE)
    reads_in_vain(caller)
    assert (the_end(caller), caller.final.text) == (End.LOST, "Hello")

    caller = new_chat()
    caller.take(BUSY, said(message("Please sign in.", "ready")), runs(run("auth_required")))
    reads_in_vain(caller)
    assert (the_end(caller), caller.final.text) == (End.PAUSED, "Please sign in.")


def test_a_new_connection_has_the_state_read_again() -> None:
    """What happened in between is not known otherwise."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), token("x", 1, "reply-3"))
    caller.turn.reconnected()
    assert caller.turn.wants_reread
    caller.reads(working(), message("Hello, "))
    caller.take(BUSY, said(message("Hello, ")), token("world", 7), token("!", 8))
    assert caller.texts == ["Hel", "Hello, ", "Hello, world", "Hello, world!"]


def test_a_run_that_ended_while_nobody_listened_is_noticed() -> None:
    """By the reading that follows the new connection."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    caller.turn.reconnected()
    caller.reads(over(), message("Hello", "ready"))
    assert (the_end(caller), caller.texts) == (End.FINISHED, ["Hel", "Hello"])


@pytest.mark.parametrize(
    ("status", "end"), [("ready", End.FINISHED), ("cancelled", End.FINISHED), ("failed", End.FAILED)]
)
def test_a_turn_is_over_when_the_chat_has_gone_on_without_it(status: str, end: End) -> None:
    """Another turn has begun while nobody listened; what the chat does now is not this turn's any more."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    caller.turn.reconnected()
    now = chat("busy", {"id": "run-3", "state": "working", "user_message_id": "user-3"})
    later = message("New", id="reply-3", order=6, agent_run_id="run-3")
    caller.reads(now, message("Hello", status), user(id="user-3", order=5), later)
    assert (the_end(caller), caller.final.text) == (end, "Hello")


def test_once_a_turn_is_over_nothing_ends_it_differently() -> None:
    """Whatever still arrives."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hello", "ready")), DONE)
    outcome = caller.outcome
    caller.take(runs(run("failed", error="late")), BUSY)
    caller.turn.tick(caller.now + 1000)
    assert caller.outcome is outcome


# -- tool calls


@pytest.mark.parametrize("status", ["awaiting_input", "in_progress"])
@pytest.mark.parametrize("arguments", [{"expression": "42 * 17"}, '{"expression": "42 * 17"}'])
def test_a_client_tools_call_is_handed_out_once_with_its_arguments_decoded(status: str, arguments: object) -> None:
    """In either status that means it, whatever is replayed and read."""
    caller = new_chat()
    waits = invocation(status, function={"name": "calculator", "arguments": arguments})
    form = message("Hm.", tool_invocations=[waits])
    caller.take(BUSY, said(asks("pending")))
    assert caller.calls == []
    caller.take(said(form), said(form))
    caller.turn.reconnected()
    caller.reads(working(), form)
    caller.take(said(form), said(message("Hm. ", tool_invocations=[waits])))
    (call,) = caller.calls
    assert (call.id, call.name, call.arguments) == ("call-1", "calculator", {"expression": "42 * 17"})


@pytest.mark.parametrize("kind", ["app", "internal", "mcp", "oracle"])
def test_calls_of_other_tools_are_none_of_ours(kind: str) -> None:
    """The server runs them."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hm.", tool_invocations=[invocation("in_progress", type=kind)])))
    assert caller.calls == []


def test_a_call_of_a_message_that_is_not_this_turns_is_not_handed_out() -> None:
    """A replay of the turn before must not run it again."""
    caller = follow_up()
    caller.take(said(old_reply(status="pending", tool_invocations=[invocation()])))
    assert caller.calls == []


def test_a_call_in_a_form_whose_text_is_behind_is_handed_out() -> None:
    """It must not wait for the text."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Let me see.\n", 1), said(asks("pending", text="Let me see.")))
    caller.take(said(asks("awaiting_input", text="Let me see.")))
    assert [call.id for call in caller.calls] == ["call-1"]


def test_a_turn_goes_on_with_the_results_of_its_calls() -> None:
    """The run waits meanwhile, and the turn with it."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.passes(100)
    assert caller.turn.outcome is None, "somebody is busy with it, however long that takes"
    caller.answers("call-1")
    caller.take(said(asks("completed", status="ready")), BUSY)
    caller.take(said(message("714.", "ready", id="reply-3", order=6)), DONE)
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "714.")
    assert caller.final.pending_tool_calls == ()


def test_several_calls_of_a_message_are_handed_out_as_they_come() -> None:
    """At once or one after the other."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input", "pending", "awaiting_input")))
    assert [call.id for call in caller.calls] == ["call-1", "call-3"]
    assert caller.turn.calls.take() == []
    caller.take(said(asks("awaiting_input", "awaiting_input", "awaiting_input")))
    assert [call.id for call in caller.calls] == ["call-1", "call-3", "call-2"]


def test_new_calls_are_wanted_to_be_taken() -> None:
    """Before more events are fed."""
    caller = new_chat()
    wanted = [caller.turn.wants_action]
    caller.turn.receive(said(asks("awaiting_input")), caller.now)
    wanted.append(caller.turn.wants_action)
    caller.turn.calls.take()
    wanted.append(caller.turn.wants_action)
    assert wanted == [False, True, False]


@pytest.mark.parametrize(
    "pause",
    [runs(run("input_required")), chats(chat("awaiting_input", run("input_required"))), chats(chat("awaiting_input"))],
)
@pytest.mark.parametrize("first", ["pause", "decline"])
def test_a_call_that_nobody_answers_pauses_the_turn_at_once_when_the_run_says_so(pause: Event, first: str) -> None:
    """Whichever comes first."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    if first == "pause":
        caller.take(pause)
        assert caller.turn.outcome is None
        caller.declines("call-1")
    else:
        caller.declines("call-1")
        assert caller.turn.outcome is None
        caller.take(pause)
    assert the_end(caller) is End.PAUSED
    assert [call.id for call in caller.final.pending_tool_calls] == ["call-1"]


def test_a_call_that_nobody_answers_pauses_the_turn_after_half_a_second_of_quiet() -> None:
    """Where the run does not say that it waits."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    caller.declines("call-1")
    caller.passes(0.49)
    assert caller.turn.outcome is None
    caller.take(said(asks("awaiting_input", text="Hm. So")))
    caller.passes(0.49)
    assert caller.turn.outcome is None, "it was not quiet"
    caller.passes(0.02)
    assert (the_end(caller), caller.final.text) == (End.PAUSED, "Hm. So")


@pytest.mark.parametrize(
    ("make", "state"),
    [
        pytest.param(new_chat, chats(chat("idle")), id="idle"),
        pytest.param(follow_up, chats(chat("idle")), id="maybe stale"),
        pytest.param(follow_up, chats(chat("idle", old_run())), id="stale"),
        pytest.param(follow_up, chats(chat("idle", {"state": "completed"})), id="maybe stale run"),
    ],
)
def test_an_idle_chat_does_not_hide_that_a_call_waits(state: Event, make: Callable[[], Caller]) -> None:
    """A stale state of the turn before, or a server that calls a chat idle which waits for its client."""
    caller = make()
    caller.take(state, said(asks("awaiting_input")))
    caller.declines("call-1")
    begun = caller.now
    while caller.turn.outcome is None and caller.now - begun < 3:
        caller.passes(0.5)
        if caller.turn.wants_reread:
            caller.reads(chat("idle"), user(), asks("awaiting_input"))
    assert the_end(caller) is End.PAUSED
    assert [call.id for call in caller.final.pending_tool_calls] == ["call-1"]


def test_a_run_that_ends_with_a_call_still_waiting_ends_the_turn_in_a_few_seconds() -> None:
    """It cannot be answered any more."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    caller.declines("call-1")
    caller.take(DONE)
    begun = caller.now
    while caller.turn.outcome is None:
        caller.passes(0.5)
        if caller.turn.wants_reread:
            caller.reads(over(), asks("awaiting_input"))
        assert caller.now - begun < 10
    assert the_end(caller) in {End.LOST, End.PAUSED}


def test_an_idle_chat_that_waits_for_the_result_of_a_call_is_not_over() -> None:
    """While somebody is busy with it."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), chats(chat("idle")))
    caller.passes(100)
    assert caller.turn.outcome is None
    caller.answers("call-1")
    caller.take(BUSY, said(message("714.", "ready", id="reply-3", order=6)), DONE)
    assert the_end(caller) is End.FINISHED


@pytest.mark.parametrize("state", ["completed", "failed", "canceled"])
def test_a_run_that_ends_does_not_wait_for_calls_under_way(state: str) -> None:
    """Nobody wants their results any more."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    caller.take(said(asks("cancelled", status="ready")), chats(over(state, error="because")))
    assert the_end(caller) is (End.FAILED if state == "failed" else End.FINISHED)


def test_a_pause_carries_only_the_calls_that_still_wait() -> None:
    """One of two was answered, and the server has not said so yet."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input", "awaiting_input")), runs(run("input_required")))
    caller.declines("call-2")
    caller.answers("call-1")
    assert the_end(caller) is End.PAUSED
    assert [call.id for call in caller.final.pending_tool_calls] == ["call-2"]


def test_an_answered_call_does_not_wait_again_whatever_is_replayed() -> None:
    """Nor is it pending in any later snapshot."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    caller.answers("call-1")
    caller.take(said(asks("awaiting_input", text="Hm. ")), said(asks("in_progress", text="Hm. So")))
    assert all(not snapshot.pending_tool_calls for snapshot in caller.snapshots[1:])
    caller.take(said(message("Hm. So.", "ready")), DONE)
    assert caller.final.pending_tool_calls == ()
    assert len(caller.calls) == 1


def test_input_required_about_calls_that_were_answered_is_stale() -> None:
    """It was sent before the server took the result."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.answers("call-1")
    caller.take(runs(run("input_required")), chats(chat("awaiting_input", run("input_required"))))
    assert caller.turn.outcome is None
    caller.passes(10)
    assert caller.turn.wants_reread
    caller.reads(working(), asks("completed"))
    caller.take(said(message("714.", "ready", id="reply-3", order=6)), DONE)
    assert the_end(caller) is End.FINISHED


def test_input_required_that_stays_after_all_calls_were_answered_is_a_pause() -> None:
    """It waits for something else; a few seconds tell."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.answers("call-1")
    caller.take(runs(run("input_required")))
    begun = caller.now
    while caller.turn.outcome is None:
        caller.passes(20)
        caller.reads(chat("awaiting_input", run("input_required")), asks("completed"))
    assert the_end(caller) is End.PAUSED
    assert 2 <= caller.now - begun <= 10


def test_input_required_before_the_call_that_it_is_about() -> None:
    """The message comes a moment later, or is read."""
    for way in ("stream", "reading"):
        caller = new_chat()
        caller.take(BUSY, runs(run("input_required")))
        assert caller.turn.outcome is None
        if way == "stream":
            caller.take(said(asks("awaiting_input")))
        else:
            caller.passes(1)
            assert caller.turn.wants_reread
            caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_input"))
        assert [call.id for call in caller.calls] == ["call-1"]
        assert caller.turn.outcome is None
        caller.declines("call-1")
        assert the_end(caller) is End.PAUSED


@pytest.mark.parametrize("state", ["input_required", "auth_required"])
def test_a_run_that_waits_for_a_person_pauses_the_turn(state: str) -> None:
    """There is no call that could be answered; the chat was read to be sure."""
    caller = new_chat()
    caller.take(BUSY, said(message("Please sign in.", "ready")), runs(run(state)))
    caller.passes(1)
    assert caller.turn.wants_reread
    caller.reads(chat("awaiting_input", run(state)), message("Please sign in.", "ready"))
    assert (the_end(caller), caller.final.text, caller.final.pending_tool_calls) == (End.PAUSED, "Please sign in.", ())


STALE_PAUSES = [chat("awaiting_input", old_run("input_required")), chat("awaiting_input")]


def wait_behind(caller: Caller, pause: Wire, seconds: float) -> None:
    """Let time pass while the chat goes on to show a pause of the turn before."""
    begun = caller.now
    while caller.turn.outcome is None and caller.now - begun < seconds:
        caller.passes(0.5)
        if caller.turn.wants_reread:
            caller.reads(pause, user(), message())


@pytest.mark.parametrize("pause", STALE_PAUSES, ids=["its run", "no run"])
def test_a_pause_of_the_turn_before_that_lasts_holds_this_one_up(pause: Wire) -> None:
    """Although the message was not said to be queued: nothing will come of it before the input is given."""
    caller = follow_up()
    caller.take(chats(pause))
    wait_behind(caller, pause, 20)
    assert the_end(caller) is End.HELD_UP


@pytest.mark.parametrize("pause", STALE_PAUSES, ids=["its run", "no run"])
def test_a_stale_pause_of_the_turn_before_does_not_pause_this_one(pause: Wire) -> None:
    """Its run is another."""
    caller = follow_up()
    caller.take(chats(pause))
    wait_behind(caller, pause, 4)
    assert caller.turn.outcome is None
    caller.take(BUSY, said(message("Hello", "ready")), DONE)
    assert the_end(caller) is End.FINISHED


@pytest.mark.parametrize(
    "call",
    [
        invocation("awaiting_approval"),
        invocation("awaiting_approval", type="app"),
        invocation("awaiting_input", type="mcp"),
    ],
)
def test_a_call_that_waits_for_approval_or_a_form_pauses_the_turn(call: Wire) -> None:
    """It is not ours to run; what a person is asked is read from the chat, unless it was said."""
    caller = new_chat()
    reply = message("Hm.", tool_invocations=[call])
    caller.take(BUSY, said(reply), runs(run("input_required")))
    assert caller.calls == []
    if caller.wants():
        caller.reads(chat("awaiting_input", active_run=run("input_required")), reply)
    assert the_end(caller) is End.PAUSED


def test_an_approved_client_call_is_handed_out_then() -> None:
    """First a person, then the handler."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_approval")), runs(run("input_required")))
    assert the_end(caller) is End.PAUSED
    caller.turn.resume(caller.now)
    caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_input"))
    assert [call.id for call in caller.calls] == ["call-1"]
    assert caller.turn.outcome is None


def approvals(asks: bool = True) -> Caller:
    """A turn that has just begun, and that somebody can be asked in."""
    caller = new_chat()
    caller.turn.calls.asks = asks
    return caller


@pytest.mark.parametrize("kind", ["client", "app", "http", "oracle"])
def test_a_call_of_any_tool_is_handed_out_for_its_approval(kind: str) -> None:
    """Once, and the turn does not pause while somebody is asked."""
    caller = approvals()
    form = message("Hm.", tool_invocations=[invocation("awaiting_approval", type=kind)])
    caller.take(BUSY, said(form), runs(run("input_required")), said(form))
    caller.turn.reconnected()
    caller.reads(chat("awaiting_input", run("input_required")), form)
    caller.passes(100)
    assert [(call.id, call.status) for call in caller.calls] == [("call-1", "awaiting_approval")]
    assert caller.turn.outcome is None
    caller.turn.call_declined("call-1", caller.now, Step.APPROVAL)
    assert (the_end(caller), len(caller.final.pending_approvals)) == (End.PAUSED, 1)


@pytest.mark.parametrize("approved", [True, False, None])
def test_what_was_decided_does_not_wait_again_whatever_is_replayed(approved: bool | None) -> None:
    """Neither in later snapshots, nor for a pause; the server's next word about the call counts."""
    caller = approvals()
    caller.take(BUSY, said(asks("awaiting_approval")), runs(run("input_required")))
    caller.turn.call_decided("call-1", caller.now, approved=approved)
    caller.take(said(asks("awaiting_approval", text="Hm. So")), runs(run("input_required")))
    caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_approval"))
    assert caller.turn.outcome is None
    last = caller.snapshots[-1].tool_calls[0]
    assert (last.status, last.requires_approval) == ("cancelled" if approved is False else "pending", False)
    caller.take(BUSY, said(asks("cancelled" if approved is False else "completed", text="Hm. So on", status="ready")))
    caller.take(DONE)
    assert (the_end(caller), len(caller.calls)) == (End.FINISHED, 1)


@pytest.mark.parametrize("approved", [True, None])
def test_an_approved_client_call_is_handed_out_a_second_time_to_be_run(approved: bool | None) -> None:
    """Each of the two steps once."""
    caller = approvals()
    caller.take(BUSY, said(asks("awaiting_approval")))
    caller.turn.call_decided("call-1", caller.now, approved=approved)
    caller.take(said(asks("awaiting_approval")), said(asks("awaiting_input")), said(asks("awaiting_approval")))
    caller.take(said(asks("awaiting_input")))
    assert [call.status for call in caller.calls] == ["awaiting_approval", "awaiting_input"]
    assert caller.turn.replies.current[0].pending_tool_calls


def test_somebody_elses_decision_is_not_undone_by_a_replay() -> None:
    """A call that was seen past its approval is not shown as waiting for it again."""
    caller = approvals(asks=False)
    caller.take(BUSY, said(asks("awaiting_input")), said(asks("awaiting_approval")))
    assert [call.status for call in caller.snapshots[-1].tool_calls] == ["awaiting_input"]


def test_nobody_is_asked_where_there_is_nobody() -> None:
    """Until the turn is taken up by somebody who can be; who was asked is not asked again."""
    caller = approvals(asks=False)
    caller.take(BUSY, said(asks("awaiting_approval")), runs(run("input_required")))
    assert (the_end(caller), caller.calls) == (End.PAUSED, [])
    for count in (1, 1):
        caller.turn.calls.asks = True
        caller.turn.resume(caller.now)
        caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_approval"))
        assert len(caller.calls) == count
        caller.turn.calls.asked.add("call-1")
        caller.turn.calls.abandon()


def test_a_turn_that_is_left_before_somebody_was_asked_asks_later() -> None:
    """A question that was never put does not count."""
    caller = approvals()
    caller.take(BUSY, said(asks("awaiting_approval")))
    caller.turn.calls.abandon()
    caller.turn.resume(caller.now)
    caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_approval"))
    assert [call.id for call in caller.calls] == ["call-1", "call-1"]


def test_a_paused_turn_goes_on_after_its_call_was_answered() -> None:
    """What was said of the pause counts no longer; the state is read."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.declines("call-1")
    caller.answers("call-1")
    caller.turn.resume(caller.now)
    assert caller.turn.outcome is None
    assert caller.turn.wants_reread
    caller.reads(working(), asks("completed"))
    assert caller.turn.outcome is None
    caller.take(said(message("714.", "ready", id="reply-3", order=6)), DONE)
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "714.")


def test_a_turn_that_is_resumed_before_its_call_was_answered_pauses_again() -> None:
    """And the call is not handed out a second time."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.declines("call-1")
    caller.turn.resume(caller.now)
    caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_input"))
    assert the_end(caller) is End.PAUSED
    assert len(caller.calls) == 1


def test_a_call_that_somebody_else_answers_ends_the_pause() -> None:
    """Another client, or a person."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")))
    caller.declines("call-1")
    caller.take(said(asks("completed")), BUSY)
    caller.passes(5)
    assert caller.turn.outcome is None


def test_a_caller_that_leaves_leaves_its_calls_to_whoever_comes() -> None:
    """They are not run again, but shown as pending."""
    caller = new_chat()
    caller.turn.receive(said(asks("awaiting_input", "awaiting_input")), caller.now)
    first, _second = caller.turn.calls.take()
    caller.turn.calls.answer(first.id)
    caller.turn.calls.abandon()
    caller.turn.resume(caller.now)
    caller.reads(chat("awaiting_input", run("input_required")), asks("awaiting_input", "awaiting_input"))
    assert caller.calls == []
    assert the_end(caller) is End.PAUSED
    assert [call.id for call in caller.final.pending_tool_calls] == ["call-2"]


def test_a_caller_that_leaves_before_it_has_taken_its_calls_leaves_them_too() -> None:
    """They are not handed out to the next one."""
    caller = new_chat()
    caller.turn.receive(said(asks("awaiting_input")), caller.now)
    caller.turn.calls.abandon()
    assert caller.turn.calls.take() == []
    assert not caller.turn.calls.has_new


def test_a_call_that_was_answered_stays_so_when_its_handler_declines_late() -> None:
    """Its callback has submitted the result by itself."""
    caller = new_chat()
    caller.take(BUSY, said(asks("awaiting_input")), runs(run("input_required")))
    caller.answers("call-1")
    caller.declines("call-1")
    assert caller.turn.outcome is None
    assert "call-1" in caller.turn.calls.answered


# -- queued messages


def test_a_queued_message_waits_for_its_turn() -> None:
    """What the turn before still says and does is not this turn's."""
    caller = queued()
    caller.take(chats(chat("busy", old_run("working"))))
    caller.take(said(old_reply("Old", status="pending", order=2)), said(old_reply("Old news", order=2)))
    caller.take(runs(old_run()), chats(chat("idle", old_run())))
    caller.passes(20)
    assert caller.snapshots == []
    assert caller.turn.outcome is None
    caller.reads(chat("busy", run("working")), user(), old_reply(), message("Hel"))
    caller.take(said(message("Hello", "ready")), DONE)
    assert (the_end(caller), caller.texts) == (End.FINISHED, ["Hel", "Hello"])


@pytest.mark.parametrize("named", ["user-1", None])
def test_later_messages_of_the_run_that_a_message_waits_behind_are_not_its_own(named: str | None) -> None:
    """They stand behind the queued message in the chat."""
    caller = queued()
    before = old_run("working", user_message_id=named)
    caller.take(chats(chat("busy", before)))
    caller.take(said(message("More old news", "ready", id="reply-1b", order=5, agent_run_id="run-1")))
    assert caller.snapshots == []
    caller.take(runs({**before, "state": "completed"}), runs(run("working")), said(user()))
    caller.take(said(message("Hello", "ready", order=6)), DONE)
    assert (the_end(caller), caller.texts) == (End.FINISHED, ["Hello"])


@pytest.mark.parametrize("way", ["chats", "agent_runs"])
def test_a_queued_message_whose_turn_comes_without_a_word_about_its_run(way: str) -> None:
    """Its status changes, and the reply is known by its place; runs that name no messages are no obstacle."""

    def state(of: Wire) -> Event:
        unnamed = {**of, "user_message_id": None}
        return runs(unnamed) if way == "agent_runs" else chats(chat("busy", unnamed))

    caller = queued()
    caller.take(state(old_run("working")), state(old_run("completed")), state(run("working")))
    caller.take(said(user()), said(message("Hello", order=6)))
    caller.take(said(message("Hello!", "ready", order=6)), state(run("completed")))
    assert (the_end(caller), caller.texts) == (End.FINISHED, ["Hello", "Hello!"])


@pytest.mark.parametrize("status", ["cancelled", "failed"])
@pytest.mark.parametrize("way", ["stream", "reading"])
def test_a_queued_message_that_is_withdrawn_ends_its_turn(status: str, way: str) -> None:
    """There will be no reply."""
    caller = queued()
    caller.take(chats(chat("busy", old_run("working"))))
    if way == "stream":
        caller.take(said(user(status)))
    else:
        caller.reads(chat("busy", old_run("working")), user(status))
    assert (the_end(caller), caller.outcome.message) == (End.LOST, None)
    assert "withdrawn" in caller.outcome.detail


def between(**more: Any) -> Wire:
    """The reply to a message that was queued before this one."""
    return message("For another", "ready", **{"id": "reply-b", "agent_run_id": "run-b", "order": 5, **more})


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "in its place"])
def test_a_message_that_waits_behind_two_turns_gets_its_own_reply(moved: bool) -> None:
    """Where servers put it behind those turns when its own comes, and where they leave it."""
    caller = queued()
    other = user(id="user-b", order=4 if moved else 2)
    caller.take(chats(chat("busy", old_run("working"))), said({**other, "status": "queued", "order": 2}))
    caller.take(runs(old_run()), said(other), runs(run("working", id="run-b", user_message_id="user-b")))
    caller.take(said(between()), runs(run("completed", id="run-b", user_message_id="user-b")))
    assert caller.snapshots == []
    caller.take(said(user(order=6 if moved else 3)), runs(run("working")), said(message("Mine", order=7)))
    caller.take(said(message("Mine.", "ready", order=7)), DONE)
    assert (the_end(caller), caller.texts) == (End.FINISHED, ["Mine", "Mine."])


@pytest.mark.parametrize("ended", [True, False], ids=["over", "under way"])
def test_a_message_that_waits_reads_the_replies_of_other_turns_as_such(ended: bool) -> None:
    """Even if nothing was heard of their runs before, because the connection was lost."""
    caller = queued()
    caller.reads(chat("busy", run("working", id="run-b", user_message_id="user-b")), user("queued"), between())
    caller.take(said(between(content=[{"type": "text", "text": "For another one"}])))
    assert (caller.snapshots, caller.turn.outcome) == ([], None)
    turns = [between(), user(id="user-b", order=4)]
    if ended:
        caller.reads(over(), message("Mine.", "ready", order=7), user(order=6), *turns)
    else:
        caller.reads(working(), message("Mi", order=7), user(order=6), *turns)
        caller.take(said(message("Mine.", "ready", order=7)), DONE)
    assert (the_end(caller), caller.final.text) == (End.FINISHED, "Mine.")
    assert {snapshot.id for snapshot in caller.snapshots} == {REPLY}


def test_a_reply_that_comes_without_a_word_about_the_turn_is_looked_into() -> None:
    """It may be that of the queued message, whose turn has come unnoticed."""
    caller = queued()
    caller.take(said(message("Hello", order=6)))
    assert caller.snapshots == []
    caller.passes(1)
    assert caller.turn.wants_reread
    caller.reads(working(), user(), message("Hello", order=6))
    assert caller.texts == ["Hello"]


def test_a_queued_message_that_vanishes_was_withdrawn() -> None:
    """There are servers that delete it."""
    caller = queued()
    caller.reads(chat("busy", old_run("working")), user("queued"))
    assert caller.turn.outcome is None
    caller.reads(chat("busy", old_run("working")), old_reply())
    assert the_end(caller) is End.LOST
    assert "withdrawn" in caller.outcome.detail


@pytest.mark.parametrize(("listed", "patience"), [(False, 10), (True, 90)], ids=["never seen", "still queued"])
def test_a_queued_message_is_not_waited_for_where_nothing_runs(listed: bool, patience: float) -> None:
    """A chat that stays idle does not come to it any more; one that was never seen there is given up sooner."""
    caller = queued()
    own = [user("queued")] if listed else []
    begun = caller.now
    while caller.turn.outcome is None:
        caller.passes(20)
        caller.reads(chat("idle", old_run()), old_reply(), *own)
        assert caller.now - begun < patience
    assert (the_end(caller), caller.outcome.message) == (End.LOST, None)
    assert "its turn never came" in caller.outcome.detail


def test_an_idle_moment_between_two_turns_does_not_lose_a_queued_message() -> None:
    """The server is about to begin with it."""
    caller = queued()
    caller.reads(chat("idle", old_run()), user("queued"), old_reply())
    caller.passes(3)
    caller.reads(chat("busy", old_run("working", id="run-b", user_message_id="user-b")), user("queued"), old_reply())
    caller.passes(100)
    assert caller.turn.outcome is None
    caller.take(runs(run("working")), said(user()), said(message("Hello", "ready", order=6)), DONE)
    assert the_end(caller) is End.FINISHED


# -- taking up a turn that somebody else has begun


def test_a_paused_turn_is_taken_up_with_its_calls() -> None:
    """They are handed out: this process may have the handlers."""
    caller = attached(chat("awaiting_input", run("input_required")), user(), asks("awaiting_input"))
    assert [call.id for call in caller.calls] == ["call-1"]
    assert caller.turn.outcome is None
    caller.declines("call-1")
    assert the_end(caller) is End.PAUSED


# -- the clock


def test_the_deadline_is_never_far_and_never_passed() -> None:
    """Whoever waits for events looks after the turn at least once a minute."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    for _ in range(5):
        assert caller.now < caller.turn.deadline <= caller.now + 60
        caller.passes(60)
        caller.reads(working(), message("Hel"))


def test_a_tick_before_the_deadline_does_nothing() -> None:
    """A caller may be woken for other reasons."""
    caller = new_chat()
    caller.take(BUSY, said(message("Hel")))
    deadline = caller.turn.deadline
    caller.turn.tick(caller.now + 0.1)
    assert caller.turn.deadline == deadline
    assert not caller.turn.wants_action


def test_deltas_do_not_put_off_what_is_to_be_found_out() -> None:
    """The run is over and its message is not final: that is looked into every second, whatever else arrives."""
    caller = new_chat()
    caller.take(BUSY, said(message()), token("Hel", 1), DONE)
    caller.reads(over(), message("Hel"))
    begun = caller.now
    for seq in range(2, 40):
        caller.passes(0.1)
        if caller.turn.wants_reread:
            break
        caller.take(token("x", seq))
    assert caller.turn.wants_reread
    assert caller.now - begun < 2


def test_the_users_id_is_remembered_for_the_run() -> None:
    """A run that names another message is another's."""
    caller = new_chat()
    assert caller.turn.run.user_message_id == USER
    caller.take(said(message("Hello", "ready")), runs({"id": RUN, "chat_id": CHAT, "state": "completed"}))
    assert the_end(caller) is End.FINISHED

"""What a turn delivers: its snapshots, the messages that belong to it, and how an existing turn is resumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh.errors import StreamError, UnreadableError

from .forms import (
    CHAT,
    REPLY,
    USER,
    Caller,
    Wire,
    begin,
    chat,
    chats,
    event,
    follow_up,
    message,
    new_chat,
    old_reply,
    over,
    queued,
    run,
    runs,
    said,
    token,
    user,
    working,
)
from .steps import (
    BUSY,
    DONE,
    WAITS,
    Start,
    Step,
    asks,
    attached,
    decline,
    expect,
    finishes,
    goes_on,
    play,
    read,
    second,
    wants_poll,
)

BARE: Wire = {"order": 0, "agent_run_id": ""}  # a message that does not say where it stands

SNAPSHOTS = [
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message()), said(message("Hel")), said(message("Hello")), said(message("Hello", "ready"))),
            goes_on,  # the message is final, but nothing has said that the run is over
            DONE,
            expect(texts=["Hel", "Hello", "Hello"], chat_id=CHAT, final_delivered=True, progress=3),
            finishes("Hello"),
        ],
        id="each whole message is a snapshot, and the last one is the final message",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message()), token("Hel", 1), token("lo", 2), said(message("Hello", "ready")), DONE),
            expect(texts=["Hel", "Hello", "Hello"]),
            finishes("Hello"),
        ],
        id="each delta is a snapshot of all text before it",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Let me see.", "ready")), said(second("It")), said(second("It is 714.", "ready"))),
            DONE,
            expect(
                snapshots=[
                    (REPLY, "Let me see.", "Let me see."),
                    ("reply-3", "It", "It"),
                    ("reply-3", "It is 714.", " is 714."),
                ]
            ),
            finishes("It is 714.", id="reply-3"),
        ],
        id="each of several messages has its own snapshots, and the last message is the final one",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Let me see.", "ready", order=None))),
            expect(texts=["Let me see."], end=None),
            *(said(second("It is 714.", "ready", order=None)), DONE),
            expect(texts=["Let me see.", "It is 714."]),
            finishes("It is 714."),
        ],
        id="messages without an order are in the order of their arrival",
    ),
    pytest.param(
        lambda: begin(Turn(None), user(), message("Hello")),
        [
            expect(snapshots=[(REPLY, "Hello", "Hello")]),
            *(BUSY, said(message("Hello")), said(message("Hello!", "ready")), DONE),
            expect(texts=["Hello", "Hello!"]),
        ],
        id="text in the response to the POST is delivered once",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, token("It ", 1, "reply-3"), token("is.", 2, "reply-3")),
            expect(texts=[], end=None),
            said(second()),
            expect(texts=["It is."], end=None),
        ],
        id="deltas before their message are delivered with it",
    ),
    pytest.param(
        new_chat,
        [event("usage", {"total": 1}), event("chat_messages_v2", message("Hello")), expect(texts=[], end=None)],
        id="unknown events are ignored",
    ),
]


@pytest.mark.parametrize(("start", "steps"), SNAPSHOTS)
def test_snapshots_of_a_turn(start: Start, steps: list[Step]) -> None:
    """Events in, snapshots and the final message out."""
    play(start(), *steps)


def has_begun_at_10_00() -> Caller:
    """A turn of a chat whose messages have no order, but a time."""
    return begin(Turn(CHAT), user(order=0, created_at="2026-11-22T10:00:00.500000Z"), None)


def second_turn() -> Caller:
    """A turn of a chat whose messages have neither an order nor a time, after another one."""
    first = play(new_chat(), BUSY, said(message("One", "ready", **BARE)), DONE)
    return begin(first.turn.next(), user(order=0), None)


MEMBERSHIP = [
    pytest.param(
        follow_up,
        [
            said(old_reply()),
            said(message("Older", "ready", id="reply-0", order=1, agent_run_id=None)),
            expect(texts=[], replied=False),
        ],
        id="the messages of earlier turns are known by their order",
    ),
    pytest.param(
        follow_up,
        [
            *(BUSY, said(user()), said(old_reply())),
            said(message("thought", id="m1", role="system", order=9)),
            said(message("tool output", id="m2", role="tool", order=9)),
            said(message("something new", id="m3", role="oracle", order=9)),
            said(message("elsewhere", id="m4", chat_id="another-chat", order=9)),
            expect(texts=[], end=None),
            said(message("Hello")),
            expect(texts=["Hello"], end=None),
        ],
        id="messages of other roles, chats and turns are ignored",
    ),
    pytest.param(
        lambda: follow_up(order=1, agent_run_id=""),
        [said(message("Hello", order=1, agent_run_id="")), expect(texts=["Hello"], end=None)],
        id="a message of the response to the POST belongs to the turn, whatever its order",
    ),
    pytest.param(
        follow_up,
        [said(message("Hello", id="reply-3", order=1)), expect(texts=["Hello"], end=None)],
        id="a message of the turn's run belongs to the turn, whatever its order",
    ),
    pytest.param(
        has_begun_at_10_00,
        [
            said(message("Old", "ready", id="m1", created_at="2026-11-22T09:59:59.000000Z", **BARE)),
            said(message("New", "ready", id="m2", created_at="2026-11-22T10:00:01.000000Z", **BARE)),
            said(message("Newer", "ready", id="m3", created_at=None, **BARE)),
            expect(texts=["New", "Newer"]),
        ],
        id="without an order, messages from before the user's message are of an earlier turn",
    ),
    pytest.param(
        second_turn,
        [
            *(said(message("One", "ready", **BARE)), token("more", 1), said(message("Two", id="m2", **BARE))),
            expect(texts=["Two"]),
        ],
        id="without an order and a time, messages of earlier turns are known by their ids",
    ),
    pytest.param(
        queued,
        [said(user("cancelled", id="user-9")), said(user("ready", id="user-9")), expect(texts=[], end=None)],
        id="the message of another user is ignored",
    ),
    *(
        pytest.param(
            follow_up,
            [
                said(message("Hello", "ready", chat_id=chat_id)),
                runs(run("completed", chat_id=chat_id)),
                expect(texts=["Hello"]),
                finishes("Hello"),
            ],
            id=f"messages and runs belong to the chat if they name it by {name}",
        )
        for chat_id, name in ((CHAT, "its id"), (CHAT[:8], "its short id"), ("", "an empty id"), (None, "no id"))
    ),
    pytest.param(
        lambda: begin(Turn(CHAT[:8]), user(), message()),
        [BUSY, said(message("Hello", "ready")), DONE, finishes("Hello")],
        id="a chat that the caller knows by its short id is recognized by its full one",
    ),
    pytest.param(
        new_chat,
        [
            *(BUSY, said(message("Hello", "ready"))),
            expect(texts=["Hello"], end=None),
            chats(chat("idle", id="another-chat")),
            expect(texts=["Hello"], end=None),
            runs(run("completed", id="r9", chat_id="another-chat")),
            expect(texts=["Hello"], end=None),
        ],
        id="the state of another chat, such as a sub-agent's, is ignored",
    ),
]


@pytest.mark.parametrize(("start", "steps"), MEMBERSHIP)
def test_which_messages_belong_to_a_turn(start: Start, steps: list[Step]) -> None:
    """Only those are delivered."""
    play(start(), *steps)


def after_a_turn_of_order_4() -> Turn:
    """A turn that follows another one, before its message is posted."""
    return play(new_chat(), BUSY, said(message("One", "ready")), DONE).turn.next()


BOUNDARIES = [
    pytest.param(
        after_a_turn_of_order_4,
        [({"id": "x", "order": 4}, True), ({"id": "x", "order": 5}, False)],
        id="before its message is posted it begins after the turn before",
    ),
    pytest.param(
        after_a_turn_of_order_4,
        [({"id": "x", "order": 0}, False), ({"id": "x", "order": None}, False)],
        id="a message without an order is not taken for an earlier one",
    ),
    pytest.param(
        lambda: second_turn().turn,
        [({"id": REPLY}, True), ({"id": "m2"}, False)],
        id="without an order it begins after the ids of the turn before",
    ),
    pytest.param(
        lambda: begin(Turn(CHAT), None, message(order=4)).turn,
        [({"order": 3}, True), ({"order": 4}, False)],
        id="without a user's message it begins with the order of the reply",
    ),
    pytest.param(
        lambda: begin(Turn(CHAT), user(order=0), message(order=4)).turn,
        [({"order": 3}, True), ({"order": 4}, False)],
        id="if the user's message has no order it begins with the order of the reply",
    ),
]


@pytest.mark.parametrize(("start", "messages"), BOUNDARIES)
def test_where_a_turn_begins(start: Callable[[], Turn], messages: list[tuple[Wire, bool]]) -> None:
    """The turn knows whether it begins after a message."""
    turn = start()
    assert [turn.replies.begins_after(data) for data, _ in messages] == [after for _, after in messages]


def test_a_follow_up_is_in_the_same_chat() -> None:
    """Its message can be posted there."""
    assert after_a_turn_of_order_4().chat_id == CHAT


def test_a_turn_knows_the_id_of_its_message() -> None:
    """A run that names another message is another's; one that names none is not."""
    caller = new_chat()
    assert caller.turn.run.user_message_id == USER
    play(caller, said(message("Hello", "ready")), runs({"id": "run-2", "chat_id": CHAT, "state": "completed"}))
    assert caller.outcome.end is End.FINISHED


RESPONSES = [
    pytest.param(user(), message(), CHAT, id="both messages name it"),
    pytest.param(user(), None, CHAT, id="the user's message alone names it"),
    pytest.param(None, message(), CHAT, id="the placeholder alone names it"),
    pytest.param(None, None, None, id="nothing names it"),
]


@pytest.mark.parametrize(("asked", "placeholder", "chat_id"), RESPONSES)
def test_the_chat_is_named_by_the_response_to_the_post(
    asked: Wire | None, placeholder: Wire | None, chat_id: str | None
) -> None:
    """Either message may be missing; neither is delivered while it is empty."""
    play(begin(Turn(None), asked, placeholder), expect(chat_id=chat_id, texts=[]))


EXISTING = [
    pytest.param(
        attached(working(), user(order=1, id="user-1"), old_reply(), user(), message("Hel")),
        [
            expect(texts=["Hel"], end=None),
            *(BUSY, said(message("Hello")), said(message("Hello", "ready")), DONE),
            expect(texts=["Hel", "Hello", "Hello"]),
            finishes("Hello"),
        ],
        id="a running turn is resumed with what it has said so far",
    ),
    pytest.param(
        attached(working(), user(), message("Hel")),
        [
            token("lo, ", 7),
            expect(texts=["Hel"], end=None),
            *(said(message("Hello, ")), token("world", 8)),
            expect(texts=["Hel", "Hello, ", "Hello, world"], end=None),
        ],
        id="a turn that is resumed between deltas shows them after the next whole message",
    ),
    pytest.param(
        attached(over(), user(), message("Hello", "ready")),
        [expect(texts=["Hello"]), finishes("Hello")],
        id="a turn that is over is resumed with its final message",
    ),
    pytest.param(
        attached(
            working(),
            user("cancelled", id="user-8", order=8),
            user("queued", id="user-9", order=9),
            user(),
            message("Hel"),
        ),
        [
            expect(texts=["Hel"], end=None),
            *(said(message("Hello", "ready")), runs(run("completed"))),
            expect(texts=["Hel", "Hello"]),
            finishes("Hello"),
        ],
        id="queued and withdrawn messages do not begin the turn that runs",
    ),
    pytest.param(
        attached(working(), message("Welcome")),
        [expect(texts=["Welcome"], end=None)],
        id="a chat without a user's message has replies all the same",
    ),
    pytest.param(
        attached(WAITS, user(), asks("awaiting_input")),
        [expect(calls=["call-1"], end=None), decline("call-1"), expect(end=End.PAUSED)],
        id="the calls of a paused turn are handed out, since this process may have their handlers",
    ),
]


@pytest.mark.parametrize(("start", "steps"), EXISTING)
def test_an_existing_turn_is_resumed(start: Start, steps: list[Step]) -> None:
    """The messages of the chat are read first."""
    play(start(), *steps)


UNREADABLE = [
    pytest.param(said({"role": "assistant"}), UnreadableError, id="a message without an id"),
    pytest.param(said({"id": []}), UnreadableError, id="a list as an id"),
    pytest.param(said({"id": {}}), UnreadableError, id="an object as an id"),
    pytest.param(said({"id": 5, "chat_id": CHAT}), UnreadableError, id="a number as an id"),
    pytest.param(said({}), UnreadableError, id="an empty message"),
    pytest.param(chats({"id": CHAT, "active_run": "text"}), StreamError, id="a text as a run"),
]


@pytest.mark.parametrize(("bad", "error"), UNREADABLE)
def test_an_event_that_cannot_be_read_is_an_error_and_the_chat_can_be_read_instead(
    bad: Event, error: type[Exception]
) -> None:
    """The turn goes on."""
    caller = new_chat()
    with pytest.raises(error):
        caller.take(bad)
    caller.turn.unreadable()
    play(caller, wants_poll, read(over(), message("Hello", "ready")), finishes("Hello"))


def test_a_chat_whose_messages_cannot_be_read_is_an_error() -> None:
    """The caller tries again."""
    with pytest.raises(UnreadableError):
        new_chat().reads(working(), {"role": "assistant"})

"""A message that is queued behind other turns of its chat, and the turn that begins with it."""

from __future__ import annotations

import pytest

from inferencesh._protocol.outcome import End
from inferencesh._protocol.wire import Event

from .forms import (
    REPLY,
    Wire,
    chat,
    chats,
    message,
    old_reply,
    old_run,
    over,
    queued,
    run,
    runs,
    said,
    user,
    working,
)
from .steps import DONE, Step, detail_says, expect, finishes, goes_on, play, polls_until_over, read, wait, wants_poll

OLD_RUN_WORKS = chat("busy", old_run("working"))
OTHER_RUN_WORKS = chat("busy", run("working", id="run-b", user_message_id="user-b"))


def other_reply(text: str = "For another") -> Wire:
    """The reply to a message that was queued before this one."""
    return message(text, "ready", id="reply-b", agent_run_id="run-b", order=5)


def unnamed_in_chats(of: Wire) -> Event:
    """A ``chats`` event with a run that does not name the message it began with."""
    return chats(chat("busy", {**of, "user_message_id": None}))


def unnamed_in_runs(of: Wire) -> Event:
    """An ``agent_runs`` event with such a run."""
    return runs({**of, "user_message_id": None})


BEGINNINGS = [
    pytest.param(
        [
            chats(OLD_RUN_WORKS),
            *(said(old_reply("Old", status="pending", order=2)), said(old_reply("Old news", order=2))),
            *(runs(old_run()), chats(chat("idle", old_run())), wait(20)),
            expect(texts=[], end=None),
            read(working(), user(), old_reply(), message("Hel")),
            *(said(message("Hello", "ready")), DONE),
            expect(texts=["Hel", "Hello"]),
            finishes("Hello"),
        ],
        id="the messages and the end of the turn before are ignored",
    ),
    *(
        pytest.param(
            [
                chats(chat("busy", old_run("working", user_message_id=named))),
                said(message("More old news", "ready", id="reply-1b", order=5, agent_run_id="run-1")),
                expect(texts=[]),
                *(runs(old_run(user_message_id=named)), runs(run("working")), said(user())),
                *(said(message("Hello", "ready", order=6)), DONE),
                expect(texts=["Hello"]),
                finishes("Hello"),
            ],
            id=f"later messages of the run before are ignored if that run names {words}",
        )
        for named, words in (("user-1", "its message"), (None, "no message"))
    ),
    *(
        pytest.param(
            [
                *(state(old_run("working")), state(old_run("completed")), state(run("working"))),
                *(said(user()), said(message("Hello", order=6))),
                *(said(message("Hello!", "ready", order=6)), state(run("completed"))),
                expect(texts=["Hello", "Hello!"]),
                finishes("Hello!"),
            ],
            id=f"the reply is known by its order if the runs in {name} events name no messages",
        )
        for name, state in (("chats", unnamed_in_chats), ("agent_runs", unnamed_in_runs))
    ),
    *(
        pytest.param(
            [
                *(chats(OLD_RUN_WORKS), said(user("queued", id="user-b", order=2))),
                *(runs(old_run()), said(user(id="user-b", order=other_order))),
                runs(run("working", id="run-b", user_message_id="user-b")),
                *(said(other_reply()), runs(run("completed", id="run-b", user_message_id="user-b"))),
                expect(texts=[]),
                *(said(user(order=own_order)), runs(run("working")), said(message("Mine", order=7))),
                *(said(message("Mine.", "ready", order=7)), DONE),
                expect(texts=["Mine", "Mine."]),
                finishes("Mine."),
            ],
            id=f"behind two turns it gets its own reply on a server that {words}",
        )
        for own_order, other_order, words in (
            (6, 4, "moves messages when their turn comes"),
            (3, 2, "leaves messages in their places"),
        )
    ),
    *(
        pytest.param(
            [
                read(OTHER_RUN_WORKS, user("queued"), other_reply()),
                said(other_reply("For another one")),
                expect(texts=[], end=None),
                *rest,
                finishes("Mine."),
            ],
            id=f"a read shows the replies of other turns, and its own turn is {words}",
        )
        for words, rest in (
            (
                "over",
                [
                    read(
                        over(),
                        *(message("Mine.", "ready", order=7), user(order=6)),
                        *(other_reply(), user(id="user-b", order=4)),
                    ),
                    expect(snapshots=[(REPLY, "Mine.", "Mine.")]),
                ],
            ),
            (
                "under way",
                [
                    read(
                        working(),
                        *(message("Mi", order=7), user(order=6)),
                        *(other_reply(), user(id="user-b", order=4)),
                    ),
                    *(said(message("Mine.", "ready", order=7)), DONE),
                    expect(snapshots=[(REPLY, "Mi", "Mi"), (REPLY, "Mine.", "ne.")]),
                ],
            ),
        )
    ),
    pytest.param(
        [
            *(chats(OLD_RUN_WORKS), said(user(order=6)), runs(run("working"))),
            said({**other_reply(), "agent_run_id": ""}),
            expect(texts=[]),
            *(said(message("Mine.", "ready", order=7)), DONE),
            expect(texts=["Mine."]),
            finishes("Mine."),
        ],
        id="a message without a run that stands before the place it was moved to is ignored",
    ),
    pytest.param(
        [
            said(message("Hello", order=6)),
            expect(texts=[]),
            *(wait(1), wants_poll, read(working(), user(), message("Hello", order=6))),
            expect(texts=["Hello"]),
        ],
        id="a reply that comes without a word about the turn has the chat read",
    ),
    pytest.param(
        [
            *(read(chat("idle", old_run()), user("queued"), old_reply()), wait(3)),
            *(read(OTHER_RUN_WORKS, user("queued"), old_reply()), wait(100)),
            goes_on,
            *(runs(run("working")), said(user()), said(message("Hello", "ready", order=6)), DONE),
            finishes("Hello"),
        ],
        id="a chat that is idle between two turns does not lose it",
    ),
]


@pytest.mark.parametrize("steps", BEGINNINGS)
def test_a_queued_message_waits_for_its_turn(steps: list[Step]) -> None:
    """What other turns say and do is not this turn's."""
    play(queued(), *steps)


WITHDRAWN = [
    *(
        pytest.param([chats(OLD_RUN_WORKS), withdrawal], id=f"its status becomes {status} in {words}")
        for status in ("cancelled", "failed")
        for words, withdrawal in (
            ("an event", said(user(status))),
            ("a read", read(OLD_RUN_WORKS, user(status))),
        )
    ),
    pytest.param(
        [read(OLD_RUN_WORKS, user("queued")), goes_on, read(OLD_RUN_WORKS, old_reply())],
        id="it vanishes from the chat",
    ),
]


@pytest.mark.parametrize("steps", WITHDRAWN)
def test_a_queued_message_that_is_withdrawn_ends_its_turn(steps: list[Step]) -> None:
    """There will be no reply."""
    play(queued(), *steps, expect(end=End.LOST, message=None), detail_says("withdrawn"))


GIVEN_UP = [
    pytest.param([], 10, id="one that was never seen there within ten seconds"),
    pytest.param([user("queued")], 90, id="one that is still queued within a minute and a half"),
]


@pytest.mark.parametrize(("listed", "most"), GIVEN_UP)
def test_a_queued_message_is_given_up_in_a_chat_that_stays_idle(listed: list[Wire], most: float) -> None:
    """Its turn will not come any more."""
    play(
        queued(),
        polls_until_over(chat("idle", old_run()), old_reply(), *listed, most=most),
        expect(end=End.LOST, message=None),
        detail_says("its turn never came"),
    )

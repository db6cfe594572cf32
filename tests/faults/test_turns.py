"""Whatever a server tells about a turn, in whatever order and however often, the turn ends once and with the truth."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from inferencesh import RunFailedError
from tests.support import Kind

from .forms import (
    ASKED,
    CHAT,
    HEARTBEAT,
    REPLY,
    Json,
    accepted_of,
    asked,
    chat,
    chat_of,
    event,
    message,
    message_of,
    page_of,
    part,
    run,
    run_of,
)
from .script import EOF, RST, Reply, Scenario, Script, after, delay, encode, head, heartbeats, refuse
from .server import FaultServer
from .turns import POST, STREAM, TEXT, Case, RunTurn, call, rest_of, told

if TYPE_CHECKING:
    from collections.abc import Generator

BUSY = chat("working")
HEL = message("Hel")
HELLO = message("Hello")
READY = message(TEXT, "ready")
DONE = chat("completed")
LINES = (BUSY, HEL, HELLO, READY, DONE)
WHOLE: Script = LINES
EARLIER = (
    message("Earlier question", "ready", id="asked0", role="user", order=1),
    message("Earlier reply", "ready", id="reply0", order=2),
)
OTHERS = (
    message("4", "ready", id="tool1", role="tool", order=13),
    message("!", "ready", id="event1", role="event", order=14),
)
HELLO_BLOCK = {"type": "text", "text": "Hello"}
LATE = (delay(0.2), Reply(accepted_of()))
STALE = chat("completed", run_id="run0")
MESSAGES = f"GET /chats/{CHAT}/messages"
CHATS = f"GET /chats/{CHAT}"
FINISHED = {
    CHATS: [(Reply(chat_of("completed")),)],
    MESSAGES: [(Reply(page_of(message_of(TEXT, "ready"), asked())),)],
}
FIRST_PENDING = {MESSAGES: [(Reply(page_of(message_of("Hel"), asked())),)] * 2 + FINISHED[MESSAGES]}


def test_arguments_that_are_nested_deeply_end_no_turn(kind: Kind) -> None:
    """When a message that has them comes again, and is compared with what was delivered."""
    call_of_it = {"id": "t", "type": "internal", "status": "pending", "function": {"name": "n", "arguments": "?"}}
    line = encode(message("Hel", tool_invocations=[call_of_it]))
    line = line.replace(b'"?"', b'{"a": ' * 1010 + b"1" + b"}" * 1010)
    with FaultServer(Scenario(streams=[(BUSY, line, line, READY, DONE)])) as server:
        assert call(kind, server, lambda client: client.agent("a/b").send_message("Hi")).text == TEXT


def sse(line: Json) -> bytes:
    """A line as a server-sent event."""
    return f"event: {line['event']}\n".encode() + b"data: " + encode(line["data"]) + b"\n"


ORDERS = [
    Case("each line three times", [tuple(line for line in WHOLE for _ in range(3))], TEXT),
    Case("the whole turn twice", [(BUSY, HEL, HELLO, HEL, BUSY, HEL, HELLO, READY, HELLO, READY, DONE)], TEXT),
    Case("an older snapshot after a newer one", [(BUSY, HELLO, HEL, READY, DONE)], TEXT),
    Case("a pending snapshot after the final one", [(BUSY, HEL, READY, HELLO, HEL, DONE)], TEXT),
    Case("the end before the last message", [(BUSY, HEL, DONE, READY)], TEXT),
    Case("the message before the run's start", [(HEL, BUSY, READY, DONE)], TEXT),
    Case("the final message alone", [(BUSY, READY, DONE)], TEXT),
    Case("everything replayed after a drop", [(*WHOLE[:3], RST), WHOLE], TEXT, connects=2),
    Case("less replayed after a drop than was known", [(*WHOLE[:3], RST), (BUSY, HEL, READY, DONE)], TEXT),
    Case(
        "reads that are refused for a while",
        [(BUSY, HEL, RST), (BUSY, HEL)],
        TEXT,
        answers={**FINISHED, CHATS: [*[refuse(502, "bad_gateway")] * 4, *FINISHED[CHATS]]},
    ),
]


STATES = [
    told("a stale idle state on a follow-up turn", STALE, after(POST), STALE, *WHOLE, chat_id=CHAT),
    told("an idle state without a run, then the turn", chat(None), after(POST), *WHOLE, chat_id=CHAT),
    told("earlier messages replayed", STALE, *EARLIER, after(POST), *EARLIER, *WHOLE, chat_id=CHAT),
    Case("a stale idle state on reconnect", [(STALE, after(POST), HEL, RST), (STALE, *WHOLE)], TEXT, chat_id=CHAT),
    told("the run's state alone", run("working"), HEL, READY, run("completed")),
    told("the run's state in both forms", run("working"), *WHOLE[:4], run("completed"), DONE),
    told("a partial chat", BUSY, HEL, part("chats", CHAT, name="t"), READY, DONE),
    told("a partial end", BUSY, HEL, READY, part("chats", CHAT, active_run=run_of("completed"))),
    told("a partial message", BUSY, HEL, part("chat_messages", REPLY, content=[HELLO_BLOCK]), READY, DONE),
    told("a partial status", BUSY, message(TEXT), part("chat_messages", REPLY, status="ready"), DONE),
    told("a partial message that is not known", BUSY, part("chat_messages", "other9", status="ready"), *WHOLE),
    told("null data", BUSY, event("chats", None), HEL, event("chat_messages", None), READY, event("delta", None), DONE),
    told("unknown events", BUSY, event("tasks", {"id": "t"}), {"event": "ping"}, HEARTBEAT, *WHOLE),
    told("unknown values", chat("working", status="dreaming"), message("Hel", "half-baked", mood=1), READY, DONE),
    told("an unknown block", BUSY, message("", content=[{"type": "hologram"}, HELLO_BLOCK]), READY, DONE),
    told("an unknown run state", BUSY, HEL, run("pondering"), HELLO, READY, DONE),
    told("null fields", chat("working", agent_data=None), message("", content=None, tool_invocations=None), *WHOLE),
    told("another chat's messages", BUSY, HEL, message("Other", "ready", id="x", chat_id="chat2"), READY, DONE),
    told("another chat's end", BUSY, HEL, event("chats", chat_of("completed") | {"id": "chat2"}), READY, DONE),
    told("messages of others", BUSY, message("Hi", "ready", id=ASKED, role="user", order=11), *OTHERS, *WHOLE),
    told("the end while the message is pending", BUSY, HEL, DONE, answers=FIRST_PENDING),
    told("the end of the stream with the turn's", BUSY, HEL, DONE, EOF, answers=FIRST_PENDING),
    Case("a run that finished while the stream was down", [(BUSY, HEL, RST), (DONE,)], TEXT, answers=FINISHED),
    Case("a run that finished, and no more streams", [(BUSY, HEL, RST), (RST,)], TEXT, answers=FINISHED),
    told("heartbeats alone, and a run that finished", heartbeats(100, 0.1), answers=FINISHED),
    told("a post answered after the turn's end", STALE, after(POST), *WHOLE, chat_id=CHAT, post=[LATE]),
    told("a post without the reply's message", *WHOLE, post=[(Reply({"user_message": asked()}),)]),
    told("server-sent events", b": hello\n\n", *map(sse, LINES), head=head(content_type="text/event-stream")),
    told("a cancelled run", HEL, message("Hel", "cancelled"), chat("canceled"), text="Hel", status="cancelled"),
]

CRASHED = chat("failed", active_run=run_of("failed", error="out of memory"))
FAILED = [
    told("a failed run", BUSY, HEL, message("Hel", "failed"), CRASHED, text="Hel", raises=RunFailedError),
    told("a failed run without a last word", BUSY, HEL, CRASHED, text="Hel", raises=RunFailedError),
    told("a failed run alone", HEL, run("failed", error="out of memory"), text="Hel", raises=RunFailedError),
    Case("a failure after a drop", [(BUSY, HEL, RST), (CRASHED,)], "Hel", raises=RunFailedError),
    told("a rejected run", run("rejected", error="out of memory"), text=None, raises=RunFailedError),
]


@pytest.mark.parametrize("case", ORDERS + STATES, ids=lambda case: case.name)
def test_the_turn_ends_with_the_truth(case: Case, run_turn: RunTurn) -> None:
    """Duplicates, reordering, stale and partial states do not end a turn early or spoil its text."""
    outcome = run_turn(case)
    assert {snapshot.id for snapshot in outcome.snapshots} == {REPLY}


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.name)
def test_a_failed_run_says_why(case: Case, run_turn: RunTurn) -> None:
    """The error has the server's reason and the last snapshot."""
    error = run_turn(case).error
    assert isinstance(error, RunFailedError)
    assert error.detail == "out of memory"


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
def test_every_generation_of_the_service_is_understood(envelope: str, run_turn: RunTurn) -> None:
    """A turn that needs the post, the chat and its messages works in each envelope."""
    run_turn(Case(envelope, [(BUSY, HEL, RST), (DONE,)], TEXT, envelope=envelope, answers=FINISHED))


def test_the_stream_of_a_known_chat_is_open_before_the_message_is_posted(run_turn: RunTurn) -> None:
    """Nothing of a follow-up turn can be missed."""
    outcome = run_turn(Case("follow-up", [(STALE, after(POST), *WHOLE)], TEXT, chat_id=CHAT))
    lines = [request.line for request in outcome.requests]
    assert lines.index(STREAM) < lines.index(POST)
    assert outcome.seen(POST)[0].json["chat_id"] == CHAT


def test_a_second_turn_is_not_ended_by_the_first(kind: Kind, canary: pytest.LogCaptureFixture) -> None:
    """Its stream begins with the first turn's end and reply, before and behind the post; neither counts."""
    working, ended = chat("working", run_id="run2"), chat("completed", run_id="run2")
    reply = functools.partial(message, id="reply2", order=14)
    second = (DONE, READY, after(POST, 2), DONE, READY, working, reply("Sec"), RST)
    replay = (DONE, READY, working, READY, reply("Second"), reply("Second", "ready"), ended)
    more = {"user_message": asked("More", id="asked2", order=13), "assistant_message": reply("")["data"]}
    post = [(Reply(accepted_of()),), (Reply(more),)]
    with FaultServer(Scenario(post=post, streams=[WHOLE, second, replay])) as server:

        def two_turns(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent("a/b")
            assert (yield agent.send_message("Hi")).text == TEXT
            stream = agent.send_message("More", stream=True)
            snapshots = yield from rest_of(kind, stream)
            assert {snapshot.id for snapshot in snapshots} == {"reply2"}
            assert [snapshots[0].text, snapshots[-1].text, snapshots[-1].status] == ["Sec", "Second", "ready"]

        call(kind, server, two_turns)
        assert server.seen(POST)[1].json["chat_id"] == CHAT

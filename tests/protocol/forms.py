"""The wire's forms, short to write, and a turn to play them to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from hypothesis import settings

from inferencesh._protocol.lines import GrownLine, TextPiece
from inferencesh._protocol.outcome import Outcome
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh._types.codec import structure
from inferencesh.models import Message, ToolCall

CHAT = "7jnx8hn08m6ysdp04bmp5xex3q"
RUN = "run-2"
USER = "user-2"
REPLY = "reply-2"

TICK = 1e-6  # seconds by which a real clock has always moved on

FIXED = settings(derandomize=True, deadline=None, max_examples=200)  # the same examples in every run, on every machine

Wire = dict[str, Any]


def message(text: str = "", status: str = "pending", **more: Any) -> Wire:
    """The reply of the turn, whole; a keyword given as None is sent as null."""
    content = [{"type": "text", "text": text}] if text else []
    fixed = {"id": REPLY, "chat_id": CHAT, "role": "assistant", "status": status, "order": 4, "content": content}
    return {**fixed, "agent_run_id": RUN, **more}


def user(status: str = "ready", **more: Any) -> Wire:
    """The user's message that began the turn."""
    fixed = {"id": USER, "chat_id": CHAT, "role": "user", "status": status, "order": 3}
    return {**fixed, "content": [{"type": "text", "text": "Hi"}], **more}


def old_reply(text: str = "Old news", status: str = "ready", **more: Any) -> Wire:
    """The reply of the turn before."""
    return message(text, status, **{"id": "reply-1", "order": 2, "agent_run_id": "run-1", **more})


def run(state: str, **more: Any) -> Wire:
    """The turn's run."""
    return {"id": RUN, "chat_id": CHAT, "state": state, "user_message_id": USER, **more}


def old_run(state: str = "completed", **more: Any) -> Wire:
    """The run of the turn before."""
    return {"id": "run-1", "chat_id": CHAT, "state": state, "user_message_id": "user-1", **more}


def chat(status: str = "busy", active_run: Mapping[str, Any] | None = None, **more: Any) -> Wire:
    """The chat."""
    return {"id": CHAT, "status": status, "active_run": active_run, **more}


def working() -> Wire:
    """The chat while the turn's run goes on."""
    return chat("busy", run("working"))


def over(state: str = "completed", **more: Any) -> Wire:
    """The chat after the turn's run has ended."""
    return chat("idle", run(state, **more))


def invocation(status: str = "awaiting_input", call_id: str = "call-1", **more: Any) -> Wire:
    """A call of the client tool ``calculator``."""
    function = {"name": "calculator", "arguments": {"expression": "42 * 17"}}
    return {"id": call_id, "type": "client", "status": status, "function": function, **more}


def event(name: str, data: Mapping[str, Any], fields: Sequence[str] = ()) -> Event:
    """An event as the decoder makes it."""
    return Event(event=name, data=dict(data), fields=tuple(fields))


def plain(decoded: Event | GrownLine | TextPiece) -> Event:
    """What a decoder has returned, written out as the event that decoding its whole line gives."""
    if isinstance(decoded, GrownLine):
        return said(decoded.form.data)
    if isinstance(decoded, tuple):
        message_id, seq, text = decoded
        data = {"delta": {"response": text}, "resource_id": message_id}
        return event("delta", data if seq is None else {**data, "seq": seq})
    return event(decoded["event"], decoded["data"], decoded.get("fields", ()))


def said(data: Mapping[str, Any], fields: Sequence[str] = ()) -> Event:
    """A ``chat_messages`` event."""
    return event("chat_messages", data, fields)


def chats(data: Mapping[str, Any], fields: Sequence[str] = ()) -> Event:
    """A ``chats`` event."""
    return event("chats", data, fields)


def runs(data: Mapping[str, Any], fields: Sequence[str] = ()) -> Event:
    """An ``agent_runs`` event."""
    return event("agent_runs", data, fields)


def token(text: str, seq: int | None = None, of: str | None = REPLY) -> Event:
    """A ``delta`` event that adds to the text."""
    return piece({"response": text}, seq, of)


def piece(delta: object, seq: int | None = None, of: str | None = REPLY) -> Event:
    """A ``delta`` event."""
    return event("delta", {"delta": delta, "seq": seq, "resource_id": of})


@attrs.define
class Caller:
    """What drives a turn by hand: a clock, and all that came out.

    Attributes:
        turn: The turn.
        now: The present time.
        snapshots: All snapshots so far.
        calls: All calls that were handed out so far.
    """

    turn: Turn
    now: float = 100.0
    snapshots: list[Message] = attrs.Factory(list)
    calls: list[ToolCall] = attrs.Factory(list)

    def take(self, *events: Event) -> list[Message]:
        """Feed events, all at the present time; returns the snapshots they led to."""
        got = [snapshot for one in events if (snapshot := self.turn.receive(one, self.now)) is not None]
        self.snapshots += got
        self.calls += self.turn.calls.take()
        return got

    def reads(self, chat_data: Wire, *messages: Wire) -> list[Message]:
        """Give the turn the chat and its messages as if just read; returns the snapshots they led to."""
        got = self.turn.reread(chat_data, messages, self.now)
        self.snapshots += got
        self.calls += self.turn.calls.take()
        return got

    def passes(self, seconds: float) -> None:
        """Let time pass without an event, calling ``tick`` whenever it is due, until the turn wants something."""
        end = self.now + seconds
        while self.turn.deadline <= end and not self.wants():
            self.now = max(self.turn.deadline, self.now) + TICK
            self.turn.tick(self.now)
            assert self.wants() or self.turn.deadline > self.now, (
                "the deadline has come, and the turn neither wants anything nor sets a later one: its caller would spin"
            )
        if not self.wants():
            self.now = max(self.now, end)

    def wants(self) -> bool:
        """Whether the turn is over or wants something to be read, so that nobody waits on."""
        return self.turn.wants_reread or self.turn.outcome is not None

    def answers(self, call_id: str) -> None:
        """The server has acknowledged a call's result."""
        self.turn.call_answered(call_id, self.now)

    def declines(self, call_id: str) -> None:
        """There is no handler for a call."""
        self.turn.call_declined(call_id, self.now)

    @property
    def outcome(self) -> Outcome:
        """How the turn has ended."""
        assert self.turn.outcome is not None, "the turn is not over"
        return self.turn.outcome

    @property
    def final(self) -> Message:
        """The message that the turn has ended with."""
        found = self.outcome.message
        assert found is not None, "the turn has ended without a message"
        return found

    @property
    def texts(self) -> list[str]:
        """The texts of all snapshots so far."""
        return [snapshot.text for snapshot in self.snapshots]


def begin(turn: Turn, asked: Wire | None, reply: Wire | None) -> Caller:
    """Begin a turn with the messages in the response to its POST; either may be missing."""
    caller = Caller(turn)
    first = turn.begin(
        None if asked is None else structure(asked, Message),
        None if reply is None else structure(reply, Message),
        caller.now,
    )
    caller.snapshots += [] if first is None else [first]
    return caller


def new_chat() -> Caller:
    """Begin the first turn of a chat."""
    return begin(Turn(None), user(), message())


def follow_up(**assistant: Any) -> Caller:
    """Begin a later turn of a chat."""
    return begin(Turn(CHAT, after=2), user(), message(**assistant))


def queued(**more: Any) -> Caller:
    """Begin a turn whose message is queued behind the turn before."""
    return begin(Turn(CHAT), user("queued", **more), None)

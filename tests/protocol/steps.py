"""The steps of a scenario: what a turn is given, and what is expected of it afterwards.

A scenario is a list of steps. An event is fed to the turn; every other step is a function that does something with the
caller (reads the chat, lets time pass, answers a call) or checks something (``expect`` and its shorthands).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from inferencesh._protocol.calls import Step as CallStep
from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh.models import Message, ToolCall

from .forms import CHAT, Caller, Wire, chat, chats, invocation, message, over, run, working

Start = Callable[[], Caller]
Step = Event | Callable[[Caller], object]

BUSY = chats(working())
DONE = chats(over())
WAITS = chat("awaiting_input", run("input_required"))


def play(caller: Caller, *steps: Step) -> Caller:
    """Run the steps of a scenario one after the other; returns the caller."""
    for step in steps:
        if callable(step):
            step(caller)
        else:
            caller.take(step)
    return caller


# -- forms


def second(text: str = "", status: str = "pending", **more: Any) -> Wire:
    """The second reply of the turn."""
    return message(text, status, **{"id": "reply-3", "order": 6, **more})


def asks(*statuses: str, text: str = "Hm.", **more: Any) -> Wire:
    """The reply with tool calls in these statuses: call-1, call-2 and so on."""
    calls = [invocation(status, f"call-{number}") for number, status in enumerate(statuses, 1)]
    return message(text, tool_invocations=calls, **more)


def attached(chat_data: Wire, *messages: Wire) -> Start:
    """A turn of an existing chat, whose messages have just been read."""

    def start() -> Caller:
        caller = Caller(Turn.latest(CHAT, messages, 100.0))
        caller.reads(chat_data, *messages)
        return caller

    return start


# -- what happens


def read(chat_data: Wire, *messages: Wire) -> Step:
    """The chat and its messages are read."""
    return lambda caller: caller.reads(chat_data, *messages)


def read_fails(caller: Caller) -> None:
    """The chat cannot be read."""
    caller.snapshots += caller.turn.reread_failed(caller.now)
    caller.calls += caller.turn.calls.take()


def reads_fail_until_over(caller: Caller) -> None:
    """The chat can never be read; a failed attempt is not repeated at once."""
    attempts = 0
    while caller.turn.outcome is None:
        if caller.turn.wants_reread:
            attempts += 1
            assert attempts < 20, "it is wanted again at once, again and again"
            read_fails(caller)
        else:
            caller.passes(1)


def wait(seconds: float) -> Step:
    """Time passes until a poll is wanted or the turn is over, at most so many seconds."""
    return lambda caller: caller.passes(seconds)


def reconnect(caller: Caller) -> None:
    """The stream has been connected again."""
    caller.turn.reconnected()


def resume(caller: Caller) -> None:
    """The turn, which has paused, is resumed."""
    caller.turn.resume(caller.now)


def leave(caller: Caller) -> None:
    """Whoever handled the calls of the turn has left."""
    caller.turn.calls.abandon()


def answer(call_id: str) -> Step:
    """The server acknowledges the result of a call."""
    return lambda caller: caller.answers(call_id)


def decline(call_id: str) -> Step:
    """There is no handler for a call."""
    return lambda caller: caller.declines(call_id)


def decline_approval(call_id: str) -> Step:
    """Nobody decides about a call."""
    return lambda caller: caller.turn.call_declined(call_id, caller.now, CallStep.APPROVAL)


def decide(call_id: str, approved: bool | None) -> Step:
    """Somebody decides about a call."""
    return lambda caller: caller.turn.call_decided(call_id, caller.now, approved=approved)


# -- what is expected


def ids(calls: Sequence[ToolCall]) -> list[str]:
    """The ids of calls."""
    return [call.id for call in calls]


def views(snapshots: Sequence[Message]) -> list[tuple[str, str, str | None]]:
    """The id, the text and the delta of each snapshot."""
    return [(snapshot.id, snapshot.text, snapshot.delta) for snapshot in snapshots]


LOOKS: dict[str, Callable[[Caller], Any]] = {
    # the turn so far
    "texts": lambda caller: caller.texts,
    "statuses": lambda caller: [snapshot.status for snapshot in caller.snapshots],
    "snapshots": lambda caller: views(caller.snapshots),
    "polled": lambda caller: caller.turn.wants_reread,
    "end": lambda caller: caller.turn.outcome and caller.turn.outcome.end,
    "chat_id": lambda caller: caller.turn.chat_id,
    "progress": lambda caller: caller.turn.progress,
    "replied": lambda caller: caller.turn.replied,
    "last_delivered": lambda caller: caller.turn.last_delivered,
    # its calls: those handed out, in all, those not taken yet, and those in the snapshots
    "calls": lambda caller: ids(caller.calls),
    "call_statuses": lambda caller: [call.status for call in caller.calls],
    "arguments": lambda caller: [(call.name, call.arguments) for call in caller.calls],
    "shown": lambda caller: [(call.status, call.requires_approval) for call in caller.snapshots[-1].tool_calls],
    "pending_shown": lambda caller: [ids(snapshot.pending_tool_calls) for snapshot in caller.snapshots],
    "pending_now": lambda caller: ids(caller.turn.replies.current[0].pending_tool_calls),
    "untaken": lambda caller: (ids(caller.turn.calls.take()), caller.turn.calls.has_new),
    "answered": lambda caller: caller.turn.calls.answered,
    # how it has ended
    "detail": lambda caller: caller.outcome.detail,
    "message": lambda caller: caller.outcome.message,
    "id": lambda caller: caller.final.id,
    "text": lambda caller: caller.final.text,
    "status": lambda caller: caller.final.status,
    "done": lambda caller: caller.final.done,
    "final_chat_id": lambda caller: caller.final.chat_id,
    "final_delivered": lambda caller: caller.turn.last_delivered == caller.final,
    "pending": lambda caller: ids(caller.final.pending_tool_calls),
    "approvals": lambda caller: ids(caller.final.pending_approvals),
}


def expect(**wanted: Any) -> Step:
    """What is seen of the turn under these names (see ``LOOKS``) equals these values."""

    def check(caller: Caller) -> None:
        assert {name: LOOKS[name](caller) for name in wanted} == wanted

    return check


def detail_says(words: str) -> Step:
    """The detail of the end contains these words."""

    def check(caller: Caller) -> None:
        assert words in caller.outcome.detail

    return check


def finishes(text: str, **more: Any) -> Step:
    """The turn has ended normally, with this text."""
    return expect(end=End.FINISHED, text=text, done=True, detail="", **more)


goes_on = expect(end=None)
polled = expect(polled=True)


def polled_after(least: float, most: float) -> Step:
    """The turn wants the chat to be read after so many seconds without an event."""

    def check(caller: Caller) -> None:
        begun = caller.now
        caller.passes(most + 60)
        assert caller.turn.wants_reread
        assert least <= caller.now - begun <= most

    return check


@attrs.frozen
class Polls:
    """Each poll is answered with the same chat, until the turn is over or so many seconds have passed.

    Attributes:
        seconds: How long at most.
        chat: The chat.
        messages: Its messages.
    """

    seconds: float
    chat: Wire
    messages: tuple[Wire, ...]

    def __call__(self, caller: Caller) -> int:
        """Play the step; returns how often the chat was read."""
        begun = caller.now
        count = 0
        while caller.turn.outcome is None and (left := begun + self.seconds - caller.now) > 0:
            if caller.turn.wants_reread:
                count += 1
                assert count < 100, "it is wanted again at once, again and again"
                caller.reads(self.chat, *self.messages)
            else:
                caller.passes(left)
        return count


def polls_for(seconds: float, chat_data: Wire, *messages: Wire) -> Step:
    """Each poll is answered with the same chat, for so many seconds."""
    return Polls(seconds, chat_data, messages)


def polls_until_over(
    chat_data: Wire, *messages: Wire, least: float = 0, most: float = 60, times: tuple[int, int] = (0, 100)
) -> Step:
    """Each poll is answered with the same chat, and the turn is over after ``least`` to ``most`` seconds."""

    def check(caller: Caller) -> None:
        begun = caller.now
        count = Polls(most + 1, chat_data, messages)(caller)
        assert caller.turn.outcome is not None
        assert least <= caller.now - begun <= most
        assert times[0] <= count <= times[1]

    return check

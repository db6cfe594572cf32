"""The steps of a scenario: what a turn is given, and what is expected of it afterwards.

A scenario is a list of steps. An event is fed to the turn; every other step is a function that does something with the
caller (reads the chat, lets time pass, answers a call) or checks something (``expect`` and its shorthands).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from inferencesh._protocol.calls import Step as CallStep
from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh.models import ToolCall

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
    """Return the second reply of the turn."""
    return message(text, status, **{"id": "reply-3", "order": 6, **more})


def asks(*statuses: str, text: str = "Hm.", **more: Any) -> Wire:
    """Return the reply with tool calls in these statuses: call-1, call-2 and so on."""
    calls = [invocation(status, f"call-{number}") for number, status in enumerate(statuses, 1)]
    return message(text, tool_invocations=calls, **more)


def attached(chat_data: Wire, *messages: Wire) -> Start:
    """Start with a turn of an existing chat, whose messages have just been read."""

    def start() -> Caller:
        caller = Caller(Turn.latest(CHAT, messages, 100.0))
        caller.reads(chat_data, *messages)
        return caller

    return start


# -- what happens


def read(chat_data: Wire, *messages: Wire) -> Step:
    """Give the turn the chat and its messages as just read."""
    return lambda caller: caller.reads(chat_data, *messages)


def read_fails(caller: Caller) -> None:
    """Tell the turn that the chat could not be read."""
    caller.snapshots += caller.turn.reread_failed(caller.now)
    caller.calls += caller.turn.calls.take()


def reads_fail_until_over(caller: Caller) -> None:
    """Let every read of the chat fail until the turn is over; a failed read must not be repeated at once."""
    attempts = 0
    while caller.turn.outcome is None:
        if caller.turn.wants_reread:
            attempts += 1
            assert attempts < 20, "a poll is wanted again at once, again and again"
            read_fails(caller)
        else:
            caller.passes(1)


def wait(seconds: float) -> Step:
    """Let time pass until a poll is wanted or the turn is over, at most ``seconds``."""
    return lambda caller: caller.passes(seconds)


def reconnect(caller: Caller) -> None:
    """Tell the turn that its stream has been connected again."""
    caller.turn.reconnected()


def resume(caller: Caller) -> None:
    """Resume the turn, which has paused."""
    caller.turn.resume(caller.now)


def leave(caller: Caller) -> None:
    """Let the caller that handles the calls of the turn leave."""
    caller.turn.calls.abandon()


def answer(call_id: str) -> Step:
    """Acknowledge the result of a call."""
    return lambda caller: caller.answers(call_id)


def decline(call_id: str) -> Step:
    """Decline a call, since there is no handler for it."""
    return lambda caller: caller.declines(call_id)


def decline_approval(call_id: str) -> Step:
    """Decline to decide about a call."""
    return lambda caller: caller.turn.call_declined(call_id, caller.now, CallStep.APPROVAL)


def decide(call_id: str, approved: bool | None) -> Step:
    """Approve or refuse a call, or (None) note that it was decided elsewhere."""
    return lambda caller: caller.turn.call_decided(call_id, caller.now, approved=approved)


# -- what is expected


def ids(calls: Sequence[ToolCall]) -> list[str]:
    """Return the ids of calls."""
    return [call.id for call in calls]


GETTERS: dict[str, Callable[[Caller], Any]] = {
    # the turn so far
    "texts": lambda caller: caller.texts,
    "statuses": lambda caller: [snapshot.status for snapshot in caller.snapshots],
    "snapshots": lambda caller: [(one.id, one.text, one.delta) for one in caller.snapshots],
    "wants_poll": lambda caller: caller.turn.wants_reread,
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
    "answered": lambda caller: set(caller.turn.calls.answered),
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
    """Check that what ``GETTERS`` return under these names equals these values."""

    def check(caller: Caller) -> None:
        assert {name: GETTERS[name](caller) for name in wanted} == wanted

    return check


def detail_says(words: str) -> Step:
    """Check that the detail of the end contains these words."""

    def check(caller: Caller) -> None:
        assert words in caller.outcome.detail

    return check


def finishes(text: str, **more: Any) -> Step:
    """Check that the turn has ended normally, with this text."""
    return expect(end=End.FINISHED, text=text, done=True, detail="", **more)


goes_on = expect(end=None)
wants_poll = expect(wants_poll=True)


def wants_poll_after(least: float, most: float) -> Step:
    """Check that the turn wants a poll after ``least`` to ``most`` seconds without an event."""

    def check(caller: Caller) -> None:
        begun = caller.now
        caller.passes(most + 60)
        assert caller.turn.wants_reread
        assert least <= caller.now - begun <= most

    return check


def answer_polls(caller: Caller, seconds: float, chat_data: Wire, messages: Sequence[Wire]) -> int:
    """Answer each poll with the same chat until the turn is over or ``seconds`` have passed; returns their number."""
    end = caller.now + seconds
    count = 0
    while caller.turn.outcome is None and caller.now < end:
        if caller.turn.wants_reread:
            count += 1
            assert count < 100, "a poll is wanted again at once, again and again"
            caller.reads(chat_data, *messages)
        else:
            caller.passes(end - caller.now)
    return count


def polls_for(seconds: float, chat_data: Wire, *messages: Wire) -> Step:
    """Answer each poll with the same chat for ``seconds``, or until the turn is over."""
    return lambda caller: answer_polls(caller, seconds, chat_data, messages)


def polls_until_over(
    chat_data: Wire, *messages: Wire, least: float = 0, most: float = 60, times: tuple[int, int] = (0, 100)
) -> Step:
    """Answer each poll with the same chat, and check that the turn is over after ``least`` to ``most`` seconds."""

    def check(caller: Caller) -> None:
        begun = caller.now
        count = answer_polls(caller, most + 1, chat_data, messages)
        assert caller.turn.outcome is not None
        assert least <= caller.now - begun <= most
        assert times[0] <= count <= times[1]

    return check

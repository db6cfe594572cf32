"""The state machine of one turn: events in; snapshots, tool calls and the end or a pause out. No I/O and no clock.

A turn begins with a user message and ends when its run does. The caller feeds events and what it re-read, and passes
the present time (seconds, any origin) to each call. It then looks at what the turn wants: calls to be taken care of
(``calls.take()``), a re-read of the chat (``wants_reread``), to be woken at ``deadline``, or, once ``outcome`` is set,
nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from inferencesh._types.codec import structure
from inferencesh.errors import InputRequiredError, UnreadableError
from inferencesh.models import (
    Chat,
    Interrupt,
    InterruptReason,
    InterruptStatus,
    Message,
    MessageStatus,
    Role,
    RunState,
    ToolCall,
    ToolCallStatus,
)

from .calls import CallLedger, Step
from .lines import GrownLine, TextPiece
from .replies import Replies
from .run import Phase, RunTracker, goes_on, phase_of
from .wire import Event

__all__ = [
    "ABOUT_CALLS",
    "MISSING_BEFORE_READ",
    "REREAD_EVERY",
    "End",
    "Outcome",
    "OutcomeDecider",
    "Pause",
    "PollSchedule",
    "Turn",
    "questions",
]

MISSING_BEFORE_READ = 0.3  # deltas or updates came for a message that is not known well enough
FIRST_SILENCE = 2.0  # nothing at all has come; doubles up to LONGEST_SILENCE
SILENCE = 10.0  # nothing more has come; doubles up to LONGEST_SILENCE
LONGEST_SILENCE = 60.0
REREAD_EVERY = 1.0  # while waiting for what must come soon


class PollSchedule:
    """Says when the chat is to be read, and for how long what must come has not come.

    Attributes:
        wanted: Whether the chat is to be read now.
        planned: When it is to be read if nothing comes before, or None.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.planned: float | None = None
        self._last_event = 0.0
        self._silence = FIRST_SILENCE
        self._missing_since: float | None = None
        self._stuck_since: float | None = None

    # -- what has happened -----------------------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """The stream has brought something."""
        self._last_event = now
        self._silence = SILENCE

    def restart_quiet(self, now: float) -> None:
        """This side has asked, or told the server something: what follows from that is given time to come."""
        self._last_event = now

    def miss(self, now: float) -> None:
        """Something will have to be read, unless the stream brings it in a moment."""
        if self._missing_since is None:
            self._missing_since = now

    def read(self) -> None:
        """The chat was read, or cannot be: whatever that was wanted for is settled."""
        self.wanted = False
        self.planned = None
        self._missing_since = None

    def resume(self, now: float) -> None:
        """A pause is over: begin anew, with a look at the chat."""
        self.wanted = True
        self._stuck_since = None
        self._silence = FIRST_SILENCE
        self._last_event = now

    # -- what is to happen -----------------------------------------------------------------------------------------

    def plan(self, moment: float) -> None:
        """Have the chat read at a moment, unless one is planned already."""
        if self.planned is None:
            self.planned = moment

    def await_news(self, now: float, *, fresh: bool) -> None:
        """Have the chat read at once, and then at intervals; ``fresh`` is whether it was read just now."""
        if self.planned is None and not self.wanted:
            if fresh:
                self.planned = now + REREAD_EVERY
            else:
                self.wanted = True

    def tick(self, now: float) -> None:
        """Have the chat read if a moment for it has come."""
        if self.planned is not None and now >= self.planned:
            self.planned = None
            self.wanted = True
        if self._missing_since is not None and now >= self._missing_since + MISSING_BEFORE_READ:
            self._missing_since = None
            self.wanted = True

    def tick_silence(self, now: float) -> None:
        """Have the chat read if it was silent for long; what counts as long doubles each time."""
        if now - self._last_event >= self._silence:
            self._silence = min(self._silence * 2, LONGEST_SILENCE)
            self._last_event = now
            self.wanted = True

    # -- patience --------------------------------------------------------------------------------------------------

    @property
    def misses(self) -> bool:
        """Whether something will have to be read, unless the stream brings it in a moment."""
        return self._missing_since is not None

    def quiet(self, now: float) -> float:
        """For how long nothing has come, in seconds."""
        return now - self._last_event

    def stuck(self, now: float) -> float:
        """For how long what must come has not come, in seconds, from the first time that this is asked."""
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since

    def unstuck(self) -> None:
        """Nothing must come soon any more."""
        self._stuck_since = None

    def deadline(self, quiet: float | None) -> float:
        """When to look again if nothing comes before.

        Args:
            quiet: The seconds without anything after which somebody else wants to look, or None.
        """
        moments = [self._last_event + self._silence]
        if self.planned is not None:
            moments.append(self.planned)
        if self._missing_since is not None:
            moments.append(self._missing_since + MISSING_BEFORE_READ)
        if quiet is not None:
            moments.append(self._last_event + quiet)
        return min(moments)


ABOUT_CALLS = frozenset({InterruptReason.TOOL_APPROVAL, InterruptReason.CLIENT_TOOL, InterruptReason.WIDGET})

_MOST_NAMED = 5  # calls or interrupts in an error's text


@attrs.frozen
class Pause:
    """What a paused run waits for.

    Attributes:
        message: The message that waits, or None when it is not known.
        interrupts: What a person is asked besides the calls in the message.
    """

    message: Message | None = None
    interrupts: tuple[Interrupt, ...] = ()

    @classmethod
    def of_chat(cls, messages: Iterable[Message], interrupts: Iterable[Interrupt]) -> Pause:
        """The pause of a chat, from its messages and its interrupts as they were read."""
        waiting = [message for message in messages if message.paused]
        return cls(max(waiting, key=lambda message: message.order, default=None), questions(interrupts))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that wait for their results."""
        return self.message.pending_tool_calls if self.message is not None else ()

    @property
    def approvals(self) -> tuple[ToolCall, ...]:
        """The calls that wait for approval."""
        return self.message.pending_approvals if self.message is not None else ()

    @property
    def needs_a_person(self) -> bool:
        """Whether something other than the results of client tools is waited for."""
        others = self.message is not None and any(call.waits and not call.pending for call in self.message.tool_calls)
        return others or bool(self.interrupts)

    def error(self, before: str, after: str) -> InputRequiredError:
        """The error that says what is waited for, between two other parts of a sentence."""
        error = InputRequiredError(f"{before} waits for {self._described()}{after}")
        error.message = self.message
        error.pending_tool_calls = self.tool_calls
        error.pending_approvals = self.approvals
        error.pending_interrupts = self.interrupts
        return error

    def _described(self) -> str:
        waits = []
        if self.tool_calls:
            waits.append(f"the result of {_named(self.tool_calls)} (submit_tool_result)")
        if self.approvals:
            waits.append(f"the approval of {_named(self.approvals)} (approve_tool or reject_tool)")
        if self.interrupts:
            shown = [f"{each.reason.value:.60} ({each.id:.60})" for each in self.interrupts[:_MOST_NAMED]]
            more = " and others" if len(self.interrupts) > _MOST_NAMED else ""
            waits.append(f"a decision about {', '.join(shown)}{more} (resolve_interrupt)")
        return " and ".join(waits) or "input (see pending_interrupts of the chat)"


def questions(interrupts: Iterable[Interrupt]) -> tuple[Interrupt, ...]:
    """The interrupts that are still pending and are answered with a decision, not through a call."""
    return tuple(
        each for each in interrupts if each.status == InterruptStatus.PENDING and each.reason not in ABOUT_CALLS
    )


def _named(calls: Sequence[ToolCall]) -> str:
    names = [f"{call.name:.60} ({call.id:.60})" for call in calls[:_MOST_NAMED]]
    return ", ".join(names) + (" and others" if len(calls) > _MOST_NAMED else "")


# Seconds: what is borne before a decision is made without the word of the server that it should rest on.
QUIET_BEFORE_PAUSE = 0.5  # a call waits for its result and the run's state was not said
QUIET_BEFORE_READ = 1.0  # the reply is final and the run's state was not said
PAUSE_PATIENCE = 2.0  # the run before waits for a tool's result, which another program may be about to give
PATIENCE = 5.0  # the run is over and its reply is not final
LONG_PATIENCE = 60.0  # the same where nothing shows that the ended run was this turn's

_FINAL_RUN = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED, RunState.REJECTED})


class End(enum.Enum):
    """How a turn ended."""

    FINISHED = "its reply is final"
    PAUSED = "it waits for input"
    FAILED = "its run failed"
    HELD_UP = "its message comes after a run that waits for input"
    LOST = "its run is over, but no final reply came"


@attrs.frozen
class Outcome:
    """The end of a turn, or of the part of it until a pause.

    Attributes:
        end: How it ended.
        message: The final message, or the one that waits for input; None when there is none.
        detail: Why it failed or was lost; "" otherwise.
        pause: What the run waits for that holds it up; None otherwise.
    """

    end: End
    message: Message | None = None
    detail: str = ""
    pause: Pause | None = None


class OutcomeDecider:
    """Decides whether a turn is over or paused, and has the chat read where that cannot be told yet.

    Args:
        run: The turn's run.
        calls: Its tool calls.
        replies: Its messages.
        schedule: When its chat is read again.

    Attributes:
        resolved: Ids of interrupts that were decided about here.
        through_pauses: Whether a pause is for others to end, and does not end the wait for this turn.
        pause: What the run before waits for, as the chat was read last.
        withdrawn_here: Whether this side has tried to withdraw the turn's message because of that.
        nothing_ran: Whether the chat, when it was read, had nothing that a queued message waits for.
    """

    def __init__(self, run: RunTracker, calls: CallLedger, replies: Replies, schedule: PollSchedule) -> None:
        self.resolved: set[str] = set()
        self.nothing_ran = False
        self.through_pauses = False
        self.pause = Pause()
        self.withdrawn_here = False
        self._run = run
        self._calls = calls
        self._replies = replies
        self._schedule = schedule

    def decide(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide whether the turn is over or paused.

        Args:
            now: The present time, in seconds of any origin.
            fresh: Whether the chat was read just now, so that another look would show nothing else.

        Returns:
            How it ended or paused; None while it goes on or that is to be found out.
        """
        if self._replies.withdrawn and self.withdrawn_here:
            return Outcome(End.HELD_UP, self._replies.last, pause=self.pause)
        if self._replies.withdrawn:
            detail = "the message was withdrawn before its turn came; it has no reply"
            return Outcome(End.LOST, self._replies.last, detail)
        if fresh and self._replies.overtaken and (last := self._replies.last) is not None and last.done:
            return self._finish(last, now, failed=last.status == MessageStatus.FAILED, fresh=True)
        if self._run.held_up and (self._run.queued or self._is_blank):
            return self._decide_held_up(now, fresh=fresh)
        if self._run.queued:
            return self._decide_queue(now, fresh=fresh)
        if self._run.phase is not Phase.ENDED or self._idles_for_a_call:
            return self._decide_pause(now, fresh=fresh)
        return self._decide_end(now, fresh=fresh)

    @property
    def is_over(self) -> bool:
        """Whether the end was said of this turn's run in so many words."""
        return self._run.phase is Phase.ENDED and self._run.counts and self._run.run.state in _FINAL_RUN

    @property
    def _idles_for_a_call(self) -> bool:
        """Whether what was said to be the end may be but an idle chat that waits for a call's result."""
        current = self._replies.current
        return not self.is_over and (self._calls.busy(current) or bool(self._calls.waiting(current)))

    @property
    def quiet_before_pause(self) -> float | None:
        """After how many seconds without anything the turn counts as paused; None while it would not."""
        if self.through_pauses:
            return None
        current = self._replies.current
        waits = self._calls.waiting(current) and not self.is_over and not self._calls.busy(current)
        return QUIET_BEFORE_PAUSE if waits else None

    # -- queued, or paused -----------------------------------------------------------------------------------------

    def _decide_queue(self, now: float, *, fresh: bool) -> Outcome | None:
        """The message waits behind another turn; where there is none any more, its own must come."""
        if not self.nothing_ran:
            self._schedule.unstuck()
        elif fresh and self._schedule.stuck(now) >= (LONG_PATIENCE if self._replies.seen_own else PATIENCE):
            return Outcome(End.LOST, None, "the message was queued, and nothing runs, but its turn never came")
        else:
            self._schedule.await_news(now, fresh=fresh)
        return None

    def _decide_held_up(self, now: float, *, fresh: bool) -> Outcome | None:
        """The run before waits for input, and this turn's with it."""
        if self.through_pauses:
            return None
        # A message that is not said to be queued may have its turn at any moment; the chat's state may be outdated.
        stuck = self._schedule.stuck(now) >= (PAUSE_PATIENCE if self._run.queued else PATIENCE)
        if fresh and (stuck or (self._run.queued and self.pause.needs_a_person)):
            return Outcome(End.HELD_UP, self._replies.last, pause=self.pause)
        self._schedule.await_news(now, fresh=fresh)
        return None

    @property
    def _is_blank(self) -> bool:
        """Whether nothing of the reply has come yet but a placeholder."""
        last = self._replies.last
        return last is None or not (last.done or last.content or last.tool_calls)

    def _paused(self, message: Message | None, now: float, *, fresh: bool) -> Outcome | None:
        """The turn waits for input; its message carries what a person is asked, read from the chat if need be."""
        if self.through_pauses:
            return None
        asks = message is not None and any(_asks_a_person(call) for call in message.tool_calls)
        if asks and not self._run.interrupts and not fresh and self._schedule.stuck(now) < PATIENCE:
            self._schedule.await_news(now, fresh=False)
            return None
        if message is not None:
            asked = tuple(each for each in questions(self._run.interrupts) if each.id not in self.resolved)
            if not asked and not message.paused:
                auth = self._run.run.state == RunState.AUTH_REQUIRED
                reason = InterruptReason.AUTH if auth else InterruptReason.UNKNOWN
                asked = (Interrupt(reason=reason, run_id=self._run.run.id, chat_id=message.chat_id),)
            message = attrs.evolve(message, pending_interrupts=asked)
        return Outcome(End.PAUSED, message)

    def _decide_pause(self, now: float, *, fresh: bool) -> Outcome | None:
        """The end was not said, or a call still waits for its result."""
        if self._calls.busy(self._replies.current):
            return None
        waiting = self._calls.waiting(self._replies.current)
        if waiting:
            if self._run.phase is Phase.PAUSED or self._schedule.quiet(now) >= QUIET_BEFORE_PAUSE:
                newest = max(reversed(waiting), key=lambda message: message.order)
                return self._paused(newest, now, fresh=fresh)
        elif self._run.phase is Phase.PAUSED:
            return self._decide_unexplained_pause(now, fresh=fresh)
        else:
            self._schedule.unstuck()
            last = self._replies.last
            if last is not None and last.done and not fresh:
                self._schedule.plan(now + QUIET_BEFORE_READ)
        return None

    def _decide_unexplained_pause(self, now: float, *, fresh: bool) -> Outcome | None:
        """The run waits, and for no call that is known: for one not seen yet, or answered since, or for a person."""
        stuck = self._schedule.stuck(now) >= PATIENCE
        outdated = bool(self._calls or self.resolved) and not self._is_held_up  # the pause may be one that is over
        if self._run.counts and ((fresh and (stuck or not outdated)) or (stuck and not outdated)):
            return self._paused(self._replies.last, now, fresh=fresh)
        if fresh and stuck and self._is_blank and not self._run.counts and not self.through_pauses:
            return Outcome(End.HELD_UP, self._replies.last, pause=self.pause)
        self._schedule.plan(now + (REREAD_EVERY if fresh else MISSING_BEFORE_READ))
        return None

    @property
    def _is_held_up(self) -> bool:
        """Whether the chat names something that the run waits for, is no call, and was not decided about here."""
        calls = {call.id for message in self._replies.current for call in message.tool_calls}
        others = [each for each in questions(self._run.interrupts) if each.resource_id not in calls]
        return any(each.id not in self.resolved for each in others)

    # -- over ------------------------------------------------------------------------------------------------------

    def _decide_end(self, now: float, *, fresh: bool) -> Outcome | None:
        """The end was said, of this turn's run or maybe of the one before."""
        last = self._replies.last
        if not self._run.counts:
            if self._schedule.stuck(now) >= LONG_PATIENCE and fresh:
                return self._give_up(last, failed=False)
            if last is not None and last.done and not fresh:
                self._schedule.plan(now + QUIET_BEFORE_READ)
            return None
        state = self._run.run.state
        failed = state in {RunState.FAILED, RunState.REJECTED}
        if self._schedule.misses and not fresh:
            self._schedule.wanted = True  # an earlier message may not be complete
            return None
        if last is not None and last.done:
            return self._finish(last, now, failed=failed or last.status == MessageStatus.FAILED, fresh=fresh)
        if (fresh and (failed or state == RunState.CANCELED)) or self._schedule.stuck(now) >= PATIENCE:
            return self._give_up(last, failed=failed)
        self._schedule.await_news(now, fresh=fresh)
        return None

    def _finish(self, last: Message, now: float, *, failed: bool, fresh: bool) -> Outcome | None:
        """The last message is final; where the run failed, its reason may still be on the way."""
        if not failed or self._run.run.state == RunState.CANCELED:
            return Outcome(End.FINISHED, last)
        if detail := self._run.run.error or _content_error(last):
            return Outcome(End.FAILED, last, detail)
        if fresh or self._schedule.stuck(now) >= PATIENCE:
            return Outcome(End.FAILED, last, "the server gave no reason")
        self._schedule.await_news(now, fresh=fresh)  # the reason may stand in the chat
        return None

    def _give_up(self, last: Message | None, *, failed: bool) -> Outcome:
        """The run is over and its reply will not become final any more."""
        if failed:
            return Outcome(End.FAILED, last, self._run.run.error or "the server gave no reason")
        if self._run.counts and self._run.run.state == RunState.CANCELED:
            return Outcome(End.FINISHED, self._cancelled(last))
        return Outcome(End.LOST, last, "the run is over, but its reply never became final")

    def _cancelled(self, last: Message | None) -> Message:
        """The last message as the cancelled one that the server did not send."""
        base = last or Message(id="", chat_id=self._replies.chat_id or "", run_id=self._run.run.id)
        return attrs.evolve(base, status=MessageStatus.CANCELLED, delta="")


def _asks_a_person(call: ToolCall) -> bool:
    """Whether a call waits for a person, and not for an approval."""
    return call.waits and not call.pending and call.status != ToolCallStatus.AWAITING_APPROVAL


def _content_error(message: Message) -> str:
    return next((block.error for block in message.content if block.error), "")


_DECISIVE = frozenset({Phase.PAUSED, Phase.ENDED})  # in these a message may decide; else most only bring more text


class Turn:
    """One turn of a chat.

    Args:
        chat_id: The chat's id, or None where the turn begins a new chat.
        after: The place in the chat (``order``) of the last message before the turn, or None when that is not known.
        earlier: Ids of messages that are known to be of earlier turns.
    """

    def __init__(
        self,
        chat_id: str | None,
        *,
        after: int | None = None,
        earlier: Iterable[str] = (),
    ) -> None:
        self.run = RunTracker(settled=chat_id is None)
        self.calls = CallLedger()
        self.replies = Replies(chat_id, self.run, self.calls.corrected, after=after, earlier=earlier)
        self.outcome: Outcome | None = None
        self.progress = 0  # grows with each snapshot; a reconnect that brings none has not helped
        self.last_delivered: Message | None = None
        self.driven = False  # whether somebody is at work on it
        self._schedule = PollSchedule()
        self._decider = OutcomeDecider(self.run, self.calls, self.replies, self._schedule)

    # -- what comes in ---------------------------------------------------------------------------------------------

    def begin(self, user: Message | None, assistant: Message | None, now: float) -> Message | None:
        """The user's message was posted: take in what the answer says.

        Args:
            user: The user's message, if the answer has it.
            assistant: The placeholder of the reply; absent while the message is queued.
            now: The present time.

        Returns:
            The snapshot to deliver, where the answer held more than a placeholder.
        """
        self._schedule.restart_quiet(now)
        queued = user is not None and user.status == MessageStatus.QUEUED
        run_id = (assistant.run_id if assistant is not None else "") or (user.run_id if user is not None else "")
        self.run.begin(user.id if user is not None else "", run_id, queued=queued)
        self.wants_reread = queued  # what it waits behind may itself be waiting for input
        return self._count(self.replies.begin(user, assistant))

    def receive_all(
        self, events: Iterable[Event | GrownLine | TextPiece], now: float, snapshots: list[Message], most: int
    ) -> list[UnreadableError]:
        """Take in events of the stream, up to one after which the caller has something to do.

        Args:
            events: The events; those that are not taken in are left in the iterator.
            now: The present time.
            snapshots: Where the snapshots to deliver are put.
            most: The number of snapshots there at which to stop.

        Returns:
            What could not be read.
        """
        self._schedule.heard(now)
        problems: list[UnreadableError] = []
        for event in events:
            live = self.replies.growing
            snapshot = live.extend(event) if live is not None else None
            if snapshot is not None:  # nearly always; more text decides nothing
                self.progress += 1
                self.last_delivered = snapshot
                snapshots.append(snapshot)
                if len(snapshots) >= most:
                    break
                continue
            try:
                snapshot = self._receive(event, now)
            except UnreadableError as error:
                problems.append(error)
                continue
            if snapshot is not None:
                snapshots.append(snapshot)
            if self.wants_action or len(snapshots) >= most:
                break
        return problems

    def receive(self, event: Event | GrownLine | TextPiece, now: float) -> Message | None:
        """Take in one event of the stream, as ``receive_all`` does, and return the snapshot to deliver, if any.

        Raises:
            UnreadableError: The event's data cannot be read as what it should be.
        """
        snapshots: list[Message] = []
        for problem in self.receive_all([event], now, snapshots, 1):
            raise problem
        return snapshots[0] if snapshots else None

    def _receive(self, event: Event | GrownLine | TextPiece, now: float) -> Message | None:
        if isinstance(event, GrownLine):
            event = Event(event="chat_messages", data=event.form.data)
        elif isinstance(event, tuple):
            message_id, seq, text = event
            event = Event(event="delta", data={"delta": {"response": text}, "seq": seq, "resource_id": message_id})
        name = event["event"]
        if name == "delta":
            snapshot = self._count(self.replies.take_delta(event["data"]))
        else:
            snapshot = self._receive_whole(name, event, now)
        if self.replies.missing:
            self.replies.missing = False
            self._schedule.miss(now)
        return snapshot

    def _receive_whole(self, name: str, event: Event, now: float) -> Message | None:
        """Take in an event with a message, or with the chat's or run's state."""
        snapshot = None
        if name == "chat_messages":
            snapshot = self._count(self.replies.take_event(event))
            self._schedule.planned = None
            if snapshot is None or snapshot.done or snapshot.tool_calls or self.run.phase in _DECISIVE or self.calls:
                self.calls.find(self.replies.current)
                self._evaluate(now)
        elif name in {"chats", "agent_runs"}:
            self._take_state(name, event)
            self._schedule.planned = None
            self._evaluate(now)
        return snapshot

    def reread(self, chat: Mapping[str, Any], messages: Iterable[Mapping[str, Any]], now: float) -> list[Message]:
        """Take in the chat and its messages as they were just read, the messages after the chat.

        Args:
            chat: The chat.
            messages: Its messages, in any order, at least those of this turn.
            now: The present time.

        Returns:
            The snapshots to deliver, in the order of the messages.

        Raises:
            UnreadableError: They cannot be read as what they should be.
        """
        self._schedule.read()
        self.replies.missing = False
        read = sorted((structure(data, Message) for data in messages), key=lambda message: message.order)
        snapshots = [self._count(self.replies.take(message, in_stream=False)) for message in read]
        snapshots += [self._count(snapshot) for snapshot in self.replies.take_said_final()]
        self.calls.find(self.replies.current)
        if self.replied:
            self.run.settle()
        if self.run.queued:
            self._decider.nothing_ran = not goes_on(chat)
            self.replies.look_for_own(read)
        if not (self._decider.is_over and self.replied and goes_on(chat)):  # else the stream knows better
            self.run.take_chat(chat)
        self._decider.pause = Pause.of_chat(read, structure(chat, Chat).pending_interrupts)
        if self.through_pauses and Phase.PAUSED in {self.run.phase, phase_of(chat)}:
            self.progress += 1  # that the pause lasts is all the news that a new connection can bring
        self._evaluate(now, fresh=True)
        self._schedule.restart_quiet(now)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def reread_failed(self, now: float) -> list[Message]:
        """The chat cannot be read: go by what the stream brings, and look again later; returns snapshots to deliver."""
        self._schedule.read()
        self._schedule.plan(now + REREAD_EVERY)
        snapshots = self.replies.take_said_final()
        for snapshot in snapshots:
            self._count(snapshot)
        self._evaluate(now)
        return snapshots

    def tick(self, now: float) -> None:
        """The deadline has come, or may have."""
        self._schedule.tick(now)
        self._evaluate(now)
        if self.outcome is None:
            self._schedule.tick_silence(now)

    def reconnected(self) -> None:
        """The stream was lost and opened anew."""
        self.replies.reconnected()
        self.wants_reread = True

    def unreadable(self) -> None:
        """The stream brought something that could not be read: what it was has to be read another way."""
        self.replies.distrust()
        self.wants_reread = True

    # -- tool calls ------------------------------------------------------------------------------------------------

    def call_declined(self, call_id: str, now: float, step: Step = Step.RESULT) -> None:
        """No handler and no callback has answered a call: it is for the reader of this turn to answer."""
        self.calls.decline(call_id, step)
        self._evaluate(now)

    def call_answered(self, call_id: str, now: float) -> None:
        """The server has acknowledged a call's result; a pause for it is over."""
        self.calls.answer(call_id)
        self._was_helped_on(now)

    def call_decided(self, call_id: str, now: float, *, approved: bool | None) -> None:
        """The server has a call's approval or rejection, None for either; a pause for it is over."""
        self.calls.decide(call_id, approved=approved)
        self._was_helped_on(now)

    def interrupt_resolved(self, interrupt: Interrupt, now: float, *, allowed: bool) -> None:
        """The server has acknowledged a decision about an interrupt; a pause for it is over."""
        self._decider.resolved.add(interrupt.id)
        for each in (interrupt, *self.run.interrupts):  # an answer to the decision may say no more than its id
            if each.id != interrupt.id or not each.resource_id:
                continue
            if each.reason == InterruptReason.TOOL_APPROVAL:
                self.calls.decide(each.resource_id, approved=allowed)
            elif each.reason in {InterruptReason.CONFIRMATION, InterruptReason.AUTH}:
                self.calls.confirm(each.resource_id, allowed=allowed)
        self._was_helped_on(now)

    def _was_helped_on(self, now: float) -> None:
        """Something that the run waited for has come: what is still said of that pause is outdated."""
        self.replies.amend_calls()
        if self.run.phase is Phase.PAUSED and not self.calls.waiting(self.replies.current):
            self.run.phase = Phase.UNKNOWN
        self._schedule.restart_quiet(now)
        self._evaluate(now)

    def resume(self, now: float) -> None:
        """Go on after a pause: what was said of it no longer counts, the state is read again."""
        self.outcome = None
        self.calls.reopen()
        self._schedule.resume(now)

    def withdrawal_refused(self, now: float) -> None:
        """The message is not queued any more: its turn has come, or it was withdrawn; the chat tells which."""
        self._decider.withdrawn_here = True
        self.resume(now)

    def next(self) -> Turn:
        """A turn that follows this one in its chat, not begun yet."""
        return Turn(self.chat_id, after=self.replies.last_order, earlier=self.replies.unordered_ids)

    @classmethod
    def latest(cls, chat_id: str, messages: Iterable[Mapping[str, Any]], now: float) -> Turn:
        """The turn that a chat's messages end with, for a caller who has not begun it.

        Args:
            chat_id: The chat's id.
            messages: Its latest messages, in any order, at least back to the last one of the user.
            now: The present time.
        """
        turn = cls(chat_id)
        users = [m for m in (structure(data, Message) for data in messages) if m.role == Role.USER]
        users = [m for m in users if m.status not in {MessageStatus.QUEUED, MessageStatus.CANCELLED}]
        turn.begin(max(users, key=lambda message: message.order, default=None), None, now)
        turn.run.settle()  # the chat's state is this turn's: there is no later one
        return turn

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is to be called if nothing arrives before."""
        return self._schedule.deadline(self._decider.quiet_before_pause)

    @property
    def wants_reread(self) -> bool:
        """Whether the chat is to be read now; whoever cannot, or knows that it has to be, sets it."""
        return self._schedule.wanted

    @wants_reread.setter
    def wants_reread(self, wanted: bool) -> None:
        self._schedule.wanted = wanted

    @property
    def wants_action(self) -> bool:
        """Whether the caller has something to do before it feeds more events."""
        return self._schedule.wanted or self.outcome is not None or self.calls.has_new

    @property
    def through_pauses(self) -> bool:
        """Whether a pause is for others to end, so that the turn goes on being read."""
        return self._decider.through_pauses

    @through_pauses.setter
    def through_pauses(self, through: bool) -> None:
        self._decider.through_pauses = through

    @property
    def may_be_withdrawn(self) -> bool:
        """Whether its message is queued, and nobody has tried to withdraw it yet."""
        return self.run.queued and not self._decider.withdrawn_here

    @property
    def is_current(self) -> bool:
        """Whether it goes on or is paused, so that it can be taken up again."""
        return self.outcome is None or self.outcome.end is End.PAUSED

    @property
    def was_refused(self) -> bool:
        """Whether its message came after a run that waits for input, and got no turn."""
        return self.outcome is not None and self.outcome.end is End.HELD_UP

    @property
    def replied(self) -> bool:
        """Whether the last message of the turn so far is final."""
        last = self.replies.last
        return last is not None and last.done

    @property
    def chat_id(self) -> str | None:
        """The chat's id, or None where it is not known yet."""
        return self.replies.chat_id

    def _take_state(self, name: str, event: Event) -> None:
        """Take in a ``chats`` or ``agent_runs`` event, unless it is about another chat, such as a sub-agent's."""
        data = event["data"]
        if not self.replies.of_this_chat(data.get("id" if name == "chats" else "chat_id")):
            return
        if self.replied:
            self.run.settle()
        take = self.run.take_chat if name == "chats" else self.run.take_run
        take(data, tuple(event.get("fields", ())))

    def _count(self, snapshot: Message | None) -> Message | None:
        if snapshot is not None:
            self.progress += 1
            self.last_delivered = snapshot
        return snapshot

    def _evaluate(self, now: float, *, fresh: bool = False) -> None:
        """See whether the turn is over or paused; ``fresh`` is whether the chat was read just now."""
        if self.outcome is None:
            self.outcome = self._decider.decide(now, fresh=fresh)

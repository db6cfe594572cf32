"""The decision whether a turn is finished, failed, paused or lost, and when to poll the chat to find out.

``OutcomeDecider`` decides from the state of the run, the replies and the tool calls. ``PollSchedule`` holds the times
at which to read the chat because the stream alone does not tell.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import attrs

from inferencesh.errors import InputRequiredError
from inferencesh.models import (
    Interrupt,
    InterruptReason,
    InterruptStatus,
    Message,
    MessageStatus,
    RunState,
    ToolCall,
    ToolCallStatus,
)

from .calls import CallLedger, Ids
from .replies import Replies
from .run import Phase, RunTracker

__all__ = [
    "MISSING_DELAY",
    "POLL_INTERVAL",
    "End",
    "Outcome",
    "OutcomeDecider",
    "Pause",
    "PollSchedule",
    "pending_decisions",
]

# Seconds to wait for the server to confirm something before deciding without it.
QUIET_BEFORE_PAUSE = 0.5  # a call waits for its result, and the state of the run is not known
QUIET_BEFORE_READ = 1.0  # the reply is final, and the state of the run is not known
HELD_UP_TIMEOUT = 2.0  # the run before waits for a tool's result, which another program may be about to submit
STUCK_TIMEOUT = 5.0  # the run is over, and its reply is not final
LONG_STUCK_TIMEOUT = 60.0  # the same, where the run that ended may be that of another turn

_FINAL_RUN = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED, RunState.REJECTED})

# Seconds between reads of the chat.
MISSING_DELAY = 0.3  # deltas or updates arrived for a message that is not known
FIRST_SILENCE = 2.0  # no event at all; doubles up to MAX_SILENCE
SILENCE = 10.0  # no further event; doubles up to MAX_SILENCE
MAX_SILENCE = 60.0
POLL_INTERVAL = 1.0  # while the turn is stuck


class End(enum.Enum):
    """How a turn has ended."""

    FINISHED = "its reply is final"
    PAUSED = "it waits for input"
    FAILED = "its run failed"
    HELD_UP = "its message comes after a run that waits for input"
    LOST = "its run is over, but no final reply came"


@attrs.frozen
class Outcome:
    """The end of a turn, or a pause.

    Attributes:
        end: How the turn has ended.
        message: The final message, or the one that waits for input; None if there is none.
        detail: Why the turn failed or was lost, else "".
        pause: What the run before this turn waits for, where that holds the turn up, else None.
    """

    end: End
    message: Message | None = None
    detail: str = ""
    pause: Pause | None = None


_CALL_REASONS = frozenset({InterruptReason.TOOL_APPROVAL, InterruptReason.CLIENT_TOOL, InterruptReason.WIDGET})

_MAX_NAMED = 5  # tool calls or interrupts in an error's text


@attrs.frozen
class Pause:
    """What a paused run waits for.

    Attributes:
        message: The message that waits for input, or None if it is not known.
        interrupts: The pending interrupts that are not about a tool call.
    """

    message: Message | None = None
    interrupts: tuple[Interrupt, ...] = ()

    @classmethod
    def of_chat(cls, messages: Iterable[Message], interrupts: Iterable[Interrupt]) -> Pause:
        """Return the pause of a chat from its messages and interrupts."""
        waiting = [message for message in messages if message.paused]
        return cls(max(waiting, key=lambda message: message.order, default=None), pending_decisions(interrupts))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that wait for their results."""
        return self.message.pending_tool_calls if self.message is not None else ()

    @property
    def approvals(self) -> tuple[ToolCall, ...]:
        """The calls that wait for approval."""
        return self.message.pending_approvals if self.message is not None else ()

    @property
    def needs_person(self) -> bool:
        """Whether it waits for anything but the results of client tools."""
        others = self.message is not None and any(call.waits and not call.pending for call in self.message.tool_calls)
        return others or bool(self.interrupts)

    def error(self, before: str, after: str) -> InputRequiredError:
        """Return the error that says what it waits for, between the two given parts of the sentence."""
        error = InputRequiredError(f"{before} waits for {self._described()}{after}")
        error.message = self.message
        error.pending_tool_calls = self.tool_calls
        error.pending_approvals = self.approvals
        error.pending_interrupts = self.interrupts
        return error

    def _described(self) -> str:
        waits = []
        if self.tool_calls:
            waits.append(f"the result of {_named(self.tool_calls)} through submit_tool_result")
        if self.approvals:
            waits.append(f"the approval of {_named(self.approvals)} through approve_tool or reject_tool")
        if self.interrupts:
            shown = [f"{each.reason.value:.60} ({each.id:.60})" for each in self.interrupts[:_MAX_NAMED]]
            more = " and others" if len(self.interrupts) > _MAX_NAMED else ""
            waits.append(f"a decision about {', '.join(shown)}{more} through resolve_interrupt")
        return " and ".join(waits) or "input (see pending_interrupts of the chat)"


def pending_decisions(interrupts: Iterable[Interrupt]) -> tuple[Interrupt, ...]:
    """Return the interrupts that are pending and resolved by a decision, not through a tool call."""
    return tuple(
        each for each in interrupts if each.status == InterruptStatus.PENDING and each.reason not in _CALL_REASONS
    )


def _named(calls: Sequence[ToolCall]) -> str:
    names = [f"{call.name:.60} ({call.id:.60})" for call in calls[:_MAX_NAMED]]
    return ", ".join(names) + (" and others" if len(calls) > _MAX_NAMED else "")


class OutcomeDecider:
    """The decision whether a turn is over or paused. Where it cannot be made yet, it schedules a read of the chat.

    Args:
        run: The run of the turn.
        calls: The turn's tool calls.
        replies: The turn's messages.
        schedule: The poll schedule of the chat.

    Attributes:
        resolved: Ids of the interrupts that this client has resolved.
        through_pauses: Whether to continue through pauses, because somebody else will provide the input.
        pause: What the chat waited for when it was last read.
        withdrawn_here: Whether this client has tried to withdraw the turn's message because of that pause.
        nothing_ran: Whether no run was active when the chat was last read.
    """

    def __init__(self, run: RunTracker, calls: CallLedger, replies: Replies, schedule: PollSchedule) -> None:
        self.resolved: Ids = {}
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
            now: The current time, in seconds of any origin.
            fresh: Whether the chat was read just now, so that reading it again would not help.

        Returns:
            The outcome, or None while the turn continues or the outcome is not known.
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
        """Whether the server has reported a final state of this very run."""
        return self._run.phase is Phase.ENDED and self._run.counts and self._run.run.state in _FINAL_RUN

    @property
    def _idles_for_a_call(self) -> bool:
        """Whether the chat may be idle only because it waits for the result of a call."""
        current = self._replies.current
        return not self.is_over and (self._calls.busy(current) or bool(self._calls.waiting(current)))

    @property
    def quiet_before_pause(self) -> float | None:
        """The seconds without an event after which the turn counts as paused, or None if it does not."""
        if self.through_pauses:
            return None
        current = self._replies.current
        waits = self._calls.waiting(current) and not self.is_over and not self._calls.busy(current)
        return QUIET_BEFORE_PAUSE if waits else None

    # -- queued or paused

    def _decide_queue(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide about a queued message: once no other turn runs, its own has to begin soon."""
        if not self.nothing_ran:
            self._schedule.reset_stuck()
        elif fresh and self._schedule.stuck(now) >= (LONG_STUCK_TIMEOUT if self._replies.seen_own else STUCK_TIMEOUT):
            return Outcome(End.LOST, None, "the message was queued, and nothing runs, but its turn never came")
        else:
            self._schedule.poll(now, fresh=fresh)
        return None

    def _decide_held_up(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide about a turn that has to wait because the run before it waits for input."""
        if self.through_pauses:
            return None
        # A message that is not reported as queued may begin at any moment: the state of the chat may be outdated.
        stuck = self._schedule.stuck(now) >= (HELD_UP_TIMEOUT if self._run.queued else STUCK_TIMEOUT)
        if fresh and (stuck or (self._run.queued and self.pause.needs_person)):
            return Outcome(End.HELD_UP, self._replies.last, pause=self.pause)
        self._schedule.poll(now, fresh=fresh)
        return None

    @property
    def _is_blank(self) -> bool:
        """Whether the reply has not begun: there is at most a placeholder."""
        last = self._replies.last
        return last is None or not (last.done or last.content or last.tool_calls)

    def _paused(self, message: Message | None, now: float, *, fresh: bool) -> Outcome | None:
        """Return the pause, with the interrupts to resolve in its message; read the chat for them if necessary."""
        if self.through_pauses:
            return None
        asks = message is not None and any(_asks_a_person(call) for call in message.tool_calls)
        if asks and not self._run.interrupts and not fresh and self._schedule.stuck(now) < STUCK_TIMEOUT:
            self._schedule.poll(now, fresh=False)
            return None
        if message is not None:
            asked = tuple(each for each in pending_decisions(self._run.interrupts) if each.id not in self.resolved)
            if not asked and not message.paused:
                auth = self._run.run.state == RunState.AUTH_REQUIRED
                reason = InterruptReason.AUTH if auth else InterruptReason.UNKNOWN
                asked = (Interrupt(reason=reason, run_id=self._run.run.id, chat_id=message.chat_id),)
            message = attrs.evolve(message, pending_interrupts=asked)
        return Outcome(End.PAUSED, message)

    def _decide_pause(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide about a run that is not reported as ended, or that has a call waiting for its result."""
        if self._calls.busy(self._replies.current):
            return None
        waiting = self._calls.waiting(self._replies.current)
        if waiting:
            if self._run.phase is Phase.PAUSED or self._schedule.silence(now) >= QUIET_BEFORE_PAUSE:
                newest = max(reversed(waiting), key=lambda message: message.order)
                return self._paused(newest, now, fresh=fresh)
        elif self._run.phase is Phase.PAUSED:
            return self._decide_unexplained_pause(now, fresh=fresh)
        else:
            self._schedule.reset_stuck()
            last = self._replies.last
            if last is not None and last.done and not fresh:
                self._schedule.plan(now + QUIET_BEFORE_READ)
        return None

    def _decide_unexplained_pause(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide about a paused run without a waiting call: the call is not known yet or answered, or it is no call."""
        stuck = self._schedule.stuck(now) >= STUCK_TIMEOUT
        # Of a turn that was found in the chat, the calls that were answered before are in its messages only.
        calls = self._calls or any(message.tool_calls for message in self._replies.current)
        outdated = bool(calls or self.resolved) and not self._is_held_up  # the reported pause may be over
        if self._run.counts and ((fresh and (stuck or not outdated)) or (stuck and not outdated)):
            return self._paused(self._replies.last, now, fresh=fresh)
        if fresh and stuck and self._is_blank and not self._run.counts and not self.through_pauses:
            return Outcome(End.HELD_UP, self._replies.last, pause=self.pause)
        self._schedule.plan(now + (POLL_INTERVAL if fresh else MISSING_DELAY))
        return None

    @property
    def _is_held_up(self) -> bool:
        """Whether the chat has a pending interrupt that is not about a call and was not resolved by this client."""
        calls = {call.id for message in self._replies.current for call in message.tool_calls}
        others = [each for each in pending_decisions(self._run.interrupts) if each.resource_id not in calls]
        return any(each.id not in self.resolved for each in others)

    # -- ended

    def _decide_end(self, now: float, *, fresh: bool) -> Outcome | None:
        """Decide about a run that is reported as ended, which may be that of the turn before."""
        last = self._replies.last
        if not self._run.counts:
            if self._schedule.stuck(now) >= LONG_STUCK_TIMEOUT and fresh:
                return self._give_up(last, failed=False)
            if last is not None and last.done and not fresh:
                self._schedule.plan(now + QUIET_BEFORE_READ)
            return None
        state = self._run.run.state
        failed = state in {RunState.FAILED, RunState.REJECTED}
        if self._schedule.has_missing and not fresh:
            self._schedule.wanted = True  # an earlier message may not be complete
            return None
        if last is not None and last.done:
            return self._finish(last, now, failed=failed or last.status == MessageStatus.FAILED, fresh=fresh)
        if (fresh and (failed or state == RunState.CANCELED)) or self._schedule.stuck(now) >= STUCK_TIMEOUT:
            return self._give_up(last, failed=failed)
        self._schedule.poll(now, fresh=fresh)
        return None

    def _finish(self, last: Message, now: float, *, failed: bool, fresh: bool) -> Outcome | None:
        """Return the outcome for a final message, once the reason of a failure is known or cannot be found."""
        if not failed or self._run.run.state == RunState.CANCELED:
            return Outcome(End.FINISHED, last)
        if detail := self._run.run.error or _content_error(last):
            return Outcome(End.FAILED, last, detail)
        if fresh or self._schedule.stuck(now) >= STUCK_TIMEOUT:
            return Outcome(End.FAILED, last, "the server gave no reason")
        self._schedule.poll(now, fresh=fresh)  # the chat may have the reason
        return None

    def _give_up(self, last: Message | None, *, failed: bool) -> Outcome:
        """Return the outcome for a run that is over without a final reply."""
        if failed:
            return Outcome(End.FAILED, last, self._run.run.error or "the server gave no reason")
        if self._run.counts and self._run.run.state == RunState.CANCELED:
            return Outcome(End.FINISHED, self._cancelled(last))
        return Outcome(End.LOST, last, "the run is over, but its reply never became final")

    def _cancelled(self, last: Message | None) -> Message:
        """Return the last message as cancelled, where the server did not send it so."""
        base = last or Message(id="", chat_id=self._replies.chat_id or "", run_id=self._run.run.id)
        return attrs.evolve(base, status=MessageStatus.CANCELLED, delta="")


def _asks_a_person(call: ToolCall) -> bool:
    """Whether a call waits for the answer of a person, other than an approval."""
    return call.waits and not call.pending and call.status != ToolCallStatus.AWAITING_APPROVAL


def _content_error(message: Message) -> str:
    return next((block.error for block in message.content if block.error), "")


class PollSchedule:
    """The times at which to read the chat because the stream alone may not tell the turn's state.

    Attributes:
        wanted: Whether to read the chat now.
        planned: When to read it unless an event settles the question before, or None.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.planned: float | None = None
        self._last_event = 0.0
        self._silence = FIRST_SILENCE
        self._missing_since: float | None = None
        self._stuck_since: float | None = None

    def event_received(self, now: float) -> None:
        """Note that an event was received."""
        self._last_event = now
        self._silence = SILENCE

    def restart_silence(self, now: float) -> None:
        """Restart the wait for events, since a request was made whose effects take time to arrive."""
        self._last_event = now

    def add_missing(self, now: float) -> None:
        """Note that something is missing, and read the chat unless the stream brings it shortly."""
        if self._missing_since is None:
            self._missing_since = now

    def chat_read(self) -> None:
        """Note that the chat was read or cannot be read."""
        self.wanted = False
        self.planned = None
        self._missing_since = None

    def resume(self, now: float) -> None:
        """Start again after a pause, with a read of the chat."""
        self.wanted = True
        self._stuck_since = None
        self._silence = FIRST_SILENCE
        self._last_event = now

    def plan(self, moment: float) -> None:
        """Plan a read of the chat, unless one is planned already."""
        if self.planned is None:
            self.planned = moment

    def poll(self, now: float, *, fresh: bool) -> None:
        """Read the chat now, and then at intervals; ``fresh`` is whether it was read just now."""
        if self.planned is None and not self.wanted:
            if fresh:
                self.planned = now + POLL_INTERVAL
            else:
                self.wanted = True

    def tick(self, now: float) -> None:
        """Request a read of the chat if one is due."""
        if self.planned is not None and now >= self.planned:
            self.planned = None
            self.wanted = True
        if self._missing_since is not None and now >= self._missing_since + MISSING_DELAY:
            self._missing_since = None
            self.wanted = True

    def tick_silence(self, now: float) -> None:
        """Request a read of the chat after a long silence; the interval doubles each time."""
        if now - self._last_event >= self._silence:
            self._silence = min(self._silence * 2, MAX_SILENCE)
            self._last_event = now
            self.wanted = True

    @property
    def has_missing(self) -> bool:
        """Whether something is missing that the stream may still bring."""
        return self._missing_since is not None

    def silence(self, now: float) -> float:
        """Return the seconds since the last event."""
        return now - self._last_event

    def stuck(self, now: float) -> float:
        """Return the seconds since the turn began to be stuck, which is the first call of this method."""
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since

    def reset_stuck(self) -> None:
        """Note that the turn is not stuck."""
        self._stuck_since = None

    def deadline(self, quiet: float | None) -> float:
        """Return the time of the next ``tick`` if no event arrives before.

        Args:
            quiet: The seconds without an event after which the caller needs one, or None.
        """
        moments = [self._last_event + self._silence]
        if self.planned is not None:
            moments.append(self.planned)
        if self._missing_since is not None:
            moments.append(self._missing_since + MISSING_DELAY)
        if quiet is not None:
            moments.append(self._last_event + quiet)
        return min(moments)

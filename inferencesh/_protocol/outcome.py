"""The decision whether a turn is finished, failed, paused or lost, and when to poll the chat to find out.

``OutcomeDecider`` decides from the state of the run, the replies and the tool calls; ``PollSchedule`` says when the chat
has to be read again because the stream alone does not tell.
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

from .calls import CallLedger
from .replies import Replies
from .run import Phase, RunTracker

__all__ = [
    "ABOUT_CALLS",
    "MISSING_BEFORE_READ",
    "REREAD_EVERY",
    "End",
    "Outcome",
    "OutcomeDecider",
    "Pause",
    "PollSchedule",
    "questions",
]

# Seconds to wait for the server to confirm something before deciding without it.
QUIET_BEFORE_PAUSE = 0.5  # a call waits for its result and the run's state was not said
QUIET_BEFORE_READ = 1.0  # the reply is final and the run's state was not said
PAUSE_PATIENCE = 2.0  # the run before waits for a tool's result, which another program may be about to give
PATIENCE = 5.0  # the run is over and its reply is not final
LONG_PATIENCE = 60.0  # the same where nothing shows that the ended run was this turn's

_FINAL_RUN = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED, RunState.REJECTED})

# Seconds, of the poll schedule.
MISSING_BEFORE_READ = 0.3  # deltas or updates came for a message that is not known well enough
FIRST_SILENCE = 2.0  # nothing at all has come; doubles up to LONGEST_SILENCE
SILENCE = 10.0  # nothing more has come; doubles up to LONGEST_SILENCE
LONGEST_SILENCE = 60.0
REREAD_EVERY = 1.0  # while waiting for what must come soon


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

"""The state machine of one turn: events in; snapshots, tool calls and the end or a pause out. No I/O and no clock.

A turn begins with a user message and ends when its run does. The caller feeds events and what it re-read, and passes
the present time (seconds, any origin) to each call. It then looks at what the turn wants: calls to be taken care of
(``calls.take()``), a re-read of the chat (``wants_reread``), to be woken at ``deadline``, or, once ``outcome`` is set,
nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .calls import CallLedger, Step
from .converter import structure
from .models import Interrupt, InterruptReason, InterruptStatus, Message, MessageStatus, Role, RunState
from .replies import Replies
from .run_state import Phase, RunTracker, goes_on
from .wire import Event

__all__ = ["End", "Outcome", "Turn"]

# Seconds. They bound how long a server that says less than others makes a caller wait, never how long a run may take.
QUIET_BEFORE_PAUSE = 0.5  # a call waits for its result and the run's state was not said
QUIET_BEFORE_READ = 1.0  # the reply is final and the run's state was not said
MISSING_BEFORE_READ = 0.3  # deltas or updates came for a message that is not known well enough
FIRST_SILENCE = 2.0  # nothing at all has come; doubles up to LONGEST_SILENCE
SILENCE = 10.0  # nothing more has come; doubles up to LONGEST_SILENCE
LONGEST_SILENCE = 60.0
PATIENCE = 5.0  # the run is over and its reply is not final
LONG_PATIENCE = 60.0  # the same where nothing shows that the ended run was this turn's
REREAD_EVERY = 1.0  # while waiting for what must come soon


_FINAL_RUN = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED, RunState.REJECTED})
_ABOUT_CALLS = frozenset({InterruptReason.TOOL_APPROVAL, InterruptReason.CLIENT_TOOL, InterruptReason.WIDGET})
_DECISIVE = frozenset({Phase.PAUSED, Phase.ENDED})  # in these a message may decide; else most only bring more text


class End(enum.Enum):
    """How a turn ended."""

    FINISHED = "its reply is final"
    PAUSED = "it waits for input"
    FAILED = "its run failed"
    LOST = "its run is over, but no final reply came"


@attrs.frozen
class Outcome:
    """The end of a turn, or of the part of it until a pause.

    Attributes:
        end: How it ended.
        message: The final message, or the one that waits for input; None when there is none.
        detail: Why it failed or was lost; "" otherwise.
    """

    end: End
    message: Message | None = None
    detail: str = ""


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
        self.wants_reread = False
        self.progress = 0  # grows with each snapshot; a reconnect that brings none has not helped
        self.last_delivered: Message | None = None
        self.driven = False  # whether somebody is at work on it
        self._last_event = 0.0
        self._silence = FIRST_SILENCE
        self._missing_since: float | None = None
        self._stuck_since: float | None = None
        self._resolved: set[str] = set()  # ids of interrupts that were decided about here
        self._nothing_ran = False  # whether the chat, when it was read, had nothing that a queued message waits for
        self._reread_at: float | None = None

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
        self._last_event = now
        queued = user is not None and user.status == MessageStatus.QUEUED
        run_id = (assistant.run_id if assistant is not None else "") or (user.run_id if user is not None else "")
        self.run.begin(user.id if user is not None else "", run_id, queued=queued)
        return self._count(self.replies.begin(user, assistant))

    def receive(self, event: Event, now: float) -> Message | None:
        """Take in one event of the stream.

        Args:
            event: The event.
            now: The present time.

        Returns:
            The snapshot to deliver, if there is one.

        Raises:
            UnreadableError: Its data cannot be read as what it should be.
        """
        self._last_event = now
        self._silence = SILENCE
        snapshot = None
        if event.name == "delta":
            snapshot = self._count(self.replies.take_delta(event.data))
        elif event.name == "chat_messages":
            snapshot = self._count(self.replies.take_event(event))
            self._reread_at = None
            if snapshot is None or snapshot.done or snapshot.tool_calls or self.run.phase in _DECISIVE or self.calls:
                self.calls.find(self.replies.current)
                self._evaluate(now)
        elif event.name in {"chats", "agent_runs"}:
            self._take_state(event)
            self._reread_at = None
            self._evaluate(now)
        if self.replies.missing:
            self._note_missing(now)
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
        self.wants_reread = False
        self._reread_at = None
        self._missing_since = None
        self.replies.missing = False
        read = sorted((structure(data, Message) for data in messages), key=lambda message: message.order)
        snapshots = [self._count(self.replies.take(message, in_stream=False)) for message in read]
        snapshots += [self._count(snapshot) for snapshot in self.replies.take_said_final()]
        self.calls.find(self.replies.current)
        if self.replied:
            self.run.settle()
        if self.run.queued:
            self._nothing_ran = not goes_on(chat)
            self.replies.look_for_own(read)
        if not (self._is_over and self.replied and goes_on(chat)):  # else the stream knows better
            self.run.take_chat(chat)
        self._evaluate(now, fresh=True)
        self._last_event = now
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def reread_failed(self, now: float) -> list[Message]:
        """The chat cannot be read: go by what the stream brings, and look again later; returns snapshots to deliver."""
        self.wants_reread = False
        self._missing_since = None
        self._reread_at = now + REREAD_EVERY
        snapshots = self.replies.take_said_final()
        for snapshot in snapshots:
            self._count(snapshot)
        self._evaluate(now)
        return snapshots

    def tick(self, now: float) -> None:
        """The deadline has come, or may have."""
        if self._reread_at is not None and now >= self._reread_at:
            self._reread_at = None
            self.wants_reread = True
        if self._missing_since is not None and now >= self._missing_since + MISSING_BEFORE_READ:
            self._missing_since = None
            self.wants_reread = True
        self._evaluate(now)
        if self.outcome is None and now - self._last_event >= self._silence:
            self._silence = min(self._silence * 2, LONGEST_SILENCE)
            self._last_event = now
            self.wants_reread = True

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
        self._resolved.add(interrupt.id)
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
        self._last_event = now
        self._evaluate(now)

    def resume(self, now: float) -> None:
        """Go on after a pause: what was said of it no longer counts, the state is read again."""
        self.outcome = None
        self.calls.reopen()
        self._stuck_since = None
        self._silence = FIRST_SILENCE
        self._last_event = now
        self.wants_reread = True

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
        moments = [self._last_event + self._silence]
        if self._reread_at is not None:
            moments.append(self._reread_at)
        if self._missing_since is not None:
            moments.append(self._missing_since + MISSING_BEFORE_READ)
        if self.calls.waiting(self.replies.current) and not self._is_over and not self.calls.busy(self.replies.current):
            moments.append(self._last_event + QUIET_BEFORE_PAUSE)
        return min(moments)

    @property
    def wants_action(self) -> bool:
        """Whether the caller has something to do before it feeds more events."""
        return self.wants_reread or self.outcome is not None or self.calls.has_new

    @property
    def waits_for_caller(self) -> bool:
        """Whether the turn is paused for results of client tools, or for approvals."""
        paused = self.outcome is not None and self.outcome.end is End.PAUSED
        return paused and any(each.pending_tool_calls or each.pending_approvals for each in self.replies.current)

    @property
    def replied(self) -> bool:
        """Whether the last message of the turn so far is final."""
        last = self.replies.last
        return last is not None and last.done

    @property
    def chat_id(self) -> str | None:
        """The chat's id, or None where it is not known yet."""
        return self.replies.chat_id

    def _take_state(self, event: Event) -> None:
        """Take in what an event says about the run."""
        if not self.replies.of_this_chat(event.data.get("id" if event.name == "chats" else "chat_id")):
            return
        if self.replied:
            self.run.settle()
        take = self.run.take_chat if event.name == "chats" else self.run.take_run
        take(event.data, event.fields)

    def _note_missing(self, now: float) -> None:
        """Something will have to be read, unless the stream brings it in a moment."""
        self.replies.missing = False
        if self._missing_since is None:
            self._missing_since = now

    def _count(self, snapshot: Message | None) -> Message | None:
        if snapshot is not None:
            self.progress += 1
            self.last_delivered = snapshot
        return snapshot

    # -- the end ---------------------------------------------------------------------------------------------------

    def _evaluate(self, now: float, *, fresh: bool = False) -> None:
        """Decide whether the turn is over or paused, or what is to be found out."""
        if self.outcome is not None:
            return
        if self.replies.withdrawn:
            self.outcome = Outcome(
                End.LOST, self.replies.last, "the message was withdrawn before its turn came; it has no reply"
            )
        elif fresh and self.replies.overtaken and (last := self.replies.last) is not None and last.done:
            self._finish(last, now, failed=last.status == MessageStatus.FAILED, fresh=True)
        elif self.run.queued:
            self._evaluate_queue(now, fresh=fresh)
        elif self.run.phase is Phase.ENDED:
            self._evaluate_end(now, fresh=fresh)
        else:
            self._evaluate_pause(now, fresh=fresh)

    def _evaluate_queue(self, now: float, *, fresh: bool) -> None:
        """The message waits behind another turn; where there is none any more, its own must come."""
        if not self._nothing_ran:
            self._stuck_since = None
        elif fresh and self._stuck(now) >= (LONG_PATIENCE if self.replies.seen_own else PATIENCE):
            self.outcome = Outcome(End.LOST, None, "the message was queued, and nothing runs, but its turn never came")
        else:
            self._await_news(now, fresh=fresh)

    def _evaluate_pause(self, now: float, *, fresh: bool) -> None:
        if self.calls.busy(self.replies.current):
            return
        waiting = self.calls.waiting(self.replies.current)
        if waiting:
            if self.run.phase is Phase.PAUSED or now - self._last_event >= QUIET_BEFORE_PAUSE:
                self.outcome = Outcome(End.PAUSED, max(reversed(waiting), key=lambda message: message.order))
        elif self.run.phase is Phase.PAUSED:
            self._evaluate_unexplained_pause(now, fresh=fresh)
        else:
            self._stuck_since = None
            last = self.replies.last
            if last is not None and last.done and self._reread_at is None and not fresh:
                self._reread_at = now + QUIET_BEFORE_READ

    def _evaluate_unexplained_pause(self, now: float, *, fresh: bool) -> None:
        """The run waits, and for no call that is known: for one not seen yet, or answered since, or for a person."""
        stuck = self._stuck(now) >= PATIENCE
        outdated = bool(self.calls or self._resolved) and not self._is_held_up  # the pause may be one that is over
        if self.run.counts and ((fresh and (stuck or not outdated)) or (stuck and not outdated)):
            self.outcome = Outcome(End.PAUSED, self.replies.last)
        elif self._reread_at is None:
            self._reread_at = now + (REREAD_EVERY if fresh else MISSING_BEFORE_READ)

    @property
    def _is_held_up(self) -> bool:
        """Whether the chat names something that the run waits for, is no call, and was not decided about here."""
        calls = {call.id for message in self.replies.current for call in message.tool_calls}
        pending = [each for each in self.run.interrupts if each.status == InterruptStatus.PENDING]
        others = [each for each in pending if each.reason not in _ABOUT_CALLS and each.resource_id not in calls]
        return any(each.id not in self._resolved for each in others)

    def _stuck(self, now: float) -> float:
        """For how long what must come has not come, in seconds."""
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since

    def _await_news(self, now: float, *, fresh: bool) -> None:
        """Read what is known to the server: at once, and then at intervals."""
        if self._reread_at is None and not self.wants_reread:
            if fresh:
                self._reread_at = now + REREAD_EVERY
            else:
                self.wants_reread = True

    def _evaluate_end(self, now: float, *, fresh: bool) -> None:
        last, state, counts = self.replies.last, self.run.run.state, self.run.counts
        done = last is not None and last.done
        current = self.replies.current
        if not self._is_over and (self.calls.busy(current) or self.calls.waiting(current)):
            self._evaluate_pause(now, fresh=fresh)  # an idle chat that waits for a call's result is not over
            return
        if not counts:
            if self._stuck(now) >= LONG_PATIENCE and fresh:
                self._give_up(last, failed=False)
            elif done and self._reread_at is None and not fresh:
                self._reread_at = now + QUIET_BEFORE_READ
            return
        failed = state in {RunState.FAILED, RunState.REJECTED}
        if self._missing_since is not None and not fresh:
            self.wants_reread = True  # an earlier message may not be complete
        elif last is not None and last.done:
            self._finish(last, now, failed=failed or last.status == MessageStatus.FAILED, fresh=fresh)
        elif (fresh and (failed or state == RunState.CANCELED)) or self._stuck(now) >= PATIENCE:
            self._give_up(last, failed=failed)
        else:
            self._await_news(now, fresh=fresh)

    @property
    def _is_over(self) -> bool:
        """Whether the end was said of this turn's run in so many words."""
        return self.run.phase is Phase.ENDED and self.run.counts and self.run.run.state in _FINAL_RUN

    def _finish(self, last: Message, now: float, *, failed: bool, fresh: bool) -> None:
        if not failed or self.run.run.state == RunState.CANCELED:
            self.outcome = Outcome(End.FINISHED, last)
        elif detail := self.run.run.error or _content_error(last):
            self.outcome = Outcome(End.FAILED, last, detail)
        elif fresh or self._stuck(now) >= PATIENCE:
            self.outcome = Outcome(End.FAILED, last, "the server gave no reason")
        else:
            self._await_news(now, fresh=fresh)  # the reason may stand in the chat

    def _give_up(self, last: Message | None, *, failed: bool) -> None:
        """The run is over and its reply will not become final any more."""
        if failed:
            self.outcome = Outcome(End.FAILED, last, self.run.run.error or "the server gave no reason")
        elif self.run.counts and self.run.run.state == RunState.CANCELED:
            self.outcome = Outcome(End.FINISHED, self._cancelled(last))
        else:
            self.outcome = Outcome(End.LOST, last, "the run is over, but its reply never became final")

    def _cancelled(self, last: Message | None) -> Message:
        """The last message as the cancelled one that the server did not send."""
        base = last or Message(id="", chat_id=self.chat_id or "", run_id=self.run.run.id)
        return attrs.evolve(base, status=MessageStatus.CANCELLED, delta="")


def _content_error(message: Message) -> str:
    return next((block.error for block in message.content if block.error), "")

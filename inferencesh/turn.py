"""The state machine of one turn: events in; snapshots, tool calls and the end or a pause out. No I/O and no clock.

A turn begins with a user message and ends when its run does. The caller feeds events and what it re-read, and passes
the present time (seconds, any origin) to each call. It then looks at what the turn wants: calls to be taken care of
(``calls.take()``), a re-read of the chat (``wants_reread``), to be woken at ``deadline``, or, once ``outcome`` is set,
nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .calls import CallLedger, Step
from .converter import structure
from .models import Chat, Interrupt, InterruptReason, Message, MessageStatus, Role
from .outcome import End, Outcome, OutcomeDecider
from .pauses import Pause
from .replies import Replies
from .rereads import REREAD_EVERY, RereadSchedule
from .run_state import Phase, RunTracker, goes_on, phase_of
from .wire import Event

__all__ = ["End", "Outcome", "Turn"]

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
        self._rereads = RereadSchedule()
        self._decider = OutcomeDecider(self.run, self.calls, self.replies, self._rereads)

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
        self._rereads.restart_quiet(now)
        queued = user is not None and user.status == MessageStatus.QUEUED
        run_id = (assistant.run_id if assistant is not None else "") or (user.run_id if user is not None else "")
        self.run.begin(user.id if user is not None else "", run_id, queued=queued)
        self.wants_reread = queued  # what it waits behind may itself be waiting for input
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
        self._rereads.heard(now)
        snapshot = None
        if event.name == "delta":
            snapshot = self._count(self.replies.take_delta(event.data))
        elif event.name == "chat_messages":
            snapshot = self._count(self.replies.take_event(event))
            self._rereads.planned = None
            if snapshot is None or snapshot.done or snapshot.tool_calls or self.run.phase in _DECISIVE or self.calls:
                self.calls.find(self.replies.current)
                self._evaluate(now)
        elif event.name in {"chats", "agent_runs"}:
            self._take_state(event)
            self._rereads.planned = None
            self._evaluate(now)
        if self.replies.missing:
            self.replies.missing = False
            self._rereads.miss(now)
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
        self._rereads.read()
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
        self._rereads.restart_quiet(now)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def reread_failed(self, now: float) -> list[Message]:
        """The chat cannot be read: go by what the stream brings, and look again later; returns snapshots to deliver."""
        self._rereads.read()
        self._rereads.plan(now + REREAD_EVERY)
        snapshots = self.replies.take_said_final()
        for snapshot in snapshots:
            self._count(snapshot)
        self._evaluate(now)
        return snapshots

    def tick(self, now: float) -> None:
        """The deadline has come, or may have."""
        self._rereads.tick(now)
        self._evaluate(now)
        if self.outcome is None:
            self._rereads.tick_silence(now)

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
        self._rereads.restart_quiet(now)
        self._evaluate(now)

    def resume(self, now: float) -> None:
        """Go on after a pause: what was said of it no longer counts, the state is read again."""
        self.outcome = None
        self.calls.reopen()
        self._rereads.resume(now)

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
        return self._rereads.deadline(self._decider.quiet_before_pause)

    @property
    def wants_reread(self) -> bool:
        """Whether the chat is to be read now; whoever cannot, or knows that it has to be, sets it."""
        return self._rereads.wanted

    @wants_reread.setter
    def wants_reread(self, wanted: bool) -> None:
        self._rereads.wanted = wanted

    @property
    def wants_action(self) -> bool:
        """Whether the caller has something to do before it feeds more events."""
        return self._rereads.wanted or self.outcome is not None or self.calls.has_new

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

    def _take_state(self, event: Event) -> None:
        """Take in what an event says about the run."""
        if not self.replies.of_this_chat(event.data.get("id" if event.name == "chats" else "chat_id")):
            return
        if self.replied:
            self.run.settle()
        take = self.run.take_chat if event.name == "chats" else self.run.take_run
        take(event.data, event.fields)

    def _count(self, snapshot: Message | None) -> Message | None:
        if snapshot is not None:
            self.progress += 1
            self.last_delivered = snapshot
        return snapshot

    def _evaluate(self, now: float, *, fresh: bool = False) -> None:
        """See whether the turn is over or paused; ``fresh`` is whether the chat was read just now."""
        if self.outcome is None:
            self.outcome = self._decider.decide(now, fresh=fresh)

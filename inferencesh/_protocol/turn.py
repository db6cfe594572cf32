"""The state machine of one turn: events in, snapshots and tool calls out, until the turn ends or pauses.

It does no I/O and has no clock: the caller passes the events of the stream, the chat as it was read, and the current
time (in seconds, of any origin). After each call it checks what the turn needs: tool calls to be run (``calls.take()``),
the chat to be read (``wants_reread``), or a call of ``tick`` at ``deadline``. The turn is over when ``outcome`` is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferencesh._types.codec import structure
from inferencesh.errors import UnreadableError
from inferencesh.models import Chat, Interrupt, InterruptReason, Message, MessageStatus, Role

from .calls import CallLedger, Step
from .lines import GrownLine, TextPiece
from .outcome import REREAD_EVERY, End, Outcome, OutcomeDecider, Pause, PollSchedule
from .replies import Replies
from .run import Phase, RunTracker, goes_on, phase_of
from .wire import Event

__all__ = ["Turn"]

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

"""The state machine of one turn: events in, snapshots and tool calls out, until the turn ends or pauses.

It does no I/O and has no clock: the caller passes the events of the stream, the chat as it was read, and the current
time (in seconds, of any origin). After each call it checks what the turn needs: tool calls to run (``calls.take()``), a
read of the chat (``wants_reread``), or a call of ``tick`` at ``deadline``. The turn is over when ``outcome`` is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferencesh._types.codec import structure
from inferencesh.errors import UnreadableError
from inferencesh.models import Chat, Interrupt, InterruptReason, Message, MessageStatus, Role

from .calls import CallLedger, Step
from .lines import GrownLine, TextPiece
from .outcome import POLL_INTERVAL, End, Outcome, OutcomeDecider, Pause, PollSchedule
from .replies import Replies, has_turn
from .run import Phase, RunTracker, goes_on, phase_of
from .wire import Event, whole_event

__all__ = ["Turn"]

_DECISIVE = frozenset({Phase.PAUSED, Phase.ENDED})  # in these phases any message may decide the outcome


class Turn:
    """One turn of a chat.

    Args:
        chat_id: The chat's id, or None if the turn begins a new chat.
        after: The ``order`` of the last message before the turn, or None if it is not known.
        earlier: Ids of messages that are known to belong to earlier turns.

    Attributes:
        run: The state of the turn's run.
        calls: The turn's tool calls.
        replies: The turn's messages.
        outcome: How the turn has ended or paused; None while it continues.
        progress: A number that grows with each snapshot, which tells whether a new connection has helped.
        last_delivered: The last snapshot.
        driven: Whether a caller is reading the turn at present.
        owner: The name under which this turn claims its tool calls; "" until it has claimed one.
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
        self.progress = 0
        self.last_delivered: Message | None = None
        self.driven = False
        self.owner = ""
        self._schedule = PollSchedule()
        self._pause_delay: float | None = None  # of ``OutcomeDecider.quiet_before_pause``, while it is known
        self._pause_delay_known = False  # more text does not change it
        self._decider = OutcomeDecider(self.run, self.calls, self.replies, self._schedule)

    # -- events and reads

    def begin(self, user: Message | None, assistant: Message | None, now: float) -> Message | None:
        """Begin the turn with the response to the POST of the user's message.

        Args:
            user: The user's message, if the response has it.
            assistant: The placeholder for the reply; None while the message is queued.
            now: The current time, in seconds.

        Returns:
            The snapshot to deliver, if the response holds more than a placeholder.
        """
        self._schedule.restart_silence(now)
        self._pause_delay_known = False
        queued = user is not None and user.status == MessageStatus.QUEUED
        run_id = (assistant.run_id if assistant is not None else "") or (user.run_id if user is not None else "")
        self.run.begin(user.id if user is not None else "", run_id, queued=queued)
        self.wants_reread = queued  # the turn before it may be paused
        return self._count(self.replies.begin(user, assistant))

    def receive_all(
        self, events: Iterable[Event | GrownLine | TextPiece], now: float, snapshots: list[Message], most: int
    ) -> list[UnreadableError]:
        """Process events of the stream until the caller has to act.

        Args:
            events: An iterator of events. Those that are not processed remain in it.
            now: The current time, in seconds.
            snapshots: The list to which the snapshots to deliver are appended.
            most: The length of the list at which to stop.

        Returns:
            Errors for the events that could not be read.
        """
        self._schedule.event_received(now)
        problems: list[UnreadableError] = []
        live = self.replies.growing
        for event in events:
            snapshot = live.extend(event) if live is not None else None
            if snapshot is not None:  # nearly always, and more text cannot decide the outcome
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
            live = self.replies.growing
            if snapshot is not None:
                snapshots.append(snapshot)
            if self.wants_action or len(snapshots) >= most:
                break
        return problems

    def receive(self, event: Event | GrownLine | TextPiece, now: float) -> Message | None:
        """Process one event as ``receive_all`` does, and return the snapshot to deliver, if any.

        Raises:
            UnreadableError: The event's data does not have the form of its kind.
        """
        snapshots: list[Message] = []
        for problem in self.receive_all([event], now, snapshots, 1):
            raise problem
        return snapshots[0] if snapshots else None

    def _receive(self, event: Event | GrownLine | TextPiece, now: float) -> Message | None:
        self._pause_delay_known = False
        whole = whole_event(event)
        name = whole["event"]
        if name == "delta":
            snapshot = self._count(self.replies.take_delta(whole["data"]))
        else:
            snapshot = self._receive_whole(name, whole, now)
        if self.replies.missing:
            self.replies.missing = False
            self._schedule.add_missing(now)
        return snapshot

    def _receive_whole(self, name: str, event: Event, now: float) -> Message | None:
        """Process an event with a message or with the state of the chat or run."""
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
        """Process the chat and its messages, which were just read in this order.

        Args:
            chat: The chat.
            messages: Its messages in any order, at least those of this turn.
            now: The current time, in seconds.

        Returns:
            The snapshots to deliver, in the order of the messages.

        Raises:
            UnreadableError: The chat or a message does not have the expected form.
        """
        self._schedule.chat_read()
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
        if not (self._decider.is_over and self.replied and goes_on(chat)):  # else the stream is ahead of the chat
            self.run.take_chat(chat)
        self._decider.pause = Pause.of_chat(read, structure(chat, Chat).pending_interrupts)
        if self.through_pauses and Phase.PAUSED in {self.run.phase, phase_of(chat)}:
            self.progress += 1  # a new connection cannot bring more while the pause lasts
        self._evaluate(now, fresh=True)
        self._schedule.restart_silence(now)
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def reread_failed(self, now: float) -> list[Message]:
        """Continue with the stream alone because the chat cannot be read, and return the snapshots to deliver."""
        self._schedule.chat_read()
        self._schedule.plan(now + POLL_INTERVAL)
        snapshots = self.replies.take_said_final()
        for snapshot in snapshots:
            self._count(snapshot)
        self._evaluate(now)
        return snapshots

    def tick(self, now: float) -> None:
        """Check what is due; to be called at ``deadline``, and harmless at any other time."""
        self._schedule.tick(now)
        self._evaluate(now)
        if self.outcome is None:
            self._schedule.tick_silence(now)

    @property
    def subject(self) -> str:
        """What is streamed, for logs and errors."""
        return f"chat {self.chat_id}"

    def lost(self) -> None:
        """Note that the stream was lost: a turn that has replied is most likely over, and needs no other connection."""
        if self.replied:
            self.wants_reread = True

    def reconnected(self) -> None:
        """Note that the stream was lost and opened again."""
        self.replies.reconnected()
        self.wants_reread = True

    def unreadable(self) -> None:
        """Note that the stream has brought something unreadable, so that the chat has to be read."""
        self.replies.distrust()
        self.wants_reread = True

    # -- tool calls and interrupts

    def call_declined(self, call_id: str, now: float, step: Step = Step.RESULT) -> None:
        """Note that no handler answers a call, so that the caller of the turn has to."""
        self.calls.decline(call_id, step)
        self._evaluate(now)

    def call_answered(self, call_id: str, now: float) -> None:
        """Note that the server has accepted the result of a call."""
        self.calls.answer(call_id)
        self._input_provided(now)

    def call_decided(self, call_id: str, now: float, *, approved: bool | None) -> None:
        """Note that a call was approved (True), rejected (False), or decided by somebody else (None)."""
        self.calls.decide(call_id, approved=approved)
        self._input_provided(now)

    def interrupt_resolved(self, interrupt: Interrupt, now: float, *, allowed: bool) -> None:
        """Note that the server has accepted the decision about an interrupt."""
        self._decider.resolved[interrupt.id] = None
        for each in (interrupt, *self.run.interrupts):  # the response to the decision may hold only the id
            if each.id != interrupt.id or not each.resource_id:
                continue
            if each.reason == InterruptReason.TOOL_APPROVAL:
                self.calls.decide(each.resource_id, approved=allowed)
            elif each.reason in {InterruptReason.CONFIRMATION, InterruptReason.AUTH}:
                self.calls.confirm(each.resource_id, allowed=allowed)
        self._input_provided(now)

    def _input_provided(self, now: float) -> None:
        """Note that the run has got something that it waited for, so that its reported pause may be outdated."""
        self.replies.amend_calls()
        if self.run.phase is Phase.PAUSED and not self.calls.waiting(self.replies.current):
            self.run.phase = Phase.UNKNOWN
        self._schedule.restart_silence(now)
        self._evaluate(now)

    def resume(self, now: float) -> None:
        """Continue after a pause, and read the state of the chat again."""
        self._pause_delay_known = False
        self.outcome = None
        self.calls.reopen()
        self._schedule.resume(now)

    def withdrawal_refused(self, now: float) -> None:
        """Note that the message cannot be withdrawn; whether it was or its turn has begun, a read of the chat tells."""
        self._decider.withdrawn_here = True
        self.resume(now)

    def next(self) -> Turn:
        """Return a new turn of the same chat, to follow this one."""
        return Turn(self.chat_id, after=self.replies.last_order, earlier=self.replies.unordered_ids)

    @classmethod
    def latest(cls, chat_id: str, messages: Iterable[Mapping[str, Any]], now: float) -> Turn:
        """Return the latest turn of a chat, for a caller who has not begun it.

        Args:
            chat_id: The chat's id.
            messages: Its latest messages in any order, at least back to the last one from the user.
            now: The current time, in seconds.
        """
        turn = cls(chat_id)
        users = [m for m in (structure(data, Message) for data in messages) if m.role == Role.USER]
        turn.begin(max(filter(has_turn, users), key=lambda message: message.order, default=None), None, now)
        turn.run.settle()  # there is no later turn that the state of the chat could be about
        return turn

    # -- state

    @property
    def deadline(self) -> float:
        """The time at which to call ``tick`` if no event arrives before."""
        if not self._pause_delay_known:
            self._pause_delay, self._pause_delay_known = self._decider.quiet_before_pause, True
        return self._schedule.deadline(self._pause_delay)

    @property
    def wants_reread(self) -> bool:
        """Whether the caller should read the chat now. The caller may set it as well."""
        return self._schedule.wanted

    @wants_reread.setter
    def wants_reread(self, wanted: bool) -> None:
        self._schedule.wanted = wanted

    @property
    def wants_action(self) -> bool:
        """Whether the caller has to act before it passes more events."""
        return self._schedule.wanted or self.outcome is not None or self.calls.has_new

    @property
    def through_pauses(self) -> bool:
        """Whether to continue through pauses, because somebody else will provide the input."""
        return self._decider.through_pauses

    @through_pauses.setter
    def through_pauses(self, through: bool) -> None:
        self._decider.through_pauses = through
        self._pause_delay_known = False

    @property
    def may_be_withdrawn(self) -> bool:
        """Whether the turn's message is queued and nobody has tried to withdraw it."""
        return self.run.queued and not self._decider.withdrawn_here

    @property
    def is_current(self) -> bool:
        """Whether the turn continues or is paused, so that it can be resumed."""
        return self.outcome is None or self.outcome.end is End.PAUSED

    @property
    def was_refused(self) -> bool:
        """Whether the turn could not begin because the run before it waits for input."""
        return self.outcome is not None and self.outcome.end is End.HELD_UP

    @property
    def replied(self) -> bool:
        """Whether the last message of the turn is final."""
        last = self.replies.last
        return last is not None and last.done

    @property
    def chat_id(self) -> str | None:
        """The chat's id, or None while it is not known."""
        return self.replies.chat_id

    def _take_state(self, name: str, event: Event) -> None:
        """Process a ``chats`` or ``agent_runs`` event, unless it is about another chat, such as a sub-agent's."""
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
        """Decide whether the turn is over or paused; ``fresh`` is whether the chat was read just now."""
        self._pause_delay_known = False
        if self.outcome is None:
            self.outcome = self._decider.decide(now, fresh=fresh)

"""The state machine of one turn: events in; snapshots, tool calls and the end or a pause out. No I/O and no clock.

A turn begins with a user message and ends when its run does. The caller feeds events and what it re-read, and passes
the present time (seconds, any origin) to each call. It then looks at what the turn wants: calls to be taken care of
(``take_calls``), a re-read of the chat (``wants_reread``), to be woken at ``deadline``, or, once ``outcome`` is set,
nothing more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .converter import structure
from .live import LiveMessage, answered
from .models import Message, MessageStatus, Role, RunState, ToolCall, ToolCallStatus, ToolType
from .run_state import Phase, RunTracker
from .wire import Event

__all__ = ["End", "Outcome", "Turn"]

# Seconds. They bound how long a server that says less than others makes a caller wait, never how long a run may take.
QUIET_BEFORE_PAUSE = 0.5  # a call waits for its result and the run's state was not said
QUIET_BEFORE_READ = 1.0  # the reply is final and the run's state was not said
UNKNOWN_BEFORE_READ = 0.3  # deltas came for a message that is not known
FIRST_SILENCE = 2.0  # nothing at all has come; doubles up to LONGEST_SILENCE
SILENCE = 10.0  # nothing more has come; doubles up to LONGEST_SILENCE
LONGEST_SILENCE = 60.0
PATIENCE = 5.0  # the run is over and its reply is not final
LONG_PATIENCE = 60.0  # the same where nothing shows that the ended run was this turn's
REREAD_EVERY = 1.0  # while waiting for what must come soon

_MOST_UNKNOWN = 16  # messages of which deltas came first, kept at the most


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


class _Call(enum.Enum):
    """What has become of a client tool's call on this side."""

    OFFERED = "the caller is busy with it"
    DECLINED = "there is no handler; somebody has to submit the result"
    ANSWERED = "the server has its result"


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
        self.chat_id = chat_id
        self.run = RunTracker(settled=chat_id is None)
        self.outcome: Outcome | None = None
        self.wants_reread = False
        self.progress = 0  # grows with each snapshot; a reconnect that brings none has not helped
        self.last_delivered: Message | None = None
        self.driven = False  # whether somebody is at work on it
        self._new_chat = chat_id is None
        self.after = after  # where in the chat the turn begins
        self._earlier = set(earlier)
        self._own_ids: set[str] = set()
        self._since = ""  # when the user message was created; tells old messages apart where nothing else does
        self._live: dict[str, LiveMessage] = {}
        self._unknown: dict[str, LiveMessage] = {}
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._calls: dict[str, _Call] = {}
        self._to_offer: list[ToolCall] = []
        self._withdrawn = False
        self._last_event = 0.0
        self._silence = FIRST_SILENCE
        self._unknown_since: float | None = None
        self._stuck_since: float | None = None
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
        known = assistant or user
        if known is not None and self.chat_id is None:
            self.chat_id = known.chat_id or None
        queued = user is not None and user.status == MessageStatus.QUEUED
        run_id = (assistant.run_id if assistant is not None else "") or (user.run_id if user is not None else "")
        self.run.begin(user.id if user is not None else "", run_id, queued=queued)
        if user is not None:
            self._since = user.created_at
            if user.order > 0:
                self.after = user.order
        if assistant is not None:
            self._own_ids.add(assistant.id)
            if assistant.order > 0 and (user is None or user.order <= 0):
                self.after = assistant.order - 1
        return self._take_message(assistant, in_stream=False)

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
        self._reread_at = None
        snapshot = None
        if event.name == "delta":
            return self._take_delta(event.data, now)
        if event.name == "chat_messages":
            snapshot = self._take_message(self._whole(event), in_stream=True)
        elif event.name in {"chats", "agent_runs"}:
            last = self._last()
            if last is not None and last.done:
                self.run.settle()
            take = self.run.take_chat if event.name == "chats" else self.run.take_run
            if self._of_this_chat(event.data.get("id" if event.name == "chats" else "chat_id")):
                take(event.data, event.fields)
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
        self.wants_reread = False
        self._reread_at = None
        self._unknown_since = None
        read = sorted((structure(data, Message) for data in messages), key=lambda message: message.order)
        snapshots = [self._take_message(message, in_stream=False) for message in read]
        last = self._last()
        if last is not None and last.done:
            self.run.settle()
        self.run.take_chat(chat)
        self._evaluate(now, fresh=True)
        self._last_event = now
        return [snapshot for snapshot in snapshots if snapshot is not None]

    def tick(self, now: float) -> None:
        """The deadline has come, or may have."""
        if self._reread_at is not None and now >= self._reread_at:
            self._reread_at = None
            self.wants_reread = True
        self._evaluate(now)
        if self.outcome is None and now - self._last_event >= self._silence:
            self._silence = min(self._silence * 2, LONGEST_SILENCE)
            self._last_event = now
            self.wants_reread = True

    def reconnected(self) -> None:
        """The stream was lost and opened anew."""
        for live in (*self._live.values(), *self._unknown.values()):
            live.reconnected()
        self.wants_reread = True

    def unreadable(self) -> None:
        """The stream brought something that could not be read: what it was has to be read another way."""
        self.wants_reread = True

    # -- tool calls ------------------------------------------------------------------------------------------------

    def take_calls(self) -> Sequence[ToolCall]:
        """The client tools' calls that are new since the last time; each is handed out once."""
        calls, self._to_offer = self._to_offer, []
        return calls

    def call_declined(self, call_id: str, now: float) -> None:
        """No handler and no callback has answered a call: it is for the caller of this turn to answer."""
        if self._calls.get(call_id) is not _Call.ANSWERED:
            self._calls[call_id] = _Call.DECLINED
        self._evaluate(now)

    def call_answered(self, call_id: str, now: float) -> None:
        """The server has acknowledged a call's result; a pause for it is over."""
        self._calls[call_id] = _Call.ANSWERED
        if self.run.phase is Phase.PAUSED and not self._waiting():
            self.run.phase = Phase.UNKNOWN
        self._last_event = now
        self._evaluate(now)

    def abandon_calls(self) -> None:
        """The caller has stopped taking care of calls: those under way are left for somebody to answer."""
        for call_id, state in self._calls.items():
            if state is _Call.OFFERED:
                self._calls[call_id] = _Call.DECLINED
        self._to_offer.clear()

    def is_answered(self, call_id: str) -> bool:
        """Whether the server has acknowledged a result for the call."""
        return self._calls.get(call_id) is _Call.ANSWERED

    def resume(self, now: float) -> None:
        """Go on after a pause: what was said of it no longer counts, the state is read again."""
        self.outcome = None
        self._stuck_since = None
        self._silence = FIRST_SILENCE
        self._last_event = now
        self.wants_reread = True

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

    def begins_after(self, message: Mapping[str, Any]) -> bool:
        """Whether a message, as the server sent it, is of an earlier turn, so that none before it is of this one."""
        order = message.get("order")
        return message.get("id") in self._earlier or (
            self.after is not None and isinstance(order, int) and 0 < order <= self.after
        )

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When ``tick`` is to be called if nothing arrives before."""
        moments = [self._last_event + self._silence]
        if self._reread_at is not None:
            moments.append(self._reread_at)
        if self._unknown_since is not None:
            moments.append(self._unknown_since + UNKNOWN_BEFORE_READ)
        if self._waiting() and not self._busy_with_calls():
            moments.append(self._last_event + QUIET_BEFORE_PAUSE)
        return min(moments)

    @property
    def wants_action(self) -> bool:
        """Whether the caller has something to do before it feeds more events."""
        return self.wants_reread or self.outcome is not None or bool(self._to_offer)

    @property
    def replied(self) -> bool:
        """Whether the last message of the turn so far is final."""
        last = self._last()
        return last is not None and last.done

    @property
    def unordered_ids(self) -> set[str]:
        """The ids of messages so far that have no place in the chat's order, for the turns that follow."""
        known = (live.latest for live in self._live.values())
        return self._earlier | {message.id for message in known if message is not None and message.order <= 0}

    @property
    def last_order(self) -> int | None:
        """The place of the turn's last message in the chat, or None when that is not known."""
        orders = [live.latest.order for live in self._live.values() if live.latest is not None]
        return max([*orders, self.after or 0], default=0) or None

    # -- messages --------------------------------------------------------------------------------------------------

    def _whole(self, event: Event) -> Message | None:
        """The whole message an event stands for; None when it is an update of one that is not known."""
        data = event.data
        if event.fields:
            known = self._raw.get(str(data.get("id")))
            if known is None:
                self.wants_reread = True
                return None
            data = {**known, **({name: data[name] for name in event.fields if name in data} or data)}
        message = structure(data, Message)
        if not message.done:
            self._raw[message.id] = data
        return message

    def _take_message(self, message: Message | None, *, in_stream: bool) -> Message | None:
        if message is None or not self._of_this_chat(message.chat_id):
            return None
        if message.role == Role.USER and message.id and message.id == self.run.user_message_id:
            self._take_user_message(message)
        if message.role != Role.ASSISTANT or not self._belongs(message):
            return None
        self.run.own(message.run_id)
        self.run.queued = False
        live = self._live.get(message.id)
        if live is None:
            live = self._live[message.id] = self._unknown.pop(message.id, LiveMessage(message.id))
            if not self._unknown:
                self._unknown_since = None
        snapshot = live.take_whole(answered(message, self._answered_ids()), in_stream=in_stream)
        if message.done:
            self._raw.pop(message.id, None)
        self._find_calls(live)
        return self._count(snapshot)

    def _take_user_message(self, message: Message) -> None:
        if message.status in {MessageStatus.CANCELLED, MessageStatus.FAILED}:
            self._withdrawn = True
        elif message.status != MessageStatus.QUEUED:
            self.run.queued = False

    def _take_delta(self, data: Mapping[str, Any], now: float) -> Message | None:
        message_id, delta, seq = data.get("resource_id"), data.get("delta"), data.get("seq")
        if not isinstance(message_id, str) or not message_id or not isinstance(delta, Mapping):
            return None  # a delta that names no message cannot be attributed; the official SDKs drop it as well
        number = seq if isinstance(seq, int) and not isinstance(seq, bool) else None
        live = self._live.get(message_id)
        if live is None:
            if message_id in self._earlier:
                return None
            live = self._keep_unknown(message_id)
        snapshot = live.take_delta(delta, number)
        if live.needs_whole and self._unknown_since is None:
            self._unknown_since = now + (REREAD_EVERY if message_id in self._live else 0.0)
        return self._count(snapshot)

    def _keep_unknown(self, message_id: str) -> LiveMessage:
        """Deltas of a message that is not known yet are kept until it is; a bounded number of them."""
        live = self._unknown.get(message_id)
        if live is None:
            if len(self._unknown) >= _MOST_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            live = self._unknown[message_id] = LiveMessage(message_id)
        return live

    def _count(self, snapshot: Message | None) -> Message | None:
        if snapshot is not None:
            self.progress += 1
            self.last_delivered = snapshot
        return snapshot

    def _of_this_chat(self, chat_id: object) -> bool:
        """Whether something is of this chat; ids may be given in their short form, as the JavaScript SDK allows."""
        if not isinstance(chat_id, str) or not chat_id or self.chat_id is None:
            return True
        return chat_id.startswith(self.chat_id) or self.chat_id.startswith(chat_id)

    def _belongs(self, message: Message) -> bool:
        """Whether an assistant message is of this turn."""
        if message.id in self._own_ids or message.id in self._live:
            return True
        if message.id in self._earlier or self.run.is_foreign(message.run_id):
            return False
        if message.run_id and message.run_id == self.run.run.id:
            return True
        if self._new_chat:
            return True
        if self.after is not None and message.order > 0:
            return message.order > self.after
        if self._since and message.created_at:
            return message.created_at >= self._since
        return True

    def _last(self) -> Message | None:
        """The turn's last message, as it is known now."""
        known = [live.current for live in self._live.values()]
        return max((m for m in known if m is not None), key=lambda m: m.order, default=None)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _find_calls(self, live: LiveMessage) -> None:
        message = live.latest
        for call in message.tool_calls if message is not None else ():
            if call.pending and call.id not in self._calls:
                self._calls[call.id] = _Call.OFFERED
                self._to_offer.append(call)

    def _answered_ids(self) -> set[str]:
        return {call_id for call_id, state in self._calls.items() if state is _Call.ANSWERED}

    def _waiting(self) -> list[Message]:
        """The messages with calls that wait for somebody: a declined call's result, an approval, a form."""
        known = [live.current for live in self._live.values()]
        return [m for m in known if m is not None and any(self._waits(call) for call in m.tool_calls)]

    def _waits(self, call: ToolCall) -> bool:
        if call.type == ToolType.CLIENT and call.pending:
            return self._calls.get(call.id) is _Call.DECLINED
        return call.status in {ToolCallStatus.AWAITING_APPROVAL, ToolCallStatus.AWAITING_INPUT}

    def _busy_with_calls(self) -> bool:
        """Whether the caller is at work on a call that the server still waits for."""
        return any(
            call.pending and self._calls.get(call.id) is _Call.OFFERED
            for live in self._live.values()
            if live.current is not None
            for call in live.current.tool_calls
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def _evaluate(self, now: float, *, fresh: bool = False) -> None:
        """Decide whether the turn is over or paused, or what is to be found out."""
        if self.outcome is not None:
            return
        if self._unknown_since is not None and now >= self._unknown_since + UNKNOWN_BEFORE_READ:
            self._unknown_since = None
            self.wants_reread = True
        if self._withdrawn:
            self.outcome = Outcome(End.LOST, self._last(), "the message was withdrawn before its turn came")
        elif self.run.phase is Phase.ENDED:
            self._evaluate_end(now, fresh=fresh)
        else:
            self._evaluate_pause(now, fresh=fresh)

    def _evaluate_pause(self, now: float, *, fresh: bool) -> None:
        if self._busy_with_calls():
            return
        waiting = self._waiting()
        if waiting:
            if self.run.phase is Phase.PAUSED or now - self._last_event >= QUIET_BEFORE_PAUSE:
                self.outcome = Outcome(End.PAUSED, max(waiting, key=lambda message: message.order))
        elif self.run.phase is Phase.PAUSED:
            self._evaluate_unexplained_pause(now, fresh=fresh)
        else:
            self._stuck_since = None
            last = self._last()
            if last is not None and last.done and self._reread_at is None and not fresh:
                self._reread_at = now + QUIET_BEFORE_READ

    def _evaluate_unexplained_pause(self, now: float, *, fresh: bool) -> None:
        """The run waits, and for nothing that is known: for a call not seen yet, or one answered since, or a person."""
        if not self._calls:
            if fresh and self.run.counts:
                self.outcome = Outcome(End.PAUSED, self._last())
            else:
                self._await_news(now, fresh=fresh)
        elif self._stuck(now) >= PATIENCE and fresh:
            self.outcome = Outcome(End.PAUSED, self._last())
        elif self._reread_at is None:
            self._reread_at = now + (REREAD_EVERY if fresh else UNKNOWN_BEFORE_READ)

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
        last, state, counts = self._last(), self.run.run.state, self.run.counts
        done = last is not None and last.done
        if not counts:
            if self._stuck(now) >= LONG_PATIENCE and fresh:
                self._give_up(last, failed=False)
            elif done and self._reread_at is None and not fresh:
                self._reread_at = now + QUIET_BEFORE_READ
            return
        failed = state in {RunState.FAILED, RunState.REJECTED}
        if self._busy_with_calls() and not failed and state not in {RunState.CANCELED, RunState.COMPLETED}:
            return  # an idle chat that waits for a call's result is not over
        if last is not None and last.done:
            self._finish(last, failed=failed or last.status == MessageStatus.FAILED, read=fresh)
        elif (fresh and (failed or state == RunState.CANCELED)) or self._stuck(now) >= PATIENCE:
            self._give_up(last, failed=failed)
        else:
            self._await_news(now, fresh=fresh)

    def _finish(self, last: Message, *, failed: bool, read: bool) -> None:
        if not failed or self.run.run.state == RunState.CANCELED:
            self.outcome = Outcome(End.FINISHED, last)
        elif detail := self.run.run.error or _content_error(last):
            self.outcome = Outcome(End.FAILED, last, detail)
        elif read:
            self.outcome = Outcome(End.FAILED, last, "the server gave no reason")
        else:
            self.wants_reread = True  # the reason may stand in the chat

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

"""The tool calls of one turn and what this client has done about them.

A call may wait twice: until a person approves it, and then for input from outside the server, such as the result of a
client tool. Each of these steps is handed out once, even if the stream replays it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs

from inferencesh.models import Message, ToolCall, ToolCallStatus

__all__ = ["CallLedger", "CallOutcome", "Ids", "Step", "step_of"]

Ids: TypeAlias = dict[str, None]  # used as a set: an empty dict takes 64 bytes and an empty set 216


class Step(enum.Enum):
    """What a call waits for."""

    APPROVAL = "a person has to approve it"
    RESULT = "a client tool has to run, or a person has to answer"


class CallOutcome(enum.Enum):
    """What has happened to a call that was handed out."""

    LEFT = "nobody has answered it: the caller has to"
    ANSWERED = "the server has its result"
    APPROVED = "the server knows that it is approved"
    REJECTED = "the server knows that it is rejected"
    DECIDED = "somebody else has approved or rejected it; the server will say which"


class _State(enum.Enum):
    OFFERED = "it was handed out, and a handler may be running"
    DECLINED = "no handler answers it: the caller has to"
    ANSWERED = "the server has its result, or the decision about it"


_Key: TypeAlias = tuple[str, Step, int]  # call id, step, and the number of the form where a call shows several in turn


class CallLedger:
    """The state of each tool call of one turn.

    Attributes:
        answered: Ids of the calls whose results the server has.
        decided: The decisions about calls that waited for approval, by id: True (approved), False (rejected), or None
            (decided by somebody else).
        asks: Whether calls that wait for approval are handed out, because there is an ``on_approval`` callback.
        asked: Ids of the calls for which that callback was called.
    """

    def __init__(self) -> None:
        self.answered: Ids = {}
        self.decided: dict[str, bool | None] = {}
        self.asks = False
        self.asked: Ids = {}
        self._states: dict[_Key, _State] = {}
        self._outcomes: dict[_Key, ToolCallStatus] = {}  # the status of calls that were answered, ahead of the server's
        self._rounds: dict[str, int] = {}  # the number of the form that a call shows, by id
        self._new: list[ToolCall] = []

    def __bool__(self) -> bool:
        """Whether any call was handed out."""
        return bool(self._states)

    @property
    def has_new(self) -> bool:
        """Whether there are calls to take."""
        return bool(self._new)

    def find(self, messages: Iterable[Message]) -> None:
        """Find the calls that have begun to wait for this client."""
        for message in messages:
            for call in message.tool_calls:
                key = self._key(call)
                if key is None:
                    continue
                if key[1] is Step.RESULT and not call.pending:
                    self._rounds[call.id] = key[2]  # for a person to answer
                elif key not in self._states and (self.asks or key[1] is Step.RESULT):
                    self._states[key] = _State.OFFERED
                    self._new.append(call)

    def take(self) -> Sequence[ToolCall]:
        """Return the calls found since the last time; the status of each tells what it waits for."""
        calls, self._new = self._new, []
        return calls

    def decline(self, call_id: str, step: Step) -> None:
        """Note that no handler takes a step of a call, so that the caller has to."""
        if self._states.get((call_id, step, 1)) is not _State.ANSWERED:
            self._states[call_id, step, 1] = _State.DECLINED

    def ask(self, call_id: str) -> None:
        """Note that ``on_approval`` is called for a call."""
        self.asked[call_id] = None

    def answer(self, call_id: str) -> None:
        """Note that the server has accepted the result of a call."""
        self.answered[call_id] = None
        is_form = call_id in self._rounds  # the server continues the call, and may show another form
        status = ToolCallStatus.IN_PROGRESS if is_form else ToolCallStatus.COMPLETED
        self._settle((call_id, Step.RESULT, self._rounds.get(call_id, 1)), status)

    def decide(self, call_id: str, *, approved: bool | None) -> None:
        """Note the decision about a call, None for one by somebody else; the first one counts."""
        rejected = self.decided.setdefault(call_id, approved) is False
        # Unless rejected, the call is about to begin; PENDING is behind whatever status the server reports next.
        self._settle((call_id, Step.APPROVAL, 1), ToolCallStatus.CANCELLED if rejected else ToolCallStatus.PENDING)

    def confirm(self, call_id: str, *, allowed: bool) -> None:
        """Note that the server has accepted whether a call that waited for a confirmation may continue."""
        status = ToolCallStatus.IN_PROGRESS if allowed else ToolCallStatus.CANCELLED
        self._settle((call_id, Step.RESULT, self._rounds.get(call_id, 1)), status)

    def _settle(self, key: _Key, outcome: ToolCallStatus) -> None:
        self._states[key] = _State.ANSWERED
        self._outcomes[key] = outcome

    def decision(self, call_id: str) -> CallOutcome:
        """Return the decision about a call: APPROVED, REJECTED or DECIDED, or LEFT if there is none."""
        if call_id not in self.decided:
            return CallOutcome.LEFT
        return {True: CallOutcome.APPROVED, False: CallOutcome.REJECTED, None: CallOutcome.DECIDED}[
            self.decided[call_id]
        ]

    def abandon(self) -> None:
        """Leave all unanswered calls to the next caller; they are not run again."""
        for key, state in self._states.items():
            if state is _State.OFFERED:
                self._states[key] = _State.DECLINED
        self._new.clear()

    def reopen(self) -> None:
        """Hand out the calls that wait for approval again, except those that somebody was asked about."""
        for key, state in list(self._states.items()):
            if state is _State.DECLINED and key[1] is Step.APPROVAL and key[0] not in self.asked:
                del self._states[key]

    def waiting(self, messages: Iterable[Message]) -> list[Message]:
        """Return the messages with calls that wait for the caller: for a result, an approval, or an answer."""
        return [message for message in messages if any(self._waits(call) for call in message.tool_calls)]

    def busy(self, messages: Iterable[Message]) -> bool:
        """Whether a handler may be running for a call that the server still waits for."""
        return any(self._state(call) is _State.OFFERED for message in messages for call in message.tool_calls)

    def corrected(self, message: Message) -> Message:
        """Return a message with the status of answered calls, where the server wrote it before the answer."""
        if not any(self._state(call) is _State.ANSWERED for call in message.tool_calls):
            return message
        return attrs.evolve(message, tool_calls=tuple(map(self._corrected, message.tool_calls)))

    def _corrected(self, call: ToolCall) -> ToolCall:
        key = self._key(call)
        outcome = self._outcomes.get(key) if key is not None else None
        return call if outcome is None else attrs.evolve(call, status=outcome, requires_approval=False)

    def _waits(self, call: ToolCall) -> bool:
        state = self._state(call)
        if state is None:
            return step_of(call) is not None and not call.pending  # for a person
        return state is _State.DECLINED

    def _state(self, call: ToolCall) -> _State | None:
        key = self._key(call)
        return self._states.get(key) if key is not None else None

    def _key(self, call: ToolCall) -> _Key | None:
        step = step_of(call)
        if step is None:
            return None
        data = None if call.pending else call.data  # read once: each read is a copy
        given = data.get("round") if isinstance(data, dict) else None
        return call.id, step, given if isinstance(given, int) else 1


def step_of(call: ToolCall) -> Step | None:
    """Return what a call waits for, or None."""
    if call.status == ToolCallStatus.AWAITING_APPROVAL:
        return Step.APPROVAL
    return Step.RESULT if call.waits else None

"""What has become, on this side, of the tool calls of one turn: each is handed out once, whatever is replayed.

A call may wait twice for somebody: first until a person approves it, then, if it is a client tool's, for its result.
These are two steps, and each of them is taken once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import attrs

from .models import Message, ToolCall, ToolCallStatus

__all__ = ["CallLedger", "Fate", "Step", "step_of"]


class Step(enum.Enum):
    """What a call waits for that this side can bring about."""

    APPROVAL = "a person has to approve it"
    RESULT = "a client tool has to be run"


class Fate(enum.Enum):
    """What has become of a call that was handed out."""

    LEFT = "nobody has answered it: whoever reads the reply has to"
    ANSWERED = "the server has its result"
    APPROVED = "the server knows that it is approved"
    REJECTED = "the server knows that it is rejected"


class _State(enum.Enum):
    OFFERED = "somebody on this side is busy with it"
    DECLINED = "nobody on this side answers it by itself: whoever reads the reply has to"
    ANSWERED = "the server has its result, or the decision about it"


class CallLedger:
    """The tool calls of one turn.

    Attributes:
        answered: Ids of the calls of which the server has the result.
        decided: What was decided about calls that waited for approval, by id; True is approved.
        asks: Whether calls that wait for approval are handed out as well, because there is somebody to ask.
        asked: Ids of the calls about which somebody was asked.
    """

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.decided: dict[str, bool] = {}
        self.asks = False
        self.asked: set[str] = set()
        self._states: dict[tuple[str, Step], _State] = {}
        self._new: list[ToolCall] = []

    def __bool__(self) -> bool:
        """Whether the turn has had calls for this side."""
        return bool(self._states)

    @property
    def has_new(self) -> bool:
        """Whether there are calls to take."""
        return bool(self._new)

    def find(self, messages: Iterable[Message]) -> None:
        """Note the calls that have begun to wait for what this side can bring about."""
        for message in messages:
            for call in message.tool_calls:
                step = step_of(call)
                if step is None or (call.id, step) in self._states or (step is Step.APPROVAL and not self.asks):
                    continue
                self._states[call.id, step] = _State.OFFERED
                self._new.append(call)

    def take(self) -> Sequence[ToolCall]:
        """The calls that are new since the last time; what each waits for is what its status says."""
        calls, self._new = self._new, []
        return calls

    def decline(self, call_id: str, step: Step) -> None:
        """Leave a step of a call to whoever reads the reply."""
        if self._states.get((call_id, step)) is not _State.ANSWERED:
            self._states[call_id, step] = _State.DECLINED

    def answer(self, call_id: str) -> None:
        """Note that the server has acknowledged a call's result."""
        self._states[call_id, Step.RESULT] = _State.ANSWERED
        self.answered.add(call_id)

    def decide(self, call_id: str, *, approved: bool) -> None:
        """Note that the server has acknowledged the decision about a call; the first one counts, as it does there."""
        self._states[call_id, Step.APPROVAL] = _State.ANSWERED
        self.decided.setdefault(call_id, approved)

    def decision(self, call_id: str) -> Fate:
        """What was decided about a call: APPROVED, REJECTED, or LEFT where nothing was."""
        approved = self.decided.get(call_id)
        if approved is None:
            return Fate.LEFT
        return Fate.APPROVED if approved else Fate.REJECTED

    def abandon(self) -> None:
        """Leave all calls under way to whoever takes up the turn; they are not run again."""
        for key, state in self._states.items():
            if state is _State.OFFERED:
                self._states[key] = _State.DECLINED
        self._new.clear()

    def reopen(self) -> None:
        """The turn is taken up: whoever does so may be asked about the calls about which nobody was asked yet."""
        for call_id, step in list(self._states):
            left = self._states[call_id, step] is _State.DECLINED
            if left and step is Step.APPROVAL and call_id not in self.asked:
                del self._states[call_id, step]

    def waiting(self, messages: Iterable[Message]) -> list[Message]:
        """The messages with calls that wait for somebody: a declined call's result, an approval, a form."""
        return [message for message in messages if any(self._waits(call) for call in message.tool_calls)]

    def busy(self, messages: Iterable[Message]) -> bool:
        """Whether somebody on this side is at work on a call that the server still waits for."""
        return any(self._is_offered(call) for message in messages for call in message.tool_calls)

    def corrected(self, message: Message) -> Message:
        """A message with its calls as this side knows them to be, where the server's word is from before an answer."""
        if not any(self._is_outdated(call) for call in message.tool_calls):
            return message
        calls = tuple(self._corrected(call) if self._is_outdated(call) else call for call in message.tool_calls)
        return attrs.evolve(message, tool_calls=calls)

    def _is_outdated(self, call: ToolCall) -> bool:
        step = step_of(call)
        return step is not None and self._states.get((call.id, step)) is _State.ANSWERED

    def _corrected(self, call: ToolCall) -> ToolCall:
        if call.pending:
            return attrs.evolve(call, status=ToolCallStatus.COMPLETED)
        approved = self.decided[call.id]  # one that is approved is about to begin
        status = ToolCallStatus.PENDING if approved else ToolCallStatus.CANCELLED
        return attrs.evolve(call, status=status, requires_approval=False)

    def _is_offered(self, call: ToolCall) -> bool:
        step = step_of(call)
        return step is not None and self._states.get((call.id, step)) is _State.OFFERED

    def _waits(self, call: ToolCall) -> bool:
        step = step_of(call)
        if step is None:
            return call.status == ToolCallStatus.AWAITING_INPUT
        state = self._states.get((call.id, step))
        return state is _State.DECLINED or (state is None and step is Step.APPROVAL)


def step_of(call: ToolCall) -> Step | None:
    """What a call waits for that this side can bring about, or None."""
    if call.status == ToolCallStatus.AWAITING_APPROVAL:
        return Step.APPROVAL
    return Step.RESULT if call.pending else None

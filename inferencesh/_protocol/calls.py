"""What has become, on this side, of the tool calls of one turn: each is handed out once, whatever is replayed.

A call may wait twice for somebody: first until a person approves it, then for what comes from outside of the server,
such as a client tool's result. These are two steps, and each of them is taken once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs

from inferencesh.models import Message, ToolCall, ToolCallStatus

__all__ = ["CallLedger", "CallOutcome", "Step", "step_of"]


class Step(enum.Enum):
    """What a call waits for."""

    APPROVAL = "a person has to approve it"
    RESULT = "a client tool has to be run, or a person has to answer"


class CallOutcome(enum.Enum):
    """What has become of a call that was handed out."""

    LEFT = "nobody has answered it: whoever reads the reply has to"
    ANSWERED = "the server has its result"
    APPROVED = "the server knows that it is approved"
    REJECTED = "the server knows that it is rejected"
    DECIDED = "somebody else has approved or rejected it; the server will say which"


class _State(enum.Enum):
    OFFERED = "somebody on this side is busy with it"
    DECLINED = "nobody on this side answers it by itself: whoever reads the reply has to"
    ANSWERED = "the server has its result, or the decision about it"


_Key: TypeAlias = tuple[str, Step, int]  # the last counts the forms that a call shows one after the other


class CallLedger:
    """The tool calls of one turn.

    Attributes:
        answered: Ids of the calls of which the server has the result.
        decided: What was decided about calls that waited for approval, by id; True is approved, None not known here.
        asks: Whether calls that wait for approval are handed out as well, because there is somebody to ask.
        asked: Ids of the calls about which somebody was asked.
    """

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self.decided: dict[str, bool | None] = {}
        self.asks = False
        self.asked: set[str] = set()
        self._states: dict[_Key, _State] = {}
        self._outcomes: dict[_Key, ToolCallStatus] = {}  # of what is answered: where the call stands since
        self._rounds: dict[str, int] = {}  # of calls with forms: which of several, one after the other, it shows
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
                key = self._key(call)
                if key is None:
                    continue
                if key[1] is Step.RESULT and not call.pending:
                    self._rounds[call.id] = key[2]  # for a person to answer
                elif key not in self._states and (self.asks or key[1] is Step.RESULT):
                    self._states[key] = _State.OFFERED
                    self._new.append(call)

    def take(self) -> Sequence[ToolCall]:
        """The calls that are new since the last time; what each waits for is what its status says."""
        calls, self._new = self._new, []
        return calls

    def decline(self, call_id: str, step: Step) -> None:
        """Leave a step of a call to whoever reads the reply."""
        if self._states.get((call_id, step, 1)) is not _State.ANSWERED:
            self._states[call_id, step, 1] = _State.DECLINED

    def answer(self, call_id: str) -> None:
        """Note that the server has acknowledged a call's result."""
        self.answered.add(call_id)
        is_form = call_id in self._rounds  # the server goes on with what it was told, and may ask for more
        status = ToolCallStatus.IN_PROGRESS if is_form else ToolCallStatus.COMPLETED
        self._settle((call_id, Step.RESULT, self._rounds.get(call_id, 1)), status)

    def decide(self, call_id: str, *, approved: bool | None) -> None:
        """Note that the server has the decision about a call, None for one not known here; the first counts."""
        rejected = self.decided.setdefault(call_id, approved) is False
        # Unless it is rejected, it is about to begin; where it is not known, whatever the server says is further.
        self._settle((call_id, Step.APPROVAL, 1), ToolCallStatus.CANCELLED if rejected else ToolCallStatus.PENDING)

    def confirm(self, call_id: str, *, allowed: bool) -> None:
        """Note that the server has acknowledged whether a call that waited for a person, but no approval, may go on."""
        status = ToolCallStatus.IN_PROGRESS if allowed else ToolCallStatus.CANCELLED
        self._settle((call_id, Step.RESULT, self._rounds.get(call_id, 1)), status)

    def _settle(self, key: _Key, outcome: ToolCallStatus) -> None:
        self._states[key] = _State.ANSWERED
        self._outcomes[key] = outcome

    def decision(self, call_id: str) -> CallOutcome:
        """What was decided about a call: APPROVED, REJECTED or DECIDED, or LEFT where nothing was."""
        if call_id not in self.decided:
            return CallOutcome.LEFT
        return {True: CallOutcome.APPROVED, False: CallOutcome.REJECTED, None: CallOutcome.DECIDED}[
            self.decided[call_id]
        ]

    def abandon(self) -> None:
        """Leave all calls under way to whoever takes up the turn; they are not run again."""
        for key, state in self._states.items():
            if state is _State.OFFERED:
                self._states[key] = _State.DECLINED
        self._new.clear()

    def reopen(self) -> None:
        """The turn is taken up: whoever does so may be asked about the calls about which nobody was asked yet."""
        for key, state in list(self._states.items()):
            if state is _State.DECLINED and key[1] is Step.APPROVAL and key[0] not in self.asked:
                del self._states[key]

    def waiting(self, messages: Iterable[Message]) -> list[Message]:
        """The messages with calls that wait for somebody: a declined call's result, an approval, a form."""
        return [message for message in messages if any(self._waits(call) for call in message.tool_calls)]

    def busy(self, messages: Iterable[Message]) -> bool:
        """Whether somebody on this side is at work on a call that the server still waits for."""
        return any(self._state(call) is _State.OFFERED for message in messages for call in message.tool_calls)

    def corrected(self, message: Message) -> Message:
        """A message with its calls as this side knows them to be, where the server's word is from before an answer."""
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
        given = call.data.get("round") if isinstance(call.data, dict) and not call.pending else None
        return call.id, step, given if isinstance(given, int) else 1


def step_of(call: ToolCall) -> Step | None:
    """What a call waits for, or None."""
    if call.status == ToolCallStatus.AWAITING_APPROVAL:
        return Step.APPROVAL
    return Step.RESULT if call.waits else None

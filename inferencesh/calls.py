"""What has become, on this side, of the tool calls of one turn: each is handed out once, whatever is replayed."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from .finish import is_finish
from .models import Message, ToolCall, ToolCallStatus, ToolType

__all__ = ["CallLedger"]


class _State(enum.Enum):
    OFFERED = "somebody on this side is busy with it"
    DECLINED = "nobody on this side answers it by itself: whoever reads the reply has to"
    ANSWERED = "the server has its result"


class CallLedger:
    """The tool calls of one turn."""

    def __init__(self) -> None:
        self.answered: set[str] = set()  # ids of the calls of which the server has the result
        self._states: dict[str, _State] = {}
        self._new: list[ToolCall] = []

    def __bool__(self) -> bool:
        """Whether the turn has had calls for this side."""
        return bool(self._states)

    @property
    def has_new(self) -> bool:
        """Whether there are calls to take."""
        return bool(self._new)

    def find(self, messages: Iterable[Message]) -> None:
        """Note the client tools' calls that have begun to wait for their results."""
        for message in messages:
            for call in message.tool_calls:
                if call.pending and call.id not in self._states:
                    self._states[call.id] = _State.OFFERED
                    self._new.append(call)

    def take(self) -> Sequence[ToolCall]:
        """The calls that are new since the last time."""
        calls, self._new = self._new, []
        return calls

    def decline(self, call_id: str) -> None:
        """Leave a call to whoever reads the reply."""
        if self._states.get(call_id) is not _State.ANSWERED:
            self._states[call_id] = _State.DECLINED

    def answer(self, call_id: str) -> None:
        """Note that the server has acknowledged a call's result."""
        self._states[call_id] = _State.ANSWERED
        self.answered.add(call_id)

    def abandon(self) -> None:
        """Leave all calls under way to whoever takes up the turn; they are not run again."""
        for call_id, state in self._states.items():
            if state is _State.OFFERED:
                self._states[call_id] = _State.DECLINED
        self._new.clear()

    def waiting(self, messages: Iterable[Message]) -> list[Message]:
        """The messages with calls that wait for somebody: a declined call's result, an approval, a form."""
        return [message for message in messages if any(self._waits(call) for call in message.tool_calls)]

    def busy(self, messages: Iterable[Message]) -> bool:
        """Whether somebody on this side is at work on a call that the server still waits for."""
        return any(
            call.pending and self._states.get(call.id) is _State.OFFERED
            for message in messages
            for call in message.tool_calls
        )

    def _waits(self, call: ToolCall) -> bool:
        if call.type == ToolType.CLIENT and call.pending:
            return self._states.get(call.id) is _State.DECLINED
        if is_finish(call) and call.status == ToolCallStatus.AWAITING_INPUT:
            return False  # the service answers it itself
        return call.status in {ToolCallStatus.AWAITING_APPROVAL, ToolCallStatus.AWAITING_INPUT}

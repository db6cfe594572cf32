"""What a run that has paused waits for, as data and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from .errors import InputRequiredError
from .models import Interrupt, InterruptReason, InterruptStatus, Message, ToolCall

__all__ = ["ABOUT_CALLS", "Pause", "questions"]

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

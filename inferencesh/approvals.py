"""Asks about the tool calls of one turn that need a person's approval, and posts what was decided."""

from __future__ import annotations

import asyncio
from typing import Protocol

import attrs

from .calls import Fate
from .invoke import Invoker, invoke
from .models import ToolCall
from .turn import Turn
from .turn_request import OnApproval

__all__ = ["Approver", "Decide"]


class Decide(Protocol):
    """Posts decisions about tool calls."""

    async def __call__(self, call_id: str, *, approved: bool, reason: str, anybodys: bool) -> bool:
        """Approve or reject a call; returns whether that counts, and not, with ``anybodys``, an earlier decision."""


@attrs.frozen
class _Decision:
    approved: bool
    reason: str = ""


class Approver:
    """Asks about the calls of one turn, one after the other.

    Args:
        turn: The turn.
        on_approval: Asked about each call, or None.
        invoker: Calls functions that may block.
        decide: Posts decisions.
    """

    def __init__(self, turn: Turn, on_approval: OnApproval | None, invoker: Invoker, decide: Decide) -> None:
        self._turn = turn
        self._on_approval = on_approval
        self._invoker = invoker
        self._decide = decide
        self._one_question = asyncio.Lock()
        self._failed = False  # then the turn is about to raise, and nobody is asked any more

    async def settle(self, call: ToolCall) -> Fate:
        """Ask about a call and post the decision.

        Args:
            call: A call that waits for approval, and that nobody else asks about.

        Raises:
            TypeError: The answer is none that counts.
            APIError, APIConnectionError: The decision could not be posted.
            Exception: What ``on_approval`` raised; nothing was decided then.
        """
        async with self._one_question:
            if self._failed:
                return Fate.LEFT
            try:
                return await self._settle(call)
            except BaseException:
                self._failed = True
                raise

    async def _settle(self, call: ToolCall) -> Fate:
        ask, calls = self._on_approval, self._turn.calls
        if ask is None or call.id in calls.decided:
            return calls.decision(call.id)
        calls.asked.add(call.id)
        decision = _read(await invoke(self._invoker, ask, lambda: ask(call)))
        if decision is None or call.id in calls.decided:  # the callback may have approved or rejected it by itself
            return calls.decision(call.id)
        if not await self._decide(call.id, approved=decision.approved, reason=decision.reason, anybodys=True):
            return Fate.DECIDED
        return Fate.APPROVED if decision.approved else Fate.REJECTED


def _read(answer: object) -> _Decision | None:
    """What ``on_approval`` returned as a decision; only True approves, never something that is merely truthy."""
    if answer is None:
        return None
    if isinstance(answer, bool):
        return _Decision(answer)
    if isinstance(answer, str):
        return _Decision(approved=False, reason=answer)
    raise TypeError(
        f"on_approval returned a {type(answer).__name__}; it returns True to approve the call, False or the reason as "
        "a str to reject it, or None to leave it to approve_tool and reject_tool"
    )

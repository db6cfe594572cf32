"""Decisions on tool calls: approve or reject a call, or always allow a tool in a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from .errors import ProblemError

if TYPE_CHECKING:
    from .chats import StoredChat
    from .engine import Engine
    from .records import Invocation, Resolution, StoredInterrupt, Wire

__all__ = ["Approvals", "ApprovedBy"]

ApprovedBy: TypeAlias = Literal["api_key", "sign_in"]
"""What a decision requires: an API key, or, as on the service, a signed-in person."""


@attrs.frozen
class Approvals:
    """Carries out decisions. One that is refused with a ``ProblemError`` changes nothing."""

    _engine: Engine

    def approve(self, chat: StoredChat, invocation: Invocation) -> None:
        """Approve a call, which then waits for its result.

        Raises:
            ProblemError: 409 if the call does not wait for approval.
        """
        _check_waits(invocation, "approved")
        invocation.wait_for("client_tool")
        self._engine.resume(chat)

    def reject(self, chat: StoredChat, invocation: Invocation, reason: str) -> None:
        """Reject a call; its result tells the agent so.

        Args:
            chat: The chat.
            invocation: The call.
            reason: The reason for the agent, or "".

        Raises:
            ProblemError: 409 if the call does not wait for approval.
        """
        _check_waits(invocation, "rejected")
        why = f": {reason.strip()}" if reason.strip() else "."
        invocation.end("cancelled", f"Error: the call was rejected{why}", resolution="deny")
        self._engine.resume(chat)

    def resolve(
        self, chat: StoredChat, invocation: Invocation, interrupt: StoredInterrupt, decision: Resolution
    ) -> None:
        """Resolve an interrupt: approve or reject its call, or answer its question.

        Raises:
            ProblemError: 409 if it is not pending, or needs a result instead of a decision.
        """
        if interrupt.status != "pending":
            detail = f"The interrupt is {interrupt.status}; there is nothing left to decide."
            raise ProblemError(409, detail, code="already_processed")
        match interrupt.reason, decision:
            case "tool_approval", "allow":
                self.approve(chat, invocation)
            case "tool_approval", _:
                self.reject(chat, invocation, "")
            case "confirmation" | "auth", "allow":
                invocation.end("completed", "Allowed.", resolution="allow")
                self._engine.resume(chat)
            case "confirmation" | "auth", _:
                invocation.end("cancelled", "Error: the request was denied.", resolution="deny")
                self._engine.resume(chat)
            case _:
                detail = f"The interrupt waits for a result and not for a decision; post one to /tools/{invocation.id}."
                raise ProblemError(409, detail)

    def options(self, invocation: Invocation) -> Wire:
        """Return the options for always allowing the tool of a pending call; here there is just one.

        Raises:
            ProblemError: 409 if the call does not wait for approval.
        """
        _check_waits(invocation, "allowed")
        option = _whole_tool(invocation)
        return {"options": [option], "default": option["key"], "unavailable": "", "secret_send": None}

    def always_allow(self, chat: StoredChat, invocation: Invocation, key: str | None) -> Wire:
        """Approve a call, and all later calls of its tool in this chat.

        Args:
            chat: The chat.
            invocation: The call.
            key: The key of one of the ``options``, or None for the default.

        Raises:
            ProblemError: 409 if the call does not wait for approval, or there is no such option.
        """
        _check_waits(invocation, "allowed")
        option = _whole_tool(invocation)
        if key is not None and key != option["key"]:
            detail = f"There is no option {key[:64]!r} for this call (any more); read its options again."
            raise ProblemError(409, detail)
        if invocation.name not in chat.allowed_tools:
            chat.allowed_tools.append(invocation.name)
        self.approve(chat, invocation)
        return {"option": option if key is not None else None, "rules": option["rules"]}


def _check_waits(invocation: Invocation, wanted: str) -> None:
    if invocation.waits_for == "tool_approval":
        return
    detail = f"The tool call is {invocation.status} and does not wait for an approval; it cannot be {wanted}."
    decided = any(each.reason == "tool_approval" for each in invocation.interrupts)
    raise ProblemError(409, detail, code="already_processed" if decided else "conflict")


def _whole_tool(invocation: Invocation) -> Wire:
    """Return the option that allows every call of a tool."""
    label = f"every call of {invocation.name} in this chat"
    rule: Wire = {
        "id": "",
        "effect": "allow",
        "enforcement": "default",
        "kind": "Tool",
        "selector": "",
        "specifier": invocation.name,
        "label": label,
        "created_at": None,
        "created_by": "",
    }
    return {"key": f"tool:{invocation.name}", "scope": "tool", "label": label, "description": "", "rules": [rule]}

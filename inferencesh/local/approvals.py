"""Decisions of people on tool calls: allow or deny one, or allow a tool for the rest of a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import define

from .errors import ProblemError

if TYPE_CHECKING:
    from .chats import Chat
    from .engine import Engine
    from .records import Interrupt, Invocation, Resolution, Wire

__all__ = ["Approvals", "ApprovedBy"]

ApprovedBy: TypeAlias = Literal["api_key", "sign_in"]
"""Who may decide: whoever has an API key, or, as at the service, nobody but a person who has signed in."""


@define(frozen=True)
class Approvals:
    """Takes decisions in; each is either carried out at once or refused with 409, and changes nothing then."""

    _engine: Engine

    def approve(self, chat: Chat, invocation: Invocation) -> None:
        """Let a call go on: a client tool waits for its result from now on.

        Raises:
            ProblemError: 409 when it does not wait for an approval.
        """
        _check_waits(invocation, "approved")
        invocation.wait_for("client_tool")
        self._engine.resume(chat)

    def reject(self, chat: Chat, invocation: Invocation, reason: str) -> None:
        """End a call without having it run; the agent is told so, and why.

        Raises:
            ProblemError: 409 when it does not wait for an approval.
        """
        _check_waits(invocation, "rejected")
        why = f": {reason.strip()}" if reason.strip() else "."
        invocation.end("cancelled", f"Error: the call was rejected{why}", resolution="deny")
        self._engine.resume(chat)

    def resolve(self, chat: Chat, invocation: Invocation, interrupt: Interrupt, decision: Resolution) -> None:
        """Answer an interrupt: one about an approval as if its call had been approved or rejected, a question for good.

        Raises:
            ProblemError: 409 when it was answered, was called off, or asks for more than a decision.
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
        """Return the ways in which a waiting call's tool can be allowed for good; this runtime knows one.

        Raises:
            ProblemError: 409 when the call does not wait for an approval.
        """
        _check_waits(invocation, "allowed")
        option = _whole_tool(invocation)
        return {"options": [option], "default": option["key"], "unavailable": "", "secret_send": None}

    def always_allow(self, chat: Chat, invocation: Invocation, key: str | None) -> Wire:
        """Approve a call, and all later calls of its tool in this chat.

        Args:
            chat: The chat.
            invocation: The call; it must wait for its approval.
            key: The key of one of the `options`; None stands for the whole tool.

        Raises:
            ProblemError: 409 when it does not wait, or has no such option.
        """
        _check_waits(invocation, "allowed")
        option = _whole_tool(invocation)
        if key is not None and key != option["key"]:
            detail = f"There is no option {key[:64]!r} for this call, or none any more; read its options again."
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

"""The HTTP endpoints for decisions on tool calls and interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
from aiohttp import web

from inferencesh.local.errors import ProblemError, invalid, not_found

from .fields import read_body
from .problems import Envelope, answer

if TYPE_CHECKING:
    from inferencesh.local.approvals import Approvals, ApprovedBy
    from inferencesh.local.chats import ChatStore, StoredChat
    from inferencesh.local.records import Invocation, Resolution, Wire

__all__ = ["ApprovalApi"]

_SIGN_IN = (
    "An API key may not decide on tool calls: this runtime only accepts decisions of people who have signed in, like "
    "the service. Start it with approvals='api_key' to accept keys."
)


@attrs.define
class ApprovalApi:
    """The request handlers. A missing sign-in is checked before anything else."""

    _store: ChatStore
    _approvals: Approvals
    _envelope: Envelope
    _approved_by: ApprovedBy

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of all endpoints."""
        always = "/chats/{id}/tools/{tool_id}/always-allow"
        return [
            web.post("/tools/{id}/invoke", self.invoke),
            web.post("/tools/{id}/reject", self.reject),
            web.post("/interrupts/{id}/resolve", self.resolve),
            web.get("/agent-runs/{id}/interrupts", self.list_interrupts, allow_head=False),
            web.get(f"{always}/options", self.list_options, allow_head=False),
            web.post(always, self.always_allow),
        ]

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        """Approve a tool call."""
        self._check_signed_in()
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._approvals.approve(chat, invocation)
        return self._answer(invocation.wire())

    async def reject(self, request: web.Request) -> web.StreamResponse:
        """Reject a tool call, optionally with a reason."""
        self._check_signed_in()
        reason = (await read_body(request)).text("reason") or ""
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._approvals.reject(chat, invocation, reason)
        return self._answer(invocation.wire())

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """Resolve an interrupt with a decision."""
        self._check_signed_in()
        body = await read_body(request)
        body.require("decision")
        decision = body.text("decision")
        if decision not in {"allow", "deny"}:
            raise invalid("decision", "must be allow or deny.")
        chat, invocation, interrupt = self._store.interrupt(request.match_info["id"])
        self._approvals.resolve(chat, invocation, interrupt, cast("Resolution", decision))
        return self._answer(invocation.interrupt_wire(interrupt))

    async def list_interrupts(self, request: web.Request) -> web.StreamResponse:
        """List the interrupts of a run, oldest first."""
        run_id = request.match_info["id"]
        chat = self._store.chat_of_run(run_id)
        found = chat.interrupts(run_id=run_id)
        return self._answer([invocation.interrupt_wire(interrupt) for invocation, interrupt in found])

    async def list_options(self, request: web.Request) -> web.StreamResponse:
        """List the options for always allowing the tool of a pending call."""
        _, invocation = self._call(request)
        return self._answer(self._approvals.options(invocation))

    async def always_allow(self, request: web.Request) -> web.StreamResponse:
        """Approve a tool call and later calls of the same tool."""
        self._check_signed_in()
        option = (await read_body(request)).text("option")
        chat, invocation = self._call(request)
        return self._answer(self._approvals.always_allow(chat, invocation, option))

    def _check_signed_in(self) -> None:
        """Refuse the request if decisions require a sign-in, which this runtime does not offer.

        Raises:
            ProblemError: 403 with the code ``requires_sign_in``.
        """
        if self._approved_by == "sign_in":
            raise ProblemError(403, _SIGN_IN, code="requires_sign_in")

    def _call(self, request: web.Request) -> tuple[StoredChat, Invocation]:
        chat = self._store.get(request.match_info["id"])
        holder, invocation = self._store.invocation(request.match_info["tool_id"])
        if holder is not chat:
            raise not_found("tool call", invocation.id)
        return chat, invocation

    def _answer(self, data: Wire | list[Wire]) -> web.Response:
        return answer(self._envelope, data)

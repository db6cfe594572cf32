"""The addresses that take people's decisions on tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aiohttp import web
from attrs import define

from inferencesh.local.errors import ProblemError, invalid, not_found

from .fields import parse_body
from .problems import Envelope, answer

if TYPE_CHECKING:
    from inferencesh.local.approvals import Approvals, ApprovedBy
    from inferencesh.local.chats import Chat
    from inferencesh.local.records import Invocation, Resolution, Wire
    from inferencesh.local.store import Store

__all__ = ["ApprovalApi"]

_SIGN_IN = (
    "An API key may not decide on tool calls: this runtime was told to take decisions only from people who have signed "
    "in, as the service does. Start it with approvals='api_key' to have keys accepted."
)


@define
class ApprovalApi:
    """The request handlers; a refusal for want of a sign-in comes before all others."""

    _store: Store
    _approvals: Approvals
    _envelope: Envelope
    _approved_by: ApprovedBy

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return every address with its handler."""
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
        """Approve a call."""
        self._check_signed_in()
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._approvals.approve(chat, invocation)
        return self._answer(invocation.wire())

    async def reject(self, request: web.Request) -> web.StreamResponse:
        """Reject a call, for a reason if there is one."""
        self._check_signed_in()
        reason = parse_body(await request.read()).text("reason") or ""
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._approvals.reject(chat, invocation, reason)
        return self._answer(invocation.wire())

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """Decide on what holds up a run."""
        self._check_signed_in()
        body = parse_body(await request.read())
        body.require("decision")
        decision = body.text("decision")
        if decision not in {"allow", "deny"}:
            raise invalid("decision", "must be allow or deny.")
        chat, invocation, interrupt = self._store.interrupt(request.match_info["id"])
        self._approvals.resolve(chat, invocation, interrupt, cast("Resolution", decision))
        return self._answer(invocation.interrupt_wire(interrupt))

    async def list_interrupts(self, request: web.Request) -> web.StreamResponse:
        """List what a run waited for and waits for, oldest first."""
        run_id = request.match_info["id"]
        chat = self._store.chat_of_run(run_id)
        found = chat.interrupts(run_id=run_id)
        return self._answer([invocation.interrupt_wire(interrupt) for invocation, interrupt in found])

    async def list_options(self, request: web.Request) -> web.StreamResponse:
        """List the ways in which a waiting call's tool can be allowed for good."""
        _, invocation = self._call(request)
        return self._answer(self._approvals.options(invocation))

    async def always_allow(self, request: web.Request) -> web.StreamResponse:
        """Approve a call and the later ones of its tool."""
        self._check_signed_in()
        option = parse_body(await request.read()).text("option")
        chat, invocation = self._call(request)
        return self._answer(self._approvals.always_allow(chat, invocation, option))

    def _check_signed_in(self) -> None:
        """Refuse: all that anybody can sign in with here is an API key."""
        if self._approved_by == "sign_in":
            raise ProblemError(403, _SIGN_IN, code="requires_sign_in")

    def _call(self, request: web.Request) -> tuple[Chat, Invocation]:
        chat = self._store.chat(request.match_info["id"])
        holder, invocation = self._store.invocation(request.match_info["tool_id"])
        if holder is not chat:
            raise not_found("tool call", invocation.id)
        return chat, invocation

    def _answer(self, data: Wire | list[Wire]) -> web.Response:
        return answer(self._envelope, data)

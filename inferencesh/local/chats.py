"""A chat and the runs that answer its messages, with the states the protocol allows."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias

import orjson
from attrs import define, field

from .records import Record

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from ._api.forms import AgentConfig
    from .feed import Feed
    from .records import Interrupt, Invocation, Message, Wire

__all__ = ["Chat", "Run", "RunState"]

RunState: TypeAlias = Literal[
    "submitted", "working", "input_required", "auth_required", "completed", "failed", "canceled"
]

_NEXT_STATES: Mapping[RunState, frozenset[RunState]] = {
    "submitted": frozenset({"working", "failed", "canceled"}),
    "working": frozenset({"input_required", "auth_required", "completed", "failed", "canceled"}),
    "input_required": frozenset({"working", "failed", "canceled"}),
    "auth_required": frozenset({"working", "failed", "canceled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "canceled": frozenset(),
}


@define(eq=False, kw_only=True)
class Run(Record):
    """The agent's work on one user message, from `submitted` to its end; `output` is JSON text."""

    chat_id: str
    agent_id: str
    user_message_id: str
    config: AgentConfig
    state: RunState = "submitted"
    error: str | None = None
    output: str | None = None
    steps: int = 0
    finished_at: str | None = None
    waiting_for: Invocation | None = None

    @property
    def ended(self) -> bool:
        """Whether no other state can follow."""
        return not _NEXT_STATES[self.state]

    @property
    def output_wire(self) -> orjson.Fragment | None:
        """The output as a part of a larger answer, however deep it is nested."""
        return None if self.output is None else orjson.Fragment(self.output)

    @property
    def settled(self) -> bool:
        """Whether nothing happens any more until somebody acts: ended, or waiting for input."""
        return self.ended or self.paused

    @property
    def paused(self) -> bool:
        """Whether it waits for somebody."""
        return self.state in {"input_required", "auth_required"}

    def advance(self, state: RunState) -> None:
        """Move on to `state`.

        Raises:
            ValueError: The protocol has no way from the present state to that one.
        """
        if state not in _NEXT_STATES[self.state]:
            raise ValueError(f"A run cannot go from {self.state} to {state}.")
        self.state = state
        self.touch()
        if self.ended:
            self.finished_at = self.updated_at

    def wire(self) -> Wire:
        """Return the run as the wire has it."""
        waiting = self.waiting_for
        return {
            **self.base(),
            "agent_id": self.agent_id,
            "agent": None,
            "agent_version_id": None,
            "chat_id": self.chat_id,
            "user_message_id": self.user_message_id,
            "state": self.state,
            "error": self.error,
            "output": self.output_wire,
            "interrupt_reason": waiting.waits_for if waiting else None,
            "interrupt_tool_id": waiting.id if waiting else None,
            "interrupt_meta": None,
            "tool_invocation_id": waiting.id if waiting else None,
            "trigger_id": None,
            "metadata": None,
            "finished_at": self.finished_at,
            "profile_id": None,
            "remote_id": None,
        }


@define(eq=False, kw_only=True)
class Chat(Record):
    """A conversation, its present run, the messages that wait their turn and those who watch."""

    agent_id: str
    config: AgentConfig
    feed: Feed
    context: Mapping[str, str] = field(factory=dict)
    name: str = ""
    messages: list[Message] = field(factory=list)
    queue: deque[tuple[Message, AgentConfig | None]] = field(factory=deque)
    allowed_tools: list[str] = field(factory=list)
    run: Run | None = None
    reply: Message | None = None
    task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a run holds the chat, so that new messages must queue."""
        return self.run is not None and not self.run.ended

    @property
    def status(self) -> Literal["busy", "awaiting_input", "idle"]:
        """The chat's status as clients see it."""
        if self.run is None or self.run.ended:
            return "idle"
        return "awaiting_input" if self.run.paused else "busy"

    def next_order(self) -> int:
        """Return the place of the next message."""
        return max((message.order for message in self.messages), default=-1) + 1

    def waiting(self) -> list[Invocation]:
        """Return the tool calls that somebody has to answer before the run goes on."""
        reply = self.reply
        return [each for each in reply.invocations if each.waits] if reply else []

    def interrupts(self, *, run_id: str | None = None) -> list[tuple[Invocation, Interrupt]]:
        """Return what its runs, or one of them, waited for or still wait for, with the calls it is about."""
        return [
            (invocation, interrupt)
            for message in self.messages
            for invocation in message.invocations
            for interrupt in invocation.interrupts
            if run_id is None or invocation.run_id == run_id
        ]

    def wire(self) -> Wire:
        """Return the chat as the wire has it; its messages have an address of their own."""
        return {
            **self.base(),
            "parent_id": None,
            "parent": None,
            "children": [],
            "status": self.status,
            # That of the newest run alone: an older one's would pass for the answer to a message it never saw.
            "output": self.run.output_wire if self.run else None,
            "context": self.context,
            "channel_context": None,
            "agent_id": self.agent_id,
            "agent": None,
            "agent_version_id": None,
            "agent_version": None,
            "name": self.name,
            "description": "",
            "chat_messages": None,
            "agent_data": {
                "plan_steps": [],
                "memory": {},
                "allow_all_tools": self.config.allow_all_tools,
                "disable_hooks": False,
                "always_allowed_tools": self.allowed_tools,
            },
            "active_run": self.run.wire() if self.run else None,
            "pending_interrupts": [each.interrupt_wire(each.interrupts[-1]) for each in self.waiting()],
            "harness_session_id": None,
            "work_dir": "",
            "forked_from_message_id": None,
        }

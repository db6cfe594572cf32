"""Chats and their runs, the agent definition a run follows, and the store that finds them by identifier."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs
import orjson

from .errors import ProblemError, not_found
from .feed import Feed
from .model import OfferedTool
from .records import Invocation, Published, Recorder, StoredInterrupt, StoredMessage, Wire, new_id

__all__ = ["FINISH", "AgentDefinition", "ChatStore", "RunState", "StoredChat", "StoredRun", "usage_wire"]

FINISH = "finish"
"""The name of the service's own tool that ends a run with an output."""

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


@attrs.frozen
class AgentDefinition:
    """The parts of an agent's definition that the runtime uses.

    Only client tools are offered to the model: tools of other types (apps, agents, webhooks) run on the service.

    Args:
        system_prompt: The instructions.
        tools: The client tools.
        output_schema: The JSON Schema of the output, or None.
        finishes: Whether the agent has the ``finish`` tool, because of an output schema or its internal tools.
        stored: Whether it was only named, so that nobody knows which tools it has.
        allow_all_tools: Whether no call needs an approval, even if its tool requires one.
        settings: The ``input`` of the agent's ``core_app``.
    """

    system_prompt: str = ""
    tools: tuple[OfferedTool, ...] = ()
    output_schema: dict[str, object] | None = None
    finishes: bool = False
    stored: bool = False
    allow_all_tools: bool = False
    settings: dict[str, object] = attrs.field(factory=dict)

    @property
    def may_finish(self) -> bool:
        """Whether the model's output is taken: the agent finishes with one, or may do so."""
        return self.finishes or self.stored


def usage_wire(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return numbers of tokens in wire form."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


@attrs.define(eq=False, kw_only=True)
class StoredRun(Published):
    """The agent's work on one user message. ``output`` is JSON text, ``usage`` the sum of the tokens of its steps."""

    chat_id: str
    agent_id: str
    user_message_id: str
    config: AgentDefinition
    state: RunState = "submitted"
    error: str | None = None
    output: str | None = None
    usage: dict[str, int] | None = None
    steps: int = 0
    finished_at: str | None = None
    waiting_for: Invocation | None = None

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return not _NEXT_STATES[self.state]

    @property
    def paused(self) -> bool:
        """Whether the run waits for the answer to a tool call."""
        return self.state in {"input_required", "auth_required"}

    @property
    def settled(self) -> bool:
        """Whether the run has ended or is paused."""
        return self.ended or self.paused

    @property
    def output_wire(self) -> orjson.Fragment | None:
        """The output, to be embedded in a larger object; it may be nested too deeply to be encoded again."""
        return None if self.output is None else orjson.Fragment(self.output)

    def advance(self, state: RunState) -> None:
        """Change the state.

        Raises:
            ValueError: The protocol does not allow this change.
        """
        if state not in _NEXT_STATES[self.state]:
            raise ValueError(f"A run cannot go from {self.state} to {state}.")
        self.state = state
        self.touch()
        if self.ended:
            self.finished_at = self.updated_at

    def add_usage(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Add the tokens of one request to a model."""
        before = self.usage or {}
        prompt = before.get("prompt_tokens", 0) + prompt_tokens
        completion = before.get("completion_tokens", 0) + completion_tokens
        self.usage = usage_wire(prompt, completion)

    def wire(self) -> Wire:
        """Return the run in wire form."""
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
            "metadata": None if self.usage is None else {"usage": self.usage},
            "finished_at": self.finished_at,
            "profile_id": None,
            "remote_id": None,
        }


@attrs.define(eq=False, kw_only=True)
class StoredChat(Published):
    """A conversation: its messages, the current run and the queue behind it.

    ``reply`` is the assistant message of the current step; ``queue`` holds user messages that were sent while a run was
    active, each with the agent definition sent along. ``feed`` and ``task`` exist only while the runtime runs.
    """

    agent_id: str
    config: AgentDefinition
    feed: Feed
    context: Mapping[str, str] = attrs.field(factory=dict)
    name: str = ""
    messages: list[StoredMessage] = attrs.field(factory=list)
    queue: deque[tuple[StoredMessage, AgentDefinition | None]] = attrs.field(factory=deque)
    allowed_tools: list[str] = attrs.field(factory=list)
    run: StoredRun | None = None
    reply: StoredMessage | None = None
    task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is active or paused, so that new messages are queued."""
        return self.run is not None and not self.run.ended

    @property
    def status(self) -> Literal["busy", "awaiting_input", "idle"]:
        """The chat's status on the wire."""
        if self.run is None or self.run.ended:
            return "idle"
        return "awaiting_input" if self.run.paused else "busy"

    def next_order(self) -> int:
        """Return the position of the next message."""
        return max((message.order for message in self.messages), default=-1) + 1

    def waiting(self) -> list[Invocation]:
        """Return the tool calls that must be answered before the run continues."""
        reply = self.reply
        return [each for each in reply.invocations if each.waits] if reply else []

    def replies_under_way(self) -> list[StoredMessage]:
        """Return what the agent and its tools have said in the current run, nothing once it has ended."""
        if self.run is None or self.run.ended:
            return []
        return [each for each in self.messages if each.run_id == self.run.id and each.role != "user"]

    def interrupts(self, *, run_id: str | None = None) -> list[tuple[Invocation, StoredInterrupt]]:
        """Return all interrupts of the chat, or of one run, each with its call, oldest first."""
        return [
            (invocation, interrupt)
            for message in self.messages
            for invocation in message.invocations
            for interrupt in invocation.interrupts
            if run_id is None or invocation.run_id == run_id
        ]

    def wire(self, messages: Sequence[StoredMessage] | None = None) -> Wire:
        """Return the chat in wire form.

        Args:
            messages: The messages to include; None for those events and lists that leave them out.
        """
        return {
            **self.base(),
            "parent_id": None,
            "parent": None,
            "children": [],
            "status": self.status,
            # Only the newest run's output: that of an older run would be taken for the answer to a later message.
            "output": self.run.output_wire if self.run else None,
            "context": self.context,
            "channel_context": None,
            "agent_id": self.agent_id,
            "agent": None,
            "agent_version_id": None,
            "agent_version": None,
            "name": self.name,
            "description": "",
            "chat_messages": None if messages is None else [each.wire() for each in messages],
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


@attrs.define
class ChatStore:
    """The chats of one runtime in the order in which they were created, and an index of their tool calls."""

    chats: dict[str, StoredChat] = attrs.field(factory=dict)
    _recorder: Recorder | None = None
    _invocations: dict[str, tuple[StoredChat, Invocation]] = attrs.field(factory=dict)

    def create(self, agent: AgentDefinition, context: Mapping[str, str]) -> StoredChat:
        """Create a chat.

        Args:
            agent: The agent that answers.
            context: The chat's variables.
        """
        chat = StoredChat(agent_id=new_id(), config=agent, feed=Feed(self._recorder), context=context)
        self.chats[chat.id] = chat
        if self._recorder is not None:
            self._recorder.note(chat)
        return chat

    def load(self, chats: Iterable[StoredChat], recorder: Recorder) -> None:
        """Add chats read from the database, and record chats created from now on with ``recorder``."""
        self._recorder = recorder
        for chat in chats:
            self.chats[chat.id] = chat
            for message in chat.messages:
                for invocation in message.invocations:
                    self.add_invocation(chat, invocation)

    def delete(self, chat: StoredChat) -> None:
        """Remove a chat and its tool calls."""
        del self.chats[chat.id]
        for message in chat.messages:
            for invocation in message.invocations:
                del self._invocations[invocation.id]
        if self._recorder is not None:
            self._recorder.forget(chat)

    def add_invocation(self, chat: StoredChat, invocation: Invocation) -> None:
        """Add a tool call to the index, so that ``invocation`` finds it."""
        self._invocations[invocation.id] = chat, invocation

    def get(self, chat_id: str) -> StoredChat:
        """Return a chat.

        Args:
            chat_id: Its identifier, or its short one.

        Raises:
            ProblemError: 404 if there is no such chat; 409 if the short identifier is that of several chats.
        """
        if chat_id in self.chats:
            return self.chats[chat_id]
        found = [chat for chat in self.chats.values() if chat.short_id == chat_id]
        if not found:
            raise not_found("chat", chat_id)
        if len(found) > 1:
            raise ProblemError(409, f"Several chats have the short id {chat_id!r}; use the id of one of them.")
        return found[0]

    def message(self, message_id: str) -> tuple[StoredChat, StoredMessage]:
        """Return a message and its chat.

        Raises:
            ProblemError: 404 if there is no such message.
        """
        for chat in self.chats.values():
            for message in chat.messages:
                if message.id == message_id:
                    return chat, message
        raise not_found("message", message_id)

    def invocation(self, invocation_id: str) -> tuple[StoredChat, Invocation]:
        """Return a tool call and its chat.

        Raises:
            ProblemError: 404 if there is no such call.
        """
        if invocation_id not in self._invocations:
            raise not_found("tool call", invocation_id)
        return self._invocations[invocation_id]

    def interrupt(self, interrupt_id: str) -> tuple[StoredChat, Invocation, StoredInterrupt]:
        """Return an interrupt with its call and chat.

        Raises:
            ProblemError: 404 if there is no such interrupt.
        """
        for chat in self.chats.values():
            for invocation, interrupt in chat.interrupts():
                if interrupt.id == interrupt_id:
                    return chat, invocation, interrupt
        raise not_found("interrupt", interrupt_id)

    def chat_of_run(self, run_id: str) -> StoredChat:
        """Return the chat that a run, past or current, belongs to.

        Raises:
            ProblemError: 404 if there is no such run.
        """
        for chat in self.chats.values():
            if any(message.run_id == run_id for message in chat.messages):
                return chat
        raise not_found("run", run_id)

"""The trace of a chat: its messages and tool calls as the steps of a graph, in the order in which they happened."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inferencesh.local.chats import StoredChat
    from inferencesh.local.records import Invocation, StoredMessage, Wire

__all__ = ["trace"]

_MESSAGE_STATUS: Mapping[str, str] = {"pending": "running", "queued": "pending", "ready": "completed"}
_CALL_STATUS: Mapping[str, str] = {"awaiting_approval": "blocked", "awaiting_input": "blocked"}


def trace(chat: StoredChat) -> Wire:
    """Return the trace of a chat in wire form; a step is a message of the assistant or a tool call."""
    nodes = [node for message in chat.messages for node in _nodes(message)]
    steps = [node for node in nodes if node.type == "execution"]
    return {
        "graph_id": chat.id,
        "nodes": [node.wire(chat.id) for node in nodes],
        "edges": [_edge(earlier, later) for earlier, later in pairwise(nodes)],
        "total_steps": len(steps),
        "completed_steps": sum(node.status == "completed" for node in steps),
        "running_steps": sum(node.status in {"running", "blocked"} for node in steps),
        "failed_steps": sum(node.status == "failed" for node in steps),
    }


@attrs.frozen
class _Node:
    """One step, or the user's message that led to it. ``completed_at`` is None while it goes on."""

    record: StoredMessage | Invocation
    type: str
    label: str
    resource_type: str
    status: str
    completed_at: str | None

    def wire(self, graph_id: str) -> Wire:
        started = self.record.created_at
        return {
            "id": self.record.id,
            "short_id": self.record.short_id,
            "created_at": started,
            "updated_at": self.record.updated_at,
            "deleted_at": None,
            "graph_id": graph_id,
            "type": self.type,
            "label": self.label,
            "resource_id": self.record.id,
            "resource_type": self.resource_type,
            "status": self.status,
            "metadata": None,
            "ready_at": started,
            "started_at": started,
            "completed_at": self.completed_at,
            "duration_ms": None if self.completed_at is None else _milliseconds(started, self.completed_at),
        }


def _nodes(message: StoredMessage) -> Iterator[_Node]:
    """Yield the nodes of a message; the results of tools belong to their calls and have none of their own."""
    if message.role == "tool":
        return
    # Answers to its calls change a message, so that it ended when the first call was made.
    ended = min((each.created_at for each in message.invocations), default=message.updated_at)
    yield _Node(
        record=message,
        type="trigger" if message.role == "user" else "execution",
        label=message.role,
        resource_type="chat_message",
        status=_MESSAGE_STATUS.get(message.status, message.status),
        completed_at=ended if message.ended else None,
    )
    for call in message.invocations:
        yield _Node(
            record=call,
            type="execution",
            label=call.name,
            resource_type="tool_invocation",
            status=_CALL_STATUS.get(call.status, call.status),
            completed_at=None if call.waits else call.updated_at,
        )


def _edge(earlier: _Node, later: _Node) -> Wire:
    identifier = earlier.record.id[:13] + later.record.id[:13]
    return {
        "id": identifier,
        "short_id": identifier[:8],
        "created_at": later.record.created_at,
        "updated_at": later.record.created_at,
        "deleted_at": None,
        "type": "flow",
        "from_node": earlier.record.id,
        "to_node": later.record.id,
    }


def _milliseconds(start: str, end: str) -> int:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)

"""The words of the wire: statuses, types and roles, as string enums that tolerate words of later versions.

The values are those of the official Python, JavaScript and Swift SDKs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = [
    "ChatStatus",
    "ContentType",
    "InterruptReason",
    "InterruptStatus",
    "MessageStatus",
    "OpenEnum",
    "Role",
    "RunState",
    "ToolCallStatus",
    "ToolType",
]


class OpenEnum(StrEnum):
    """A string enum that takes in values of later server versions instead of failing on them."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member


class Role(OpenEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    INJECTION = "injection"
    COMPACTION = "compaction"
    EVENT = "event"


class MessageStatus(OpenEnum):
    """How far a message has got; ready, failed and cancelled are final."""

    PENDING = "pending"
    QUEUED = "queued"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ContentType(OpenEnum):
    """What a block of a message's content is."""

    TEXT = "text"
    REASONING = "reasoning"
    IMAGE = "image"
    FILE = "file"
    TOOL = "tool"
    EVENT = "event"


class ToolCallStatus(OpenEnum):
    """How far a tool call has got; completed, failed and cancelled are final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    AWAITING_INPUT = "awaiting_input"
    AWAITING_APPROVAL = "awaiting_approval"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ToolType(OpenEnum):
    """Who runs a tool; ``client`` tools are run by the program that uses this package."""

    APP = "app"
    AGENT = "agent"
    HOOK = "hook"
    HTTP = "http"
    CALL = "call"
    MCP = "mcp"
    CLIENT = "client"
    INTERNAL = "internal"
    HARNESS = "harness"


class RunState(OpenEnum):
    """How far a run, the agent's work on one user message, has got; UNKNOWN when the server did not say."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class ChatStatus(OpenEnum):
    """What a chat is doing; UNKNOWN when the server did not say."""

    BUSY = "busy"
    IDLE = "idle"
    AWAITING_INPUT = "awaiting_input"
    WAITING = "waiting"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


class InterruptReason(OpenEnum):
    """What an interrupted run waits for."""

    TOOL_APPROVAL = "tool_approval"
    CLIENT_TOOL = "client_tool"
    WIDGET = "widget"
    AUTH = "auth"
    CONFIRMATION = "confirmation"
    HOOK_GATE = "hook_gate"
    WAIT = "wait"
    UNKNOWN = "unknown"


class InterruptStatus(OpenEnum):
    """Whether an interrupt still holds its run up; only a pending one does."""

    PENDING = "pending"
    RESOLVED = "resolved"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

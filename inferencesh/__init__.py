"""The Python SDK for inference.sh agents: every update is the complete message so far, async and sync.

    from inferencesh import Inference

    with Inference.local() as client:
        agent = client.agent({"name": "storyteller"})
        for message in agent.send_message("Tell me a story", stream=True):
            print(message.text)

Names are imported when they are first used, and aiohttp with the first request, so that importing this costs next to
nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .agent import AsyncAgent
    from .agents import AsyncAgents
    from .chats import AsyncChats
    from .client import AsyncInference, async_inference
    from .config import Timeout
    from .errors import (
        APIConnectionError,
        APIError,
        APITimeoutError,
        AuthenticationError,
        ConfigurationError,
        ConflictError,
        FileError,
        InferenceError,
        InternalServerError,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        RequirementsNotMetError,
        RunFailedError,
        StreamError,
    )
    from .files import AsyncFiles
    from .models import (
        Chat,
        ChatStatus,
        Content,
        ContentType,
        FileRef,
        Interrupt,
        InterruptReason,
        InterruptStatus,
        Message,
        MessageStatus,
        Role,
        Run,
        RunState,
        ToolCall,
        ToolCallStatus,
        ToolType,
    )
    from .retry import Backoff
    from .stream import AsyncMessageStream
    from .sync import Agent, Inference, MessageStream, inference
    from .sync_resources import Agents, Chats, Files
    from .tools import (
        Tool,
        ToolBuilder,
        array,
        boolean,
        enum_of,
        inline,
        integer,
        number,
        obj,
        optional,
        string,
        tool,
    )

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Agent",
    "Agents",
    "AsyncAgent",
    "AsyncAgents",
    "AsyncChats",
    "AsyncFiles",
    "AsyncInference",
    "AsyncMessageStream",
    "AuthenticationError",
    "Backoff",
    "Chat",
    "ChatStatus",
    "Chats",
    "ConfigurationError",
    "ConflictError",
    "Content",
    "ContentType",
    "FileError",
    "FileRef",
    "Files",
    "Inference",
    "InferenceError",
    "InternalServerError",
    "Interrupt",
    "InterruptReason",
    "InterruptStatus",
    "Message",
    "MessageStatus",
    "MessageStream",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequirementsNotMetError",
    "Role",
    "Run",
    "RunFailedError",
    "RunState",
    "StreamError",
    "Timeout",
    "Tool",
    "ToolBuilder",
    "ToolCall",
    "ToolCallStatus",
    "ToolType",
    "__version__",
    "array",
    "async_inference",
    "boolean",
    "enum_of",
    "inference",
    "inline",
    "integer",
    "number",
    "obj",
    "optional",
    "string",
    "tool",
]

_MODULES = {
    "agent": "AsyncAgent",
    "agents": "AsyncAgents",
    "chats": "AsyncChats",
    "client": "AsyncInference async_inference",
    "config": "Timeout",
    "errors": "APIConnectionError APIError APITimeoutError AuthenticationError ConfigurationError ConflictError "
    "FileError InferenceError InternalServerError NotFoundError PermissionDeniedError RateLimitError "
    "RequirementsNotMetError RunFailedError StreamError",
    "files": "AsyncFiles",
    "models": "Chat ChatStatus Content ContentType FileRef Interrupt InterruptReason InterruptStatus Message "
    "MessageStatus Role Run RunState ToolCall ToolCallStatus ToolType",
    "retry": "Backoff",
    "stream": "AsyncMessageStream",
    "sync": "Agent Inference MessageStream inference",
    "sync_resources": "Agents Chats Files",
    "tools": "Tool ToolBuilder array boolean enum_of inline integer number obj optional string tool",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The Python SDK for inference.sh agents: every update is the complete message so far, async and sync.

Example:
    ```python
    from inferencesh import Inference

    with Inference.local() as client:
        agent = client.agent({"name": "storyteller"})
        for message in agent.send_message("Tell me a story", stream=True):
            print(message.text)
    ```

    ```text
    The
    The mail
    The mail rocket
    ...
    ```

Importing the package is cheap: a name is imported when it is first used, what a client needs when the first client is
made, and aiohttp with the first request.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent import AsyncAgent
    from .builders import (
        AgentToolBuilder,
        AppToolBuilder,
        BuiltinHook,
        HookEvent,
        HTTPToolBuilder,
        InternalToolsBuilder,
        LifecycleHookBuilder,
        MCPToolBuilder,
        WebhookToolBuilder,
        agent_tool,
        app_tool,
        call_tool,
        http_tool,
        internal_tools,
        learning_hooks,
        lifecycle_hook,
        mcp_tool,
        webhook_tool,
        widget_action,
    )
    from .claims import ClaimStore, MemoryClaims, RedisClaims
    from .client import AsyncAgents, AsyncInference, async_inference
    from .config import AgentConfig, Backoff, Timeout
    from .endpoints import AsyncResponseStream, Response
    from .errors import (
        APIConnectionError,
        APIError,
        APITimeoutError,
        AuthenticationError,
        CallbackCancelledError,
        ClaimStoreError,
        ConfigurationError,
        ConfigurationWarning,
        ConflictError,
        FileError,
        InferenceError,
        InputRequiredError,
        InternalServerError,
        LeaseHeldError,
        LeaseLostError,
        NotFoundError,
        OutputError,
        PermissionDeniedError,
        RateLimitError,
        RequirementsNotMetError,
        RunFailedError,
        SessionExpiredError,
        StreamError,
        TaskCancelledError,
        TaskFailedError,
        TaskTimeoutError,
        WorkerLostError,
    )
    from .events import AsyncEventStream, Event
    from .models import (
        Chat,
        ChatStatus,
        ChatTrace,
        Content,
        ContentType,
        Delta,
        FileRef,
        Interrupt,
        InterruptReason,
        InterruptStatus,
        MappingView,
        Message,
        MessageStatus,
        Role,
        Run,
        RunState,
        ToolCall,
        ToolCallStatus,
        ToolType,
        Usage,
    )
    from .resources import AsyncChats, AsyncFiles
    from .sessions import AsyncSession, AsyncSessions
    from .stream import AsyncMessageStream
    from .supervisor import Supervisor, Takeover
    from .sync import (
        Agent,
        Agents,
        Chats,
        EventStream,
        Files,
        Inference,
        MessageStream,
        ResponseStream,
        Session,
        Sessions,
        Tasks,
        TaskStream,
        inference,
    )
    from .task_models import (
        AppSession,
        DeletedFiles,
        SessionStatus,
        Task,
        TaskEvent,
        TaskFile,
        TaskLog,
        TaskStatus,
        TaskUsage,
    )
    from .tasks import AsyncTasks, AsyncTaskStream
    from .tools import (
        FunctionTool,
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
    from .tools.handler import ToolContext
    from .types import *  # noqa: F403 - names of the official SDK

__version__ = "0.1.0"

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Agent",
    "AgentConfig",
    "AgentToolBuilder",
    "Agents",
    "AppSession",
    "AppToolBuilder",
    "AsyncAgent",
    "AsyncAgents",
    "AsyncChats",
    "AsyncEventStream",
    "AsyncFiles",
    "AsyncInference",
    "AsyncMessageStream",
    "AsyncResponseStream",
    "AsyncSession",
    "AsyncSessions",
    "AsyncTaskStream",
    "AsyncTasks",
    "AuthenticationError",
    "Backoff",
    "BuiltinHook",
    "CallbackCancelledError",
    "Chat",
    "ChatStatus",
    "ChatTrace",
    "Chats",
    "ClaimStore",
    "ClaimStoreError",
    "ConfigurationError",
    "ConfigurationWarning",
    "ConflictError",
    "Content",
    "ContentType",
    "DeletedFiles",
    "Delta",
    "Event",
    "EventStream",
    "FileError",
    "FileRef",
    "Files",
    "FunctionTool",
    "HTTPToolBuilder",
    "HookEvent",
    "Inference",
    "InferenceError",
    "InputRequiredError",
    "InternalServerError",
    "InternalToolsBuilder",
    "Interrupt",
    "InterruptReason",
    "InterruptStatus",
    "LeaseHeldError",
    "LeaseLostError",
    "LifecycleHookBuilder",
    "MCPToolBuilder",
    "MappingView",
    "MemoryClaims",
    "Message",
    "MessageStatus",
    "MessageStream",
    "NotFoundError",
    "OutputError",
    "PermissionDeniedError",
    "RateLimitError",
    "RedisClaims",
    "RequirementsNotMetError",
    "Response",
    "ResponseStream",
    "Role",
    "Run",
    "RunFailedError",
    "RunState",
    "Session",
    "SessionExpiredError",
    "SessionStatus",
    "Sessions",
    "StreamError",
    "Supervisor",
    "Takeover",
    "Task",
    "TaskCancelledError",
    "TaskEvent",
    "TaskFailedError",
    "TaskFile",
    "TaskLog",
    "TaskStatus",
    "TaskStream",
    "TaskTimeoutError",
    "TaskUsage",
    "Tasks",
    "Timeout",
    "Tool",
    "ToolBuilder",
    "ToolCall",
    "ToolCallStatus",
    "ToolContext",
    "ToolType",
    "Usage",
    "WebhookToolBuilder",
    "WorkerLostError",
    "__version__",
    "agent_tool",
    "app_tool",
    "array",
    "async_inference",
    "boolean",
    "call_tool",
    "enum_of",
    "http_tool",
    "inference",
    "inline",
    "integer",
    "internal_tools",
    "learning_hooks",
    "lifecycle_hook",
    "mcp_tool",
    "number",
    "obj",
    "optional",
    "string",
    "tool",
    "webhook_tool",
    "widget_action",
]

_MODULES = {
    "agent": "AsyncAgent",
    "builders": "AgentToolBuilder AppToolBuilder BuiltinHook HookEvent HTTPToolBuilder InternalToolsBuilder "
    "LifecycleHookBuilder MCPToolBuilder WebhookToolBuilder agent_tool app_tool call_tool http_tool internal_tools "
    "learning_hooks lifecycle_hook mcp_tool webhook_tool widget_action",
    "client": "AsyncAgents AsyncInference async_inference",
    "claims": "ClaimStore MemoryClaims RedisClaims",
    "config": "AgentConfig Backoff Timeout",
    "endpoints": "AsyncResponseStream Response",
    "errors": "APIConnectionError APIError APITimeoutError AuthenticationError CallbackCancelledError ClaimStoreError "
    "ConfigurationError ConfigurationWarning ConflictError FileError InferenceError InputRequiredError "
    "InternalServerError LeaseHeldError LeaseLostError NotFoundError OutputError PermissionDeniedError RateLimitError "
    "RequirementsNotMetError RunFailedError SessionExpiredError StreamError TaskCancelledError TaskFailedError "
    "TaskTimeoutError WorkerLostError",
    "events": "AsyncEventStream Event",
    "models": "Chat ChatStatus ChatTrace Content ContentType Delta FileRef Interrupt InterruptReason InterruptStatus "
    "MappingView Message MessageStatus Role Run RunState ToolCall ToolCallStatus ToolType Usage",
    "resources": "AsyncChats AsyncFiles",
    "sessions": "AsyncSession AsyncSessions",
    "stream": "AsyncMessageStream",
    "supervisor": "Supervisor Takeover",
    "sync": "Agent Agents Chats EventStream Files Inference MessageStream ResponseStream Session Sessions TaskStream "
    "Tasks inference",
    "task_models": "AppSession DeletedFiles SessionStatus Task TaskEvent TaskFile TaskLog TaskStatus TaskUsage",
    "tasks": "AsyncTaskStream AsyncTasks",
    "tools": "FunctionTool Tool ToolBuilder array boolean enum_of inline integer number obj optional string tool",
    "tools.handler": "ToolContext",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    module = _HOMES.get(name)
    if module is not None:
        value = getattr(importlib.import_module(f".{module}", __name__), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        value = _official(name)
    globals()[name] = value
    return value


def _official(name: str) -> object:
    """Return what has a name of the official SDK that is not one of this package's own."""
    types = importlib.import_module(".types", __name__)
    if name not in types.ALIASES and name not in types.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(types, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

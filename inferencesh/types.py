"""Names of the official SDK that programs already have, as aliases of this package's own names.

``from inferencesh import ChatMessageDTO``, ``from inferencesh.types import TaskStatus`` and ``agent.stop_chat()`` go on
working. Nothing here is imported before such a name is used. ``docs/migrating.md`` lists every public name of the
official SDK with what has become of it.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict

import attrs

from .errors import APIError, ConfigurationError, ConfigurationWarning, InferenceError, NotFoundError

if TYPE_CHECKING:
    from .builders import HookEvent
    from .client import AsyncAgents as AsyncAgentsAPI
    from .models import Chat as ChatDTO
    from .models import Content as ChatMessageContent
    from .models import ContentType as ChatMessageContentType
    from .models import Delta as AgentDelta
    from .models import Message as ChatMessageDTO
    from .models import MessageStatus as ChatMessageStatus
    from .models import Role as ChatMessageRole
    from .models import ToolCall as ToolInvocationDTO
    from .models import ToolCallStatus as ToolInvocationStatus
    from .resources import AsyncFiles as AsyncFilesAPI
    from .sync import Agents as AgentsAPI
    from .sync import Files as FilesAPI
    from .tools import Tool as AgentTool

    ToolCallInfo = ToolInvocationDTO
    ClientTool = AgentTool

__all__ = [
    "ALIASES",
    "AgentDelta",
    "AgentTool",
    "AgentsAPI",
    "AsyncAgentsAPI",
    "AsyncFilesAPI",
    "ChatDTO",
    "ChatData",
    "ChatMessageContent",
    "ChatMessageContentType",
    "ChatMessageDTO",
    "ChatMessageRole",
    "ChatMessageStatus",
    "ClientTool",
    "ContextInjection",
    "ErrorEventData",
    "FilesAPI",
    "HookDecision",
    "HookHandlerType",
    "InternalToolsConfig",
    "LifecycleHookConfig",
    "LifecycleHookPayload",
    "LifecycleHookResponse",
    "PendingApproval",
    "SessionError",
    "SessionNotFoundError",
    "ToolCallEventData",
    "ToolCallInfo",
    "ToolInvocationDTO",
    "ToolInvocationStatus",
    "ToolResultEventData",
    "UploadFileOptions",
    "is_message_ready",
    "is_terminal_status",
    "official_method",
    "parse_status",
    "pending_approvals",
]

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "AgentDelta": "Delta",
        "AgentTool": "Tool",
        "AgentsAPI": "Agents",
        "AsyncAgentsAPI": "AsyncAgents",
        "AsyncFilesAPI": "AsyncFiles",
        "AsyncSessionHandle": "AsyncSession",
        "AsyncSessionsAPI": "AsyncSessions",
        "AsyncTasksAPI": "AsyncTasks",
        "ChatDTO": "Chat",
        "ChatMessageContent": "Content",
        "ChatMessageContentType": "ContentType",
        "ChatMessageDTO": "Message",
        "ChatMessageRole": "Role",
        "ChatMessageStatus": "MessageStatus",
        "ClientTool": "Tool",
        "FilesAPI": "Files",
        "SessionEndedError": "SessionExpiredError",
        "SessionHandle": "Session",
        "SessionsAPI": "Sessions",
        "TasksAPI": "Tasks",
        "ToolCallInfo": "ToolCall",
        "ToolInvocationDTO": "ToolCall",
        "ToolInvocationStatus": "ToolCallStatus",
    }
)
"""The classes whose names have changed, each with its present name, under which it is documented."""

SessionError = APIError
"""The base of errors about sessions; now ``APIError``, whose ``code`` says which."""
SessionNotFoundError = NotFoundError
"""There is no such session; now ``NotFoundError``, as for everything that there is not."""
ChatData: TypeAlias = dict[str, Any]
"""What a chat keeps for its agent, ``chat["agent_data"]``: a plain dict."""
InternalToolsConfig: TypeAlias = dict[str, bool]
"""Which internal tools an agent has; now what ``internal_tools()...build()`` returns."""


def __getattr__(name: str) -> object:
    package = importlib.import_module(__package__)
    if name not in ALIASES and name not in package.__all__:  # of which the official module has some
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(package, ALIASES.get(name, name))


# -- lifecycle hooks: what a webhook receives and answers --------------------------------------------------------------


class HookHandlerType(StrEnum):
    """Who handles a lifecycle hook."""

    HOOK_HANDLER_WEBHOOK = "webhook"
    HOOK_HANDLER_TASK = "task"
    HOOK_HANDLER_GATE = "gate"
    HOOK_HANDLER_BUILTIN = "builtin"


class HookDecision(StrEnum):
    """What a hook's handler decides."""

    ALLOW = "allow"
    DENY = "deny"
    STOP = "stop"
    SUSPEND = "suspend"


LifecycleHookConfig = TypedDict(
    "LifecycleHookConfig",
    {
        "event": "HookEvent | str",
        "type": NotRequired[str],
        "handler": NotRequired[str],
        "async": NotRequired[bool],
        "timeout": NotRequired[int],
        "default_resolution": NotRequired[Literal["allow", "deny"]],
    },
)
LifecycleHookConfig.__doc__ = "A hook in an agent's configuration; ``lifecycle_hook(...).build()`` makes one."


class LifecycleHookPayload(TypedDict, total=False):
    """What the service posts to the webhook of a lifecycle hook; ``data`` depends on the event."""

    event: HookEvent | str
    timestamp: str
    agent_id: str
    chat_id: str
    run_id: str
    turn_count: int
    data: Any


class ContextInjection(TypedDict, total=False):
    """What a hook's handler adds to the agent's context."""

    content: str
    role: str
    ttl_turns: int
    dedup_key: str
    items: list[str]


class LifecycleHookResponse(TypedDict, total=False):
    """What a hook's handler answers; an empty answer allows."""

    inject: ContextInjection | None
    decision: HookDecision | str
    reason: str
    override: Any
    system: str


class ToolCallEventData(TypedDict, total=False):
    """The ``data`` of an ``agent.tool_call`` event."""

    tool: str
    arguments: dict[str, Any]


class ToolResultEventData(TypedDict, total=False):
    """The ``data`` of an ``agent.tool_result`` event."""

    tool: str
    status: str
    result: str


class ErrorEventData(TypedDict, total=False):
    """The ``data`` of an ``agent.error`` event."""

    error: str


# -- functions ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class PendingApproval:
    """A tool call that waits for a person; now one of ``message.pending_approvals``."""

    interrupt_id: str
    tool_invocation_id: str
    chat_id: str
    tool_name: str
    arguments: dict[str, Any]


def pending_approvals(chat: Mapping[str, Any] | ChatDTO | None) -> list[PendingApproval]:
    """Return the tool calls of a chat that wait for a person; now ``message.pending_approvals``.

    Args:
        chat: What ``agent.get_chat()`` returns, or a chat as a dict.
    """
    found = []
    for each in (chat or {}).get("pending_interrupts") or ():
        if each.get("reason") != "tool_approval" or each.get("status") != "pending":
            continue
        from ._types.codec import read_arguments

        meta = read_arguments(each.get("meta")) or {}
        found.append(
            PendingApproval(
                interrupt_id=each.get("id") or "",
                tool_invocation_id=each.get("resource_id") or meta.get("tool_invocation_id") or "",
                chat_id=each.get("chat_id") or (chat or {}).get("id") or "",
                tool_name=meta.get("tool_name") or "",
                arguments=read_arguments(meta.get("arguments")) or {},
            )
        )
    return found


def is_message_ready(status: str | None) -> bool:
    """Whether a message with this status is final; now ``message.done``."""
    return status in {"ready", "failed", "cancelled"}


def is_terminal_status(status: int | str | None) -> bool:
    """Whether a task with this status has ended; now ``task.done``."""
    known = status.lower() if isinstance(status, str) else status
    return known in {10, 11, 12, 13, "completed", "failed", "cancelled", "rejected"}


def parse_status(status: int | str | None) -> Any:
    """Return a task's status for its number or name; now ``TaskStatus(status)``, which is what ``task.status`` is."""
    return None if status is None else importlib.import_module(__package__).TaskStatus(status)


@attrs.frozen
class UploadFileOptions:
    """The options of ``client.upload_file``; now arguments of ``client.files.upload``."""

    filename: str | None = None
    content_type: str | None = None
    path: str | None = None
    public: bool | None = None


# -- methods -----------------------------------------------------------------------------------------------------------


def official_method(thing: object, kind: Literal["client", "agent"], name: str) -> Any:
    """Return the method of the official SDK with this name, bound to a client or an agent of either kind.

    Raises:
        AttributeError: There is none; the text says where to look if the official SDK has one.
    """
    methods = ClientNames if kind == "client" else AgentNames
    method = None if name.startswith("_") else vars(methods).get(name)
    if method is None:
        hint = f"; {_LEFT_OUT[name]}" if name in _LEFT_OUT else ""
        raise AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}{hint}")
    return method.__get__(thing)


_SOCKETS = "live sockets are not built here, see docs/migrating.md"
_LEFT_OUT = {"sockets": _SOCKETS, "live": _SOCKETS}


class ClientNames:
    """The methods of the official clients that are elsewhere now.

    One definition serves both clients: each returns what the method with the new name returns, which has to be awaited
    in the async client.
    """

    def upload_file(self: Any, data: Any, options: UploadFileOptions | None = None) -> Any:
        """Upload a file; now ``client.files.upload``.

        Args:
            data: Bytes, a path, a ``data:`` URI, base64, or anything that ``client.files.upload`` takes.
            options: Its name and content type.
        """
        chosen = options or UploadFileOptions()
        if chosen.path is not None or chosen.public is not None:
            warnings.warn("path and public of UploadFileOptions are not sent", ConfigurationWarning, stacklevel=2)
        files = self.files
        return files.upload(_source(data), filename=chosen.filename, content_type=chosen.content_type)

    def get_task(self: Any, task_id: str) -> Any:
        """Read a task; now ``client.tasks.get``."""
        return self.tasks.get(task_id)

    def stream_task(self: Any, task_id: str) -> Any:
        """Follow a task; now ``client.tasks.stream``. It reconnects as the client's options say."""
        return self.tasks.stream(task_id)

    def wait_for_completion(self: Any, task_id: str, *, timeout: float | None = None) -> Any:
        """Wait until a task has ended; now ``client.tasks.wait``."""
        return self.tasks.wait(task_id, timeout=timeout)

    def cancel(self: Any, task_id: str) -> Any:
        """Cancel a task; now ``client.tasks.cancel``."""
        return self.tasks.cancel(task_id)


class AgentNames:
    """The methods of the official agents that have other names now, for both clients as ``ClientNames``."""

    def stop_chat(self: Any) -> Any:
        """End the run on the server; now ``agent.stop``."""
        return self.stop()

    def stream_all(
        self: Any, on_chat: Any = None, on_message: Any = None, on_tool_call: Any = None, on_delta: Any = None
    ) -> Any:
        """Follow the present turn with callbacks until it ends or pauses; now ``agent.stream_messages``.

        Args:
            on_chat: Not called any more: ``agent.stream_events`` has every change of the chat.
            on_message: As for ``stream_messages``.
            on_tool_call: As for ``stream_messages``.
            on_delta: As for ``stream_messages``.

        Raises:
            ConfigurationError: ``on_chat`` is given.
        """
        if on_chat is not None:
            raise ConfigurationError("on_chat is not called here: follow agent.stream_events() and take event.chat")
        stream = self.stream_messages(on_message=on_message, on_tool_call=on_tool_call, on_delta=on_delta)
        return stream.get_final_message()

    def stream_chat(self: Any) -> Any:
        """Follow the states of the chat; now ``agent.stream_events``, where ``event.chat`` is one."""
        events = self.stream_events()
        return _chats(events) if hasattr(events, "__next__") else _chats_async(events)


def _chats(events: Any) -> Iterator[ChatDTO]:
    with events:
        yield from (event.chat for event in events if event.chat is not None)


async def _chats_async(events: Any) -> AsyncIterator[ChatDTO]:
    async with events:
        async for event in events:
            if event.chat is not None:
                yield event.chat


def _source(data: Any) -> Any:
    """Return what the official SDK takes for a file in a text: an existing path, a data: URI or base64."""
    if not isinstance(data, str) or data.startswith("data:"):
        return data
    if len(data) < 4096 and "\0" not in data and os.path.exists(data):  # noqa: PTH110 - a text that may be no path
        return Path(data)
    import base64
    import binascii

    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InferenceError(
            "the file is neither a path that exists, nor a data: URI, nor base64; pass a pathlib.Path or bytes"
        ) from None
